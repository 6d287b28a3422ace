import numpy as np
import pytest
import torch
import torch.nn.functional as F

from solo_family.methods.grid.category_branch import GRID_ALIGN


@pytest.mark.parametrize("side", [1, 4, 9])
def test_interpolation_is_bilinear_between_pixel_centres(side: int) -> None:
    features = torch.randn(2, 3, 5, 7)
    expected = F.interpolate(features, size=(side, side), mode="bilinear", align_corners=False)
    assert torch.equal(GRID_ALIGN["interpolate"](features, (side, side)), expected)


def test_a_map_of_the_grids_size_is_itself() -> None:
    features = torch.randn(1, 2, 6, 6)
    assert torch.equal(GRID_ALIGN["interpolate"](features, (6, 6)), features)


def test_adaptive_pool_takes_the_largest_of_a_cell() -> None:
    features = torch.randn(2, 3, 8, 12)
    pooled = GRID_ALIGN["adaptive_pool"](features, (4, 4))
    for row in range(4):
        for column in range(4):
            cell = features[:, :, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
            assert torch.equal(pooled[:, :, row, column], cell.amax((2, 3)))


def bilinear(image: np.ndarray, y: float, x: float) -> float:
    """Samples at (y, x), where 0 is the centre of the first pixel; edges are repeated."""
    height, width = image.shape
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    fy, fx = y - top, x - left
    upper = image[top, left] * (1 - fx) + image[top, right] * fx
    lower = image[bottom, left] * (1 - fx) + image[bottom, right] * fx
    return float(upper * (1 - fy) + lower * fy)


@pytest.mark.parametrize("side", [3, 5])
def test_region_grid_averages_samples_spread_over_a_cell(side: int) -> None:
    features = torch.randn(1, 2, 6, 8)
    found = GRID_ALIGN["region_grid"](features, (side, side))
    assert found.shape == (1, 2, side, side)
    for channel in range(2):
        image = features[0, channel].numpy()
        for row in range(side):
            for column in range(side):
                samples = [
                    # Pixel centres are at half pixels of the map.
                    bilinear(image, (row + dy) * 6 / side - 0.5, (column + dx) * 8 / side - 0.5)
                    for dy in (0.25, 0.75)
                    for dx in (0.25, 0.75)
                ]
                assert found[0, channel, row, column].item() == pytest.approx(
                    np.mean(samples), abs=1e-5
                )


@pytest.mark.parametrize("name", GRID_ALIGN)
def test_images_are_aligned_apart(name: str) -> None:
    features = torch.randn(3, 2, 6, 8)
    together = GRID_ALIGN[name](features, (4, 4))
    alone = torch.cat([GRID_ALIGN[name](one[None], (4, 4)) for one in features])
    torch.testing.assert_close(together, alone)
