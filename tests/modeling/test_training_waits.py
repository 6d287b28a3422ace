"""Where a GPU would be waited for in a training step, from the ground truth to the gradients."""

import pytest
import torch

from solo_family.ops.host_copy import HostCopy

from ..conftest import picture, tiny_model
from ..waits import count_waits

# What is read of a copy that is on its way to the host: once for the whole batch.
READ = {
    "SOLO": {"methods/grid/targets.py"},
    "DecoupledSOLO": {"methods/grid/targets.py"},
    "SOLOv2": {"methods/grid/targets.py"},
    "SparseInst": {"modeling/matcher.py"},
    "MaskFormer": {"modeling/matcher.py"},
}


@pytest.mark.parametrize("counts", [(2, 0, 3), (0, 0)])
@pytest.mark.parametrize("method", list(READ))
def test_a_step_waits_once(
    method: str, counts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[HostCopy] = []
    original = HostCopy.wait
    monkeypatch.setattr(HostCopy, "wait", lambda self: copies.append(self) or original(self))
    model = tiny_model(method)
    batch = [picture(objects=count, seed=seed) for seed, count in enumerate(counts)]
    model(batch)  # Tables that are made once.
    copies.clear()
    images = model.preprocess([item["image"] for item in batch])
    padded_size = (images.tensor.shape[-2], images.tensor.shape[-1])
    features = model.backbone(images.tensor)
    with count_waits() as waits:
        targets = model.prepare_targets([item["instances"] for item in batch], padded_size)
        assert not waits.where, "targets are made before the backbone runs"
        losses = model.losses(features, targets, padded_size)
        torch.autograd.backward(list(losses.values()))
    assert len(copies) == 1
    # On a GPU these read what the copy brought, on the host.
    assert {line.split(":")[0] for line in waits.where} <= READ[method]
