"""Dense sliding, NMS and enlarging of windows; and its memory, in a process of its own."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from solo_family.methods.instance_fcn import proposals
from solo_family.methods.instance_fcn.proposals import ProposalSelector
from solo_family.methods.instance_fcn.windows import DenseMaps, Windows, by_scale
from solo_family.modeling import order

from ...conftest import ROOT
from ...waits import count_waits

M = 5
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def maps(height: int = 8, width: int = 12, cell: float = 8.0, seed: int = 0) -> DenseMaps:
    generator = torch.Generator().manual_seed(seed)
    return DenseMaps(
        score_maps=3 * torch.randn((9, height, width), generator=generator),
        objectness_logits=torch.randn((height, width), generator=generator),
        features=torch.zeros((1, height, width)),
        cell_size=(cell, cell),
    )


def windows_by_loops(dense: DenseMaps, score: str) -> list[tuple[float, list[float]]]:
    """Scores and boxes of all windows with a mask, row by row; bins of 5 cells in 3: 2, 1, 2."""
    bins = [0, 0, 1, 2, 2]
    height, width = dense.objectness_logits.shape
    found = []
    for row in range(height):
        for column in range(width):
            cells, probabilities = [], []
            for u in range(M):
                for v in range(M):
                    y, x = row - 2 + u, column - 2 + v
                    if 0 <= y < height and 0 <= x < width:
                        p = float(dense.score_maps[bins[u] * 3 + bins[v], y, x].sigmoid())
                        if p > 0.5:
                            cells.append((y, x))
                            probabilities.append(p)
            if cells:
                value = float(dense.objectness_logits[row, column].sigmoid())
                if score == "product":
                    value *= sum(probabilities) / len(probabilities)
                ys, xs = zip(*cells)
                box = [min(xs), min(ys), max(xs) + 1, max(ys) + 1]
                found.append((value, [side * dense.cell_size[0] for side in box]))
    return found


@pytest.mark.parametrize("score", ["objectness", "product"])
def test_sliding_equals_loops(score: str) -> None:
    dense = maps()
    windows = ProposalSelector(window_size=M, score=score).slide(dense, 3)
    assert len(windows.scores) == 8 * 12
    windows = windows[windows.scores > -math.inf]
    expected = windows_by_loops(dense, score)
    assert windows.scores.tolist() == pytest.approx([value for value, _ in expected], abs=1e-6)
    assert windows.boxes.tolist() == [box for _, box in expected]
    assert windows.scales.unique().tolist() == [3]


def test_windows_without_a_mask_are_left_out() -> None:
    dense = maps()
    dense.score_maps.fill_(-9.0)
    windows = ProposalSelector(window_size=M)([dense, dense], (64, 96))
    assert len(windows.scores) == 0
    masks, _ = ProposalSelector(window_size=M).paste(windows, [dense, dense], (64, 96))
    assert masks.shape == (0, 64, 96)
    assert masks.dtype == torch.bool


@pytest.mark.parametrize("nms_type", ["box", "matrix"])
def test_no_windows_survive_nms_of_none(nms_type: str) -> None:
    dense = maps()
    dense.score_maps.fill_(-9.0)
    selector = ProposalSelector(window_size=M, nms_type=nms_type, pre_nms=10)
    assert len(selector([dense], (64, 96)).scores) == 0


def iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return overlap / (sum(areas) - overlap)


def test_nms_is_greedy_on_boxes_of_all_scales() -> None:
    """Of two scales with cells of 8 and 4 pixels."""
    scales = [maps(8, 12), maps(16, 24, cell=4.0, seed=1)]
    selector = ProposalSelector(window_size=M, nms_threshold=0.59)
    windows = selector(scales, (64, 96))
    everything = [item for dense in scales for item in windows_by_loops(dense, "objectness")]
    kept: list[tuple[float, list[float]]] = []
    for value, box in sorted(everything, key=lambda item: -item[0]):
        if all(iou(box, other) <= 0.59 for _, other in kept):
            kept.append((value, box))
    assert len(kept) < len(everything)
    assert windows.scores.tolist() == pytest.approx([value for value, _ in kept], abs=1e-6)
    assert windows.boxes.tolist() == [box for _, box in kept]
    assert set(windows.scales.tolist()) == {0, 1}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def test_an_iou_that_equals_the_threshold_is_not_above_it(device: str) -> None:
    """8 of 10 cells are shared; and 66 of 78 pixels, which is more."""
    for shift, kept in ((8.0, 2), (6.0, 1)):
        boxes = torch.tensor([[0.0, 0, 72, 8], [shift, 0, 72 + shift, 8]], device=device)
        numbers = torch.zeros(2, dtype=torch.int64, device=device)
        scores = torch.tensor([0.9, 0.8], device=device)
        windows = Windows(scores, boxes, torch.stack([numbers] * 2, dim=1), numbers)
        selector = ProposalSelector(window_size=M, nms_threshold=0.8)
        assert len(selector.suppress(windows, [], (64, 96)).scores) == kept


def test_limits_before_and_after_nms() -> None:
    scales = [maps(8, 12)]
    everything = ProposalSelector(window_size=M)(scales, (64, 96))
    few = ProposalSelector(window_size=M, max_proposals=7)(scales, (64, 96))
    assert few.scores.tolist() == everything.scores[:7].tolist()
    before = ProposalSelector(window_size=M, pre_nms=7, nms_threshold=1.0)(scales, (64, 96))
    best = ProposalSelector(window_size=M, nms_threshold=1.0)(scales, (64, 96))
    assert before.scores.tolist() == best.scores[:7].tolist()


def one_square(height: int, width: int, row: int, column: int, cell: float) -> DenseMaps:
    """A single window whose mask is its central 3 x 3 cells."""
    dense = maps(height, width, cell)
    dense.objectness_logits.fill_(-9.0)
    dense.objectness_logits[row, column] = 4.0
    dense.score_maps.fill_(-9.0)
    dense.score_maps[:, row - 1 : row + 2, column - 1 : column + 2] = 9.0
    return dense


def paste_one(dense: DenseMaps, size: tuple[int, int], row: int, column: int) -> Tensor:
    windows = Windows(
        scores=torch.ones(1),
        boxes=torch.zeros((1, 4)),
        centers=torch.tensor([[row, column]]),
        scales=torch.tensor([0]),
    )
    return ProposalSelector(window_size=M).paste(windows, [dense], size)[0][0]


def test_masks_are_where_their_cells_are() -> None:
    mask = paste_one(one_square(8, 12, 4, 6, 8.0), (64, 96), 4, 6)
    expected = torch.zeros((64, 96), dtype=torch.bool)
    expected[24:48, 40:64] = True
    wrong = (mask != expected).nonzero()
    # Bilinear enlarging rounds the corners.
    assert len(wrong) < 0.05 * expected.sum()
    assert mask[26:46, 42:62].all()


def test_masks_reach_up_to_the_border() -> None:
    dense = maps(4, 6)
    dense.score_maps.fill_(9.0)
    mask = paste_one(dense, (32, 48), 0, 0)
    assert mask[:20, :20].all()
    mask = paste_one(dense, (32, 48), 3, 5)
    assert mask[-20:, -20:].all()


def test_matrix_nms_puts_repetitions_last() -> None:
    """Of two equal masks and another one, the worse of the equal ones falls behind."""
    first = one_square(8, 24, 4, 6, 8.0)
    other = one_square(8, 24, 4, 16, 8.0)
    first.objectness_logits[4, 6], other.objectness_logits[4, 16] = 4.0, 2.0
    again = one_square(8, 24, 4, 6, 8.0)
    again.objectness_logits[4, 6] = 3.0
    selector = ProposalSelector(window_size=M, nms_type="matrix", pre_nms=3)
    windows = selector([first, other, again], (64, 192))
    assert windows.scales.tolist()[:2] == [0, 1]
    raw = torch.tensor([4.0, 2.0]).sigmoid()
    torch.testing.assert_close(windows.scores[:2], raw)
    # A gaussian of sigma 2 at IoU 1: exp(-2).
    decayed = float(torch.tensor(3.0).sigmoid()) * math.exp(-2)
    assert float(windows.scores[2]) == pytest.approx(decayed, rel=1e-3)


SCRIPT = """
import json, sys
import torch
from solo_family.methods.instance_fcn.proposals import ProposalSelector
from solo_family.methods.instance_fcn.windows import DenseMaps
from solo_family.methods.instance_fcn.assemble import every_center, soft_masks

def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024

torch.manual_seed(0)
h, w = 150, 250
maps = DenseMaps(torch.randn(25, h, w), torch.randn(h, w), torch.zeros(1, h, w), (8.0, 8.0))
selector = ProposalSelector(pre_nms=1000, max_proposals=100)
small = DenseMaps(maps.score_maps[:, :9, :9], torch.zeros(9, 9), maps.features, (8.0, 8.0))
selector([small], (72, 72))
before = status("VmRSS")
windows = selector([maps], (8 * h, 8 * w))
print(json.dumps([len(windows.scores), status("VmHWM") - before]))

# All windows at once, the straightforward way.
hard = soft_masks(maps.score_maps, every_center((h, w)), 21) > 0.5
print(json.dumps([len(hard), status("VmHWM") - before]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="measures through /proc")
def test_memory_of_sliding_over_a_large_map_is_bounded() -> None:
    """37,500 windows of 21 x 21."""
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert process.returncode == 0, process.stderr
    (_, peak), (count, straightforward) = map(json.loads, process.stdout.splitlines())
    assert count == 37500
    assert peak < 160e6
    assert straightforward > 250e6


def same_windows(one: Windows, other: Windows) -> bool:
    return all(torch.equal(getattr(one, name), value) for name, value in vars(other).items())


def test_a_batch_waits_once_for_how_many_take_part() -> None:
    """Of images with windows of which some, all and none have a mask."""
    images = [[maps(seed=seed), maps(16, 24, cell=4.0, seed=9)] for seed in range(3)]
    images[1][0].score_maps[:, :, 3:] = -9.0
    for scale in images[2]:
        scale.score_maps.fill_(-9.0)
    selector = ProposalSelector(window_size=M)
    expected = [selector(image, (64, 96)) for image in images]
    with count_waits() as waits:
        ranked, counts = selector.rank(images)
        assert waits.total == 0
        host_counts = counts.tolist()
    assert host_counts[0] > host_counts[1] > host_counts[2] == 0
    for windows, count, maps_, other in zip(ranked, host_counts, images, expected, strict=True):
        assert (windows.scores[:count] > -math.inf).all()
        assert (windows.scores[count:] == -math.inf).all()
        assert same_windows(selector.suppress(windows[:count], maps_, (64, 96)), other)


def test_windows_of_several_scales_are_pasted_from_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As each scale's windows alone; nothing is waited for."""
    scales = [maps(8, 12), maps(16, 24, cell=4.0, seed=1)]
    selector = ProposalSelector(window_size=M, max_proposals=30)
    windows = selector(scales, (64, 96))
    alone = torch.zeros((30, 64, 96), dtype=torch.bool)
    for index, scale in enumerate(scales):
        here = windows.scales == index
        some = windows[here]
        some.scales = torch.zeros_like(some.scales)
        pasted, _ = selector.paste(some, [scale], (64, 96))
        assert isinstance(pasted, torch.Tensor)
        alone[here] = pasted
    together, _ = selector.paste(windows, scales, (64, 96))
    assert isinstance(together, torch.Tensor)
    assert torch.equal(together, alone)
    monkeypatch.setattr(order, "waits", lambda _: True)
    with count_waits() as waits:
        assert selector.paste(windows, scales, (64, 96))[0].shape == alone.shape
    assert waits.total == 0, waits.where


def test_windows_are_sorted_by_scale() -> None:
    first, counts = by_scale(torch.tensor([2, 0, 2, 1, 0]), 4)
    assert first.tolist() == [1, 4, 3, 0, 2]
    assert counts == [2, 1, 2, 0]
    with count_waits() as waits:
        assert by_scale(torch.zeros(3, dtype=torch.int64), 1)[1] == [3]
    assert waits.total == 0


@pytest.mark.parametrize(
    ("waiting", "repeated", "rounds"),
    [
        (False, 10, [20]),
        (False, 20, [20, 80]),
        (False, 90, [20, 80, 100]),
        (True, 10, [20]),
        (True, 20, [20, 100]),
        (True, 90, [20, 100]),
    ],
)
def test_nms_considers_more_windows_until_enough_are_kept(
    waiting: bool, repeated: int, rounds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first windows many are the same; on a GPU all that are left are one round."""
    boxes = torch.tensor([[0.0, 0, 8, 8]]).repeat(100, 1)
    boxes[repeated:, 0::2] += 10.0 * torch.arange(100 - repeated)[:, None]
    numbers = torch.zeros((100, 2), dtype=torch.int64)
    windows = Windows(torch.linspace(0.9, 0.1, 100), boxes, numbers, numbers[:, 0])
    asked: list[int] = []

    def counted(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
        asked.append(len(boxes))
        return nms(boxes, scores, threshold)

    monkeypatch.setattr(proposals, "nms", counted)
    monkeypatch.setattr(order, "waits", lambda _: waiting)
    kept = ProposalSelector(window_size=M, max_proposals=5).suppress(windows, [], (64, 96))
    expected = nms(boxes, windows.scores, 0.8)[:5]
    assert kept.scores.tolist() == windows.scores[expected].tolist()
    assert asked == rounds
