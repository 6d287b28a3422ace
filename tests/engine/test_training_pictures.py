"""The colours of the pictures of `VIS_PERIOD`."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from solo_family.engine.training_pictures import TrainingPictures

from ..conftest import picture, tiny_cfg

NAMES = ["ground", "sky", "cat"]
H, W = 64, 96
LEFT, RIGHT = np.s_[:, :40], np.s_[:, 56:]


class Truthful(nn.Module):
    """A model that predicts class 0 on the left and class 1 on the right."""

    def __init__(self, task: str) -> None:
        super().__init__()
        self.task = task

    def forward(self, batch: list[dict]) -> list[dict[str, Any]]:
        right = (torch.arange(W) >= W // 2).expand(H, W)
        if self.task == "semantic":
            return [{"sem_seg": torch.stack([~right, right, right & False]).float()} for _ in batch]
        infos = [{"id": n + 1, "category_id": n, "isthing": False} for n in range(2)]
        return [{"panoptic_seg": (right.int() + 1, infos)} for _ in batch]


def colours(task: str) -> np.ndarray:
    """Returns the colours of both classes in the truth and in the prediction, [2, 2, 3]."""
    shown: list[np.ndarray] = []
    cfg = tiny_cfg("MaskFormer", opts=["VIS_PERIOD", 1])
    cfg.MODEL.CLASS_NAMES, cfg.MODEL.STUFF_IDS = NAMES, [0, 1]
    hook = TrainingPictures(Truthful(task), cfg)
    item = picture(H, W)
    item["image"].zero_()
    masks = item["instances"].gt_masks.tensor
    masks[0], masks[1] = False, False
    masks[0, :, : W // 2] = masks[1, :, W // 2 :] = True
    hook.trainer = SimpleNamespace(
        iter=0,
        _trainer=SimpleNamespace(last_batch=[item]),
        storage=SimpleNamespace(put_image=lambda _, image: shown.append(image)),
    )
    hook.after_step()
    (both,) = shown
    sides = np.split(both.transpose(1, 2, 0), 2, axis=1)
    return np.array([[np.median(side[part], (0, 1)) for part in (LEFT, RIGHT)] for side in sides])


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_a_class_of_pixels_has_one_colour_on_both_sides_and_in_all_pictures(task: str) -> None:
    first = colours(task)
    # Truth and prediction are drawn with different opacities.
    truth, predicted = first / first.max(-1, keepdims=True)
    np.testing.assert_allclose(truth, predicted, atol=0.05)
    assert np.abs(truth[0] - truth[1]).max() > 0.3
    np.testing.assert_array_equal(first, colours(task))
