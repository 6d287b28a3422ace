"""What every method does before and after its own part."""

import pytest
import torch

from solo_family import METHODS

from ..conftest import picture, tiny_model


@pytest.mark.parametrize("method", METHODS)
def test_targets_are_made_before_the_backbone_runs(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image = tiny_model(method).train(), picture(33, 70)
    order = []

    def prepare_targets(gt_instances: list, padded_size: tuple[int, int]) -> str:
        order.append("targets")
        assert torch.equal(gt_instances[0].gt_masks.tensor, image["instances"].gt_masks.tensor)
        assert torch.equal(gt_instances[0].gt_classes, image["instances"].gt_classes)
        assert padded_size == (64, 96)
        return "targets"

    def losses(features: dict, targets: str, padded_size: tuple[int, int]) -> dict:
        assert targets == "targets"
        assert padded_size == (64, 96)
        return {}

    monkeypatch.setattr(model, "prepare_targets", prepare_targets)
    monkeypatch.setattr(model, "losses", losses)
    model.backbone.register_forward_pre_hook(lambda *_: order.append("backbone"))
    assert model([image]) == {}
    assert order == ["targets", "backbone"]
