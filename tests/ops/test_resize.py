"""The two-step resize against one mask and one step at a time; resizing in exported programs."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from solo_family.ops.resize import resize_bilinear, resize_masks


def soft_masks(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth blobs with values on both sides of 0.5 everywhere."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((1, count, 5, 6), generator=generator)
    if not count:
        return torch.zeros((0, height, width))
    return F.interpolate(4 * coarse, size=(height, width), mode="bicubic")[0].sigmoid()


def two_steps(
    masks: Tensor, padded: tuple[int, int], image: tuple[int, int], output: tuple[int, int]
) -> Tensor:
    result = []
    for mask in masks:
        full = F.interpolate(mask[None, None], size=padded, mode="bilinear", align_corners=False)
        cut = full[:, :, : image[0], : image[1]]
        result.append(F.interpolate(cut, size=output, mode="bilinear", align_corners=False)[0, 0])
    return torch.stack(result) > 0.5


@pytest.mark.parametrize(
    ("padded", "image", "output"),
    [
        ((64, 96), (61, 83), (45, 61)),
        ((64, 96), (33, 96), (131, 381)),
        ((96, 64), (95, 63), (95, 63)),
        ((64, 64), (64, 64), (64, 64)),
        ((32, 32), (1, 1), (1, 1)),
        ((32, 128), (7, 101), (3, 1000)),
    ],
)
def test_equals_two_interpolations(padded, image, output) -> None:
    masks = soft_masks(5, padded[0] // 4, padded[1] // 4)
    result = resize_masks(masks, padded, image, output, 0.5)
    assert result.dtype == torch.bool
    assert torch.equal(result, two_steps(masks, padded, image, output))


def test_no_masks() -> None:
    result = resize_masks(torch.zeros((0, 16, 24)), (64, 96), (60, 90), (120, 180), 0.5)
    assert (result.shape, result.dtype) == ((0, 120, 180), torch.bool)


def test_many_large_masks_equal_each_by_itself() -> None:
    """At these sizes about eight fit into memory at a time."""
    sizes = ((1024, 1024), (1000, 990), (1003, 997))
    masks = soft_masks(19, 256, 256)
    together = resize_masks(masks, *sizes, 0.5)
    for mask, expected in zip(masks, together):
        assert torch.equal(resize_masks(mask[None], *sizes, 0.5)[0], expected)


def test_the_threshold_is_an_argument_and_is_exclusive() -> None:
    masks = torch.full((1, 8, 8), 0.25)
    assert not resize_masks(masks, (32, 32), (32, 32), (20, 20), 0.25).any()
    assert resize_masks(masks, (32, 32), (32, 32), (20, 20), 0.2).all()


def test_half_precision_is_resized_in_float32() -> None:
    masks = soft_masks(3, 16, 16).bfloat16()
    sizes = ((64, 64), (50, 60), (77, 91))
    assert torch.equal(resize_masks(masks, *sizes, 0.5), two_steps(masks.float(), *sizes))


def test_one_step_and_early_thresholds_would_give_other_masks() -> None:
    padded, image, output = (128, 192), (128, 192), (61, 93)
    masks = soft_masks(8, 32, 48)
    result = resize_masks(masks, padded, image, output, 0.5)
    one_step = F.interpolate(masks[None], size=output, mode="bilinear")[0] > 0.5
    assert (result != one_step).any()
    hard_first = two_steps((masks > 0.5).float(), padded, image, output)
    assert (result != hard_first).any()
    logits = two_steps(masks.logit() + 0.5, padded, image, output)
    assert (result != logits).any()


class _ToGrid(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return resize_bilinear(features, (6, 6))


@pytest.mark.parametrize("made_with", [(5, 8), (6, 6)])
def test_a_program_takes_maps_of_the_grid_s_size_and_of_others(made_with: tuple[int, int]) -> None:
    sides = {2: Dim("rows", min=2), 3: Dim("columns", min=2)}
    given = torch.rand(1, 2, *made_with)
    program = torch.export.export(_ToGrid(), (given,), dynamic_shapes=(sides,)).module()
    for size in [(5, 8), (6, 6), (6, 9)]:
        features = torch.rand(1, 2, *size)
        assert torch.equal(program(features), _ToGrid()(features))
