"""SOLOv2 with mask features of each level's own, against a plain reference."""

import math
from itertools import accumulate
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...conftest import eager_to_find, picture, tiny_model
from .test_head import SIDES, conv_norm_relu, random_model, resize, with_coords

SEPARATE = ["MODEL.SOLOV2.MASK_FEATURES", "separate"]
KERNELS_3X3 = ["MODEL.SOLOV2.KERNEL_SIZE", 3, "MODEL.SOLOV2.NUM_KERNELS", 72]
STRIDES = [8, 8, 16, 32, 32]
FIRSTS = [0, *accumulate(side * side for side in SIDES)]


def run(model: nn.Module) -> tuple[Any, list[Tensor], tuple[int, int]]:
    """Returns the model's outputs for two images, its input levels, and the padded size."""
    images = model.preprocess([picture(60, 96)["image"], picture(64, 90, seed=1)["image"]])
    with torch.no_grad():
        features = model.backbone(images.tensor)
        outputs = model.run_head(features, (64, 96))
    levels = [
        resize(features["p2"], scale_factor=0.5),
        *(features[name] for name in ("p3", "p4", "p5")),
        resize(features["p6"], size=features["p5"].shape[-2:]),
    ]
    return outputs, levels, (64, 96)


def reference_features(model: nn.Module, level: Tensor, coords: bool = True) -> Tensor:
    state = model.state_dict()
    x = with_coords(level) if coords else level
    for index in range(7):
        x = conv_norm_relu(state, f"mask_branch.tower.{index}", x, 1)
    assert f"mask_branch.tower.{7}.conv.weight" not in state
    return resize(x, scale_factor=2)


def reference_logits(features: Tensor, kernel: Tensor) -> Tensor:
    """Returns [H, W] of features [E, H, W] and a kernel of E or 9 E weights."""
    side = math.isqrt(len(kernel) // len(features))
    weight = kernel.view(1, len(features), side, side)
    return F.conv2d(features[None], weight, padding=side // 2)[0, 0]


@pytest.mark.parametrize("opts", [[], KERNELS_3X3, ["MODEL.SOLOV2.MASK_COORD_LEVEL", "none"]])
def test_masks_are_those_of_the_cells_level(opts: list) -> None:
    model = random_model([*SEPARATE, *opts])
    outputs, levels, padded_size = run(model)
    expected_features = [reference_features(model, x, "none" not in opts) for x in levels]
    assert model.mask_size(padded_size) == (16, 24)
    cells = torch.tensor([FIRSTS[4] + 3, 5, FIRSTS[2], FIRSTS[1] + 7, 0, FIRSTS[5] - 1, FIRSTS[3]])
    for image, output in enumerate(outputs.images()):
        soft = model.decoder.soft(output, (16, 24), cells)
        for cell, mask in zip(cells.tolist(), soft):
            level = sum(cell >= first for first in FIRSTS[1:])
            logits = reference_logits(expected_features[level][image], output.kernels[cell])
            expected = resize(logits.sigmoid()[None, None], size=(16, 24))[0, 0]
            torch.testing.assert_close(mask, expected, rtol=1e-4, atol=1e-4)
        traceable = model.decoder.traceable(output, (16, 24), cells)
        torch.testing.assert_close(traceable, soft, rtol=1e-5, atol=1e-5)


def test_the_loss_is_that_of_every_pair_at_its_levels_stride() -> None:
    model = random_model(SEPARATE)
    outputs, levels, padded_size = run(model)
    instances = [picture(60, 96, seed=2)["instances"], picture(64, 90, seed=3)["instances"]]
    targets, small_masks = model.prepare_targets(instances, padded_size)
    compared = 0
    for image, (output, pairs) in enumerate(zip(outputs.images(), targets.pairs())):
        found = model.mask_losses(output, pairs, small_masks)
        for loss, cell, index in zip(found, pairs.cells.tolist(), pairs.objects.tolist()):
            level = sum(cell >= first for first in FIRSTS[1:])
            stride = STRIDES[level] // 2
            features = reference_features(model, levels[level])[image]
            p = reference_logits(features, output.kernels[cell]).sigmoid()
            true = small_masks[STRIDES[level]][index].float()
            assert true.shape == p.shape == (64 // stride, 96 // stride)
            dice = 2 * (p * true).sum() / ((p * p).sum() + (true * true).sum() + 0.002)
            torch.testing.assert_close(loss, 1 - dice, rtol=1e-3, atol=1e-4)
            compared += 1
    assert compared > 10
    assert len(small_masks[8]) == sum(map(len, instances))


def test_a_step_reaches_every_weight_and_finds_instances() -> None:
    model = tiny_model("SOLOv2", opts=SEPARATE).train()
    losses = model([picture(64, 96), picture(64, 96, objects=0)])
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None for p in model.mask_branch.parameters())
    eager_to_find(model)
    with torch.no_grad():
        found = model.eval()([picture(64, 96)])[0]["instances"]
    assert len(found) > 0
    assert found.pred_masks.shape[1:] == (64, 96)
