"""Semantic test-time augmentation."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solo_family.engine.tested import augmented
from solo_family.errors import ConfigError
from solo_family.evaluation.semantic_tta import SemanticWithTTA

from ..conftest import picture, tiny_cfg, tiny_model


class Recorder(nn.Module):
    """Gives the image's channels at the size asked for, and adds what tells left from right."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.seen: list[Tensor] = []

    def forward(self, inputs: list[dict[str, Any]]) -> list[dict[str, Tensor]]:
        image = inputs[0]["image"]
        self.seen.append(image)
        size = inputs[0]["height"], inputs[0]["width"]
        scores = F.interpolate(image[None].float(), size=size, mode="bilinear")[0]
        return [{"sem_seg": scores + self.slope * torch.linspace(0, 1, size[1])}]


def test_every_size_is_seen_and_its_mirror_image() -> None:
    model = Recorder(slope=0.0)
    item = picture(40, 60)
    wrapped = SemanticWithTTA(model, min_sizes=[20, 40, 80], max_size=90, flip=True)
    result = wrapped([item])[0]["sem_seg"]
    sizes = [tuple(image.shape[1:]) for image in model.seen]
    assert sizes == [(20, 30), (20, 30), (40, 60), (40, 60), (60, 90), (60, 90)]
    for plain, mirrored in zip(model.seen[::2], model.seen[1::2]):
        assert torch.equal(plain.flip(2), mirrored)
    expected = sum(
        F.interpolate(image[None].float(), size=(40, 60), mode="bilinear")[0] / 3
        for image in model.seen[::2]
    )
    torch.testing.assert_close(result, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("flip", [False, True])
def test_mirrored_scores_are_turned_back(flip: bool) -> None:
    item = picture(40, 60)
    item["image"] = torch.zeros_like(item["image"])
    wrapped = SemanticWithTTA(Recorder(slope=1.0), min_sizes=[40], max_size=90, flip=flip)
    scores = wrapped([item])[0]["sem_seg"][0, 0]
    expected = torch.full((60,), 0.5) if flip else torch.linspace(0, 1, 60)
    torch.testing.assert_close(scores, expected)


def test_mask_former_with_it() -> None:
    test = "MODEL.MASK_FORMER.TEST"
    opts = [f"{test}.INSTANCE_ON", False, f"{test}.PANOPTIC_ON", False]
    opts += ["TEST.AUG.MIN_SIZES", [32, 64], "TEST.AUG.MAX_SIZE", 128]
    model = tiny_model("MaskFormer", opts=opts).eval()
    wrapped = augmented(tiny_cfg("MaskFormer", opts=opts), model)
    item = picture(40, 60) | {"height": 33, "width": 50}
    assert wrapped([item])[0]["sem_seg"].shape == (3, 33, 50)


def test_other_tasks_have_none() -> None:
    with pytest.raises(ConfigError, match="the model predicts semantic, panoptic, instance"):
        augmented(tiny_cfg("MaskFormer"), nn.Identity())
