"""The assembling module against loops written from the paper."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from solo_family.methods.instance_fcn.assemble import assemble, every_center
from solo_family.ops.sliding import _copy_bins, _gather_bins, bins_of_cells, soft_masks_of_rows

from ...conftest import ROOT


def rounded(value: float) -> int:
    return math.floor(value + 0.5)


def assembled_by_loops(maps: torch.Tensor, centers: list, m: int) -> torch.Tensor:
    """Section 3.1: sub-window (i, j) is pasted from map i k + j. NaN outside the map."""
    count, height, width = maps.shape
    k = round(count**0.5)
    masks = torch.full((len(centers), m, m), math.nan, dtype=maps.dtype)
    for n, (row, column) in enumerate(centers):
        for i in range(k):
            for j in range(k):
                for u in range(rounded(i * m / k), rounded((i + 1) * m / k)):
                    for v in range(rounded(j * m / k), rounded((j + 1) * m / k)):
                        y, x = row - m // 2 + u, column - m // 2 + v
                        if 0 <= y < height and 0 <= x < width:
                            masks[n, u, v] = maps[i * k + j, y, x]
    return masks


def random_maps(k: int, height: int, width: int) -> torch.Tensor:
    return torch.randn((k * k, height, width), generator=torch.Generator().manual_seed(k))


@pytest.mark.parametrize("k", [1, 3, 5, 7])
@pytest.mark.parametrize("m", [7, 12, 21])
@pytest.mark.parametrize("map_size", [(5, 9), (24, 30)])
def test_equals_loops(k: int, m: int, map_size: tuple[int, int]) -> None:
    maps = random_maps(k, *map_size)
    height, width = map_size
    centers = [(0, 0), (height - 1, width - 1), (height // 2, width // 2), (1, width - 2)]
    logits, inside = assemble(maps, torch.tensor(centers), m)
    expected = assembled_by_loops(maps, centers, m)
    assert torch.equal(inside, ~expected.isnan())
    assert torch.equal(logits[inside], expected[inside])


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("m", [5, 12])
@pytest.mark.parametrize("rows", [None, range(2), range(3, 6), range(5, 7), range(6, 7)])
def test_windows_of_rows_equal_loops(k: int, m: int, rows: range | None) -> None:
    maps = random_maps(k, 7, 9)
    masks = soft_masks_of_rows(maps, m, rows)
    rows = rows or range(7)
    centers = [(row, column) for row in rows for column in range(9)]
    expected = assembled_by_loops(maps, centers, m).sigmoid().nan_to_num(0)
    assert masks.shape == (len(rows), 9, m, m)
    torch.testing.assert_close(masks.flatten(0, 1), expected)


def test_windows_of_half_precision_are_float32() -> None:
    maps = random_maps(3, 5, 4).half()
    masks = soft_masks_of_rows(maps, 7)
    assert masks.dtype == torch.float32
    torch.testing.assert_close(masks, soft_masks_of_rows(maps.float(), 7))


def test_outside_has_the_nearest_cell_of_its_bins_map() -> None:
    maps = random_maps(3, 4, 6)
    logits, _ = assemble(maps, torch.tensor([[0, 0], [3, 5]]), 9)
    assert logits[0, 0, 0] == maps[0, 0, 0]
    assert logits[0, 8, 0] == maps[6, 3, 0]
    assert logits[1, 4, 8] == maps[5, 3, 5]


def test_rounded_edges_of_the_paper() -> None:
    """m = 21: bins of 7; of 4, 4, 5, 4, 4; of 3."""
    sizes = {k: bins_of_cells(k, 21).bincount().tolist() for k in (3, 5, 7)}
    assert sizes == {3: [7] * 3, 5: [4, 4, 5, 4, 4], 7: [3] * 7}
    assert bins_of_cells(2, 9).tolist() == [0] * 5 + [1] * 4


def test_gradients() -> None:
    maps = random_maps(3, 6, 5).double().requires_grad_()
    centers = torch.tensor([[0, 0], [2, 2], [2, 2], [5, 4]])

    def inside_logits(maps: torch.Tensor) -> torch.Tensor:
        logits, inside = assemble(maps, centers, 4)
        return logits.masked_fill(~inside, 0)

    assert torch.autograd.gradcheck(inside_logits, maps)


def test_no_windows() -> None:
    maps = random_maps(3, 6, 5).requires_grad_()
    logits, inside = assemble(maps, torch.zeros((0, 2), dtype=torch.int64), 21)
    assert logits.shape == inside.shape == (0, 21, 21)
    logits.sum().backward()
    assert maps.grad is not None
    assert not maps.grad.any()


@pytest.mark.parametrize(("count", "m"), [(8, 21), (49, 5)])
def test_maps_that_make_no_bins_are_refused(count: int, m: int) -> None:
    with pytest.raises(ValueError, match=f"at most the window's {m} cells, but there are {count}"):
        assemble(torch.zeros((count, 4, 4)), torch.zeros((1, 2), dtype=torch.int64), m)
    with pytest.raises(ValueError, match=f"at most the window's {m} cells, but there are {count}"):
        soft_masks_of_rows(torch.zeros((count, 4, 4)), m)


def test_every_cell_has_a_window() -> None:
    assert every_center((2, 3)).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


SCRIPT = """
import json, torch
from solo_family.methods.instance_fcn.assemble import assemble, every_center

def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024

maps = torch.randn(25, 75, 125)
before = status("VmRSS")
logits, inside = assemble(maps, every_center((75, 125)), 21)
probabilities = logits.sigmoid() * inside
print(json.dumps([len(probabilities), status("VmHWM") - before]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="measures through /proc")
def test_all_windows_of_a_large_image_fit_in_a_gigabyte() -> None:
    """600 x 1000 pixels at stride 8, all at once."""
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr
    count, peak = json.loads(process.stdout)
    assert count == 9375
    assert peak < 1e9


@pytest.mark.parametrize(("k", "m"), [(1, 4), (3, 5), (5, 21)])
def test_bins_are_gathered_as_they_are_copied(k: int, m: int) -> None:
    shifted = torch.rand(k * k, m, m, 3, 4)
    assert torch.equal(_gather_bins(shifted, k), _copy_bins(shifted, k))
