"""Resizing by blocks of rows against torch's interpolation of whole masks."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from solo_family.ops import resize_rows
from solo_family.ops.resize import ResizedMasks


def interpolated(masks: Tensor, sizes: tuple) -> Tensor:
    padded, image, output = sizes
    full = F.interpolate(masks[None].float(), size=padded, mode="bilinear", align_corners=False)
    cut = full[..., : image[0], : image[1]]
    return F.interpolate(cut, size=output, mode="bilinear", align_corners=False)[0]


def by_rows(masks: Tensor, sizes: tuple) -> Tensor:
    rows = ResizedMasks(masks, *sizes).rows()
    assert rows.num_masks == len(masks)
    parts, starts = [], []
    for place, block in rows.blocks:
        starts += list(range(place.start, place.stop))
        parts.append(block.clone())
    assert starts == list(range(sizes[2][0]))
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("rows_at_once", [1, 7, 1000])
@pytest.mark.parametrize(
    "sizes",
    [
        ((64, 320), (61, 313), (45, 290)),
        ((64, 96), (33, 96), (131, 381)),
        ((16, 24), (16, 24), (16, 24)),
        ((32, 32), (1, 1), (3, 2)),
        ((64, 96), (64, 96), (3, 1)),
    ],
)
def test_equals_interpolation_of_whole_masks(
    sizes: tuple, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = torch.randn((5, 16, 24), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(resize_rows, "_BLOCK_BYTES", 4 * 5 * sizes[2][1] * rows_at_once)
    monkeypatch.setattr(resize_rows, "_COLUMNS", 50)
    resize_rows._bands.cache_clear()
    expected = interpolated(masks, sizes)
    torch.testing.assert_close(by_rows(masks, sizes), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_stays_where_interpolation_has_it(value: float) -> None:
    masks = torch.zeros(2, 16, 24)
    masks[1, 3, 4] = value
    sizes = ((64, 96), (60, 90), (40, 77))
    expected = interpolated(masks, sizes)
    assert expected.isfinite().float().mean() > 0.9
    torch.testing.assert_close(by_rows(masks, sizes), expected, equal_nan=True)
