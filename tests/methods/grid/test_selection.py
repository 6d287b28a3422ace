"""Selection against the published order of operations, written out one candidate at a time."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from solo_family.config import get_cfg
from solo_family.methods.grid import decoded_masks
from solo_family.methods.grid.mask_decoder import Grid, GridOutputs, MaskDecoder
from solo_family.methods.grid.selection import Selected, Selection, Selector, select_in_chunks

SIZE = (24, 32)
STRIDES = (8, 8, 16, 32, 32)


class Scene(NamedTuple):
    """What the network says: [C, K] scores, [C] strides, [C, h, w] probabilities."""

    cell_scores: Tensor
    strides: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class SoftMasks(GridOutputs):
    """A head whose predictions are the masks of all cells: [B, C, h, w]."""

    probabilities: Tensor


class Given(MaskDecoder[SoftMasks]):
    """Returns the masks as they are."""

    def soft(
        self, outputs: SoftMasks, size: object, cells: Tensor, counts: object = None
    ) -> Tensor:
        return outputs.probabilities[cells]

    def traceable(self, outputs: SoftMasks, size: object, cells: Tensor) -> Tensor:
        """Of a batch."""
        images = zip(outputs.probabilities, cells, strict=True)
        return torch.stack([probabilities[some] for probabilities, some in images])


class Decoding(MaskDecoder[GridOutputs]):
    """Makes masks by a function of cells."""

    def __init__(self, decode: Callable[[Tensor], Tensor]) -> None:
        self.decode = decode

    def soft(self, outputs: object, size: object, cells: Tensor, counts: object = None) -> Tensor:
        return self.decode(cells)


class Found(NamedTuple):
    score: float
    category: int
    cell: int


def make_scene(
    seed: int, cells: int, classes: int = 3, radius: tuple[float, float] = (1.0, 9.0)
) -> Scene:
    """Soft discs: small ones that the area filter drops, and enough overlap for NMS to matter."""
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
    probabilities = np.empty((cells, *SIZE), np.float32)
    for cell in range(cells):
        y, x, r = rng.uniform(0, SIZE[0]), rng.uniform(0, SIZE[1]), rng.uniform(*radius)
        logits = rng.uniform(0.5, 3.0) * (r - np.hypot(ys - y, xs - x))
        probabilities[cell] = 1 / (1 + np.exp(-logits))
    return Scene(
        torch.from_numpy(rng.random((cells, classes), np.float32)),
        torch.from_numpy(rng.choice(STRIDES, cells)),
        torch.from_numpy(probabilities),
    )


def of_one_level(selector: Selector, decoder: MaskDecoder, strides: Tensor) -> Selection:
    return Selection(selector, decoder, Grid(strides, torch.tensor([len(strides)])))


def select(scene: Scene, **options: object) -> Selected:
    chosen = of_one_level(Selector(**options), Given(), scene.strides)  # type: ignore[arg-type]
    outputs = SoftMasks([], scene.probabilities)
    found = select_in_chunks(chosen, outputs, scene.cell_scores, SIZE)
    return found._replace(masks=found.masks[:])


def reference(
    scene: Scene,
    area_filter: bool = True,
    class_agnostic: bool = False,
    nms_type: str = "matrix",
    pre_nms: int = 500,
    post_nms: int = 100,
) -> list[Found]:
    """All candidates at once, in the order of the official code."""
    probabilities = scene.probabilities.numpy()
    scored: list[Found] = []
    for cell, class_scores in enumerate(scene.cell_scores.tolist()):
        for category, score in enumerate(class_scores):
            if np.float32(score) <= np.float32(0.1):  # a float32 comparison, as in torch
                continue
            inside = probabilities[cell] > 0.5
            area = int(inside.sum())
            if area == 0 or (area_filter and area <= int(scene.strides[cell])):
                continue
            maskness = float(probabilities[cell][inside].astype(np.float64).mean())
            scored.append(Found(score * maskness, category, cell))
    scored.sort(key=lambda found: -found.score)  # Python's sort is stable
    scored = scored[:pre_nms]
    masks = [probabilities[found.cell] > 0.5 for found in scored]
    ious = [[iou(a, b) for b in masks[: j + 1]] for j, a in enumerate(masks)]

    def compared(i: int, j: int) -> bool:
        return class_agnostic or scored[i].category == scored[j].category

    kept = (matrix_nms if nms_type == "matrix" else greedy_nms)(scored, ious, compared)
    kept = [found for found in kept if found.score >= 0.05]
    kept.sort(key=lambda found: -found.score)
    return kept[:post_nms]


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def matrix_nms(scored: list[Found], ious: list[list[float]], compared) -> list[Found]:
    """Gaussian, with a sigma of 2; `ious[j][i]` for i < j, the better first."""
    compensation = [
        max((ious[i][k] for k in range(i) if compared(k, i)), default=0.0)
        for i in range(len(scored))
    ]
    result = []
    for j, found in enumerate(scored):
        decay = 1.0
        for i in range(j):
            if compared(i, j):
                ratio = math.exp(-2 * ious[j][i] ** 2) / math.exp(-2 * compensation[i] ** 2)
                decay = min(decay, ratio)
        result.append(found._replace(score=found.score * decay))
    return result


def greedy_nms(scored: list[Found], ious: list[list[float]], compared) -> list[Found]:
    kept: list[int] = []
    for j in range(len(scored)):
        if all(ious[j][i] <= 0.5 or not compared(i, j) for i in kept):
            kept.append(j)
    return [scored[j] for j in kept]


def assert_same(scene: Scene, **options: object) -> list[Found]:
    expected = reference(scene, **options)  # type: ignore[arg-type]
    scores, classes, masks = select(scene, **options)
    assert scores.dtype == masks.dtype == torch.float32
    assert classes.dtype == torch.int64
    np.testing.assert_allclose(scores.numpy(), [found.score for found in expected], atol=1e-5)
    assert classes.tolist() == [found.category for found in expected]
    assert torch.equal(masks, scene.probabilities[[found.cell for found in expected]])
    return expected


@pytest.mark.parametrize("seed", range(4))
def test_random_scenes(seed: int) -> None:
    expected = assert_same(make_scene(seed, cells=40))
    assert len({found.category for found in expected}) == 3
    # Several classes of one cell, which share a mask.
    assert len({found.cell for found in expected}) < len(expected)


@pytest.mark.parametrize("nms_type", ["matrix", "mask"])
def test_a_crowd_of_more_than_go_into_nms_and_come_out(nms_type: str) -> None:
    scene = make_scene(5, cells=300, radius=(2.5, 6.0))
    assert (scene.cell_scores > 0.1).sum() > 600
    expected = assert_same(scene, nms_type=nms_type)
    assert nms_type == "mask" or len(expected) == 100


def test_the_limits_before_and_after_nms_are_arguments() -> None:
    assert len(assert_same(make_scene(6, cells=40), pre_nms=30, post_nms=7)) == 7


@pytest.mark.parametrize("area_filter", [True, False])
@pytest.mark.parametrize("class_agnostic", [True, False])
@pytest.mark.parametrize("nms_type", ["matrix", "mask"])
def test_options(area_filter: bool, class_agnostic: bool, nms_type: str) -> None:
    options = dict(area_filter=area_filter, class_agnostic=class_agnostic, nms_type=nms_type)
    scene = make_scene(7, cells=50, radius=(0.2, 7.0))
    assert assert_same(scene, **options)


def test_the_options_make_a_difference() -> None:
    scene = make_scene(7, cells=50, radius=(0.2, 7.0))
    results = [
        reference(scene, area_filter, class_agnostic, nms_type)
        for area_filter in (True, False)
        for class_agnostic in (True, False)
        for nms_type in ("matrix", "mask")
    ]
    assert all(a != b for n, a in enumerate(results) for b in results[:n])


def test_an_area_equal_to_the_stride_is_dropped_and_one_more_pixel_is_not() -> None:
    probabilities = torch.zeros((2, *SIZE))
    probabilities[0, 0, :16] = 0.9
    probabilities[1, 2, :17] = 0.9
    scene = Scene(torch.tensor([[0.8], [0.7]]), torch.tensor([16, 16]), probabilities)
    (only,) = assert_same(scene)
    assert only.cell == 1


def test_scores_and_probabilities_equal_to_their_thresholds_are_not_above_them() -> None:
    probabilities = torch.zeros((2, *SIZE))
    probabilities[0, :8] = 0.9
    probabilities[1, :8] = 0.5
    scene = Scene(torch.tensor([[0.1, 0.2], [0.9, 0.9]]), torch.tensor([8, 8]), probabilities)
    (only,) = assert_same(scene, area_filter=False)
    assert only[1:] == (1, 0)


@pytest.mark.parametrize("nms_type", ["matrix", "mask"])
def test_pixels_equal_to_the_threshold_are_outside_a_mask_in_nms_too(nms_type: str) -> None:
    probabilities = torch.zeros((2, *SIZE))
    probabilities[0, :8] = 0.9
    probabilities[1, :8] = 0.5
    probabilities[1, 8:10] = 0.9
    scene = Scene(torch.tensor([[0.9], [0.8]]), torch.tensor([8, 8]), probabilities)
    assert len(assert_same(scene, nms_type=nms_type)) == 2


@pytest.mark.parametrize("case", ["nothing scores", "all too small", "no cells"])
@pytest.mark.parametrize("nms_type", ["matrix", "mask"])
def test_nothing_found_gives_empty_results_of_the_same_form(case: str, nms_type: str) -> None:
    scene = make_scene(8, cells=20, radius=(0.1, 1.0))
    if case == "nothing scores":
        scene = scene._replace(cell_scores=scene.cell_scores / 10)
    if case == "no cells":
        scene = Scene(*(tensor[:0] for tensor in scene))
    assert assert_same(scene, nms_type=nms_type) == []
    scores, classes, masks = select(scene, nms_type=nms_type)
    assert (scores.shape, classes.shape, masks.shape) == ((0,), (0,), (0, *SIZE))


def test_masks_are_asked_for_a_few_at_a_time() -> None:
    size = (512, 512)
    asked: list[int] = []

    def decode(cells: Tensor) -> Tensor:
        asked.append(len(cells))
        return (torch.arange(512) < 100 + cells[:, None, None]).expand(-1, *size).float()

    cells = 100
    chosen = of_one_level(Selector(), Decoding(decode), torch.full((cells,), 8))
    cell_scores = torch.linspace(0.2, 0.9, cells)[:, None]
    scores, _, masks = select_in_chunks(chosen, GridOutputs([]), cell_scores, size)
    assert len(scores) == len(masks) == cells
    assert sum(asked) == cells  # the result is decoded when it is asked for
    assert masks[:].shape == (cells, *size)
    assert max(asked) * 512 * 512 * 4 <= 32 * 2**20
    assert sum(asked) == 2 * cells


def cells_to_decode(cell_scores: Tensor, maskness: Tensor, pre_nms: int, chunk: int) -> set[int]:
    """Those before the first chunk whose best score is below what so many cells have already."""
    order = cell_scores.argsort(descending=True).tolist()
    found: list[float] = []
    for start in range(0, len(order), chunk):
        found.sort(reverse=True)
        if len(found) >= pre_nms and cell_scores[order[start]] < found[pre_nms - 1]:
            return set(order[:start])
        found += [float(cell_scores[cell] * maskness[cell]) for cell in order[start:][:chunk]]
    return set(order)


@pytest.mark.parametrize("chunk", [1, 7])
@pytest.mark.parametrize("rises", [False, True])
def test_masks_that_cannot_be_among_the_best_are_not_asked_for(
    chunk: int, rises: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maskness is random, or the greater the lower a score, which puts the last cells first."""
    cells, size = 100, (8, 12)
    monkeypatch.setattr(decoded_masks, "_CHUNK_BYTES", 4 * size[0] * size[1] * chunk)
    generator = torch.Generator().manual_seed(0)
    cell_scores = torch.linspace(0.9, 0.2, cells)[torch.randperm(cells, generator=generator)]
    maskness = 0.6 + 0.4 * torch.rand(cells, generator=generator)
    if rises:
        maskness = (0.5 / cell_scores**1.2).clamp(0.6, 1)
    asked: list[int] = []

    def decode(cells: Tensor) -> Tensor:
        asked.extend(cells.tolist())
        return maskness[cells, None, None].expand(-1, *size).clone()

    # Every cell has a class of its own, so that none suppresses another.
    selector = Selector(pre_nms=10, area_filter=False)
    chosen = of_one_level(selector, Decoding(decode), torch.full((cells,), 8))
    scores, classes, _ = select_in_chunks(chosen, GridOutputs([]), cell_scores.diag(), size)
    expected = (cell_scores * maskness).sort(descending=True)
    torch.testing.assert_close(scores, expected.values[:10])
    assert classes.tolist() == expected.indices[:10].tolist()
    needed = cells_to_decode(cell_scores, maskness, 10, chunk)
    assert set(asked) == needed
    assert 10 < len(needed) < cells


def test_from_config_reads_every_key() -> None:
    cfg = get_cfg()
    assert Selector.from_config(cfg, "MODEL.SOLOV2") == Selector()
    values = {
        "SCORE_THR": ("score_threshold", 0.3),
        "MASK_THR": ("mask_threshold", 0.4),
        "AREA_FILTER": ("area_filter", False),
        "NMS_PRE": ("pre_nms", 11),
        "MAX_PER_IMG": ("post_nms", 12),
        "UPDATE_THR": ("update_threshold", 0.2),
        "NMS_TYPE": ("nms_type", "soft"),
        "NMS_KERNEL": ("nms_kernel", "linear"),
        "NMS_SIGMA": ("nms_sigma", 3),
        "MASK_NMS_THR": ("nms_iou_threshold", 0.7),
        "CLASS_AGNOSTIC_NMS": ("class_agnostic", True),
    }
    for key, (_, value) in values.items():
        setattr(cfg.MODEL.SOLOV2, key, value)
    expected = Selector(**dict(values.values()))  # type: ignore[arg-type]
    assert Selector.from_config(cfg, "MODEL.SOLOV2") == expected
