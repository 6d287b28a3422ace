"""Selection without waits against the published order of operations, and against chunks."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from solo_family.methods.grid import selection_at_once
from solo_family.methods.grid.instances import suits_at_once
from solo_family.methods.grid.mask_decoder import Grid
from solo_family.methods.grid.selection import Selection, Selector
from solo_family.methods.grid.selection_at_once import find_claims, select_at_once
from solo_family.modeling import order
from solo_family.ops import PackedMasks, pack_masks

from ...waits import count_waits
from .dense import Dense, dense
from .test_selection import SIZE, Given, Scene, SoftMasks, make_scene, reference, select


class GivenDirectly(Given):
    """Returns the masks as they are, and notes how many cells of each level it was told."""

    packs_directly = True

    def __init__(self) -> None:
        self.told: list[tuple[Tensor, list[int]]] = []

    def soft(self, outputs: SoftMasks, size: object, cells: Tensor, counts: Any = None) -> Tensor:
        if counts is not None:
            self.told.append((cells, counts))
        return outputs.probabilities[cells]

    def packed(
        self, outputs: SoftMasks, size: object, cells: Tensor, threshold: float, counts: Any = None
    ) -> PackedMasks:
        masks = pack_masks(outputs.probabilities[cells], threshold)
        wanted = torch.arange(len(cells)) < counts[-1]
        # Whatever bits the masks have that nobody asked for.
        words = torch.where(wanted[:, None], masks.words, masks.words.flip(1).bitwise_not())
        return PackedMasks(words, masks.areas * wanted, masks.maskness * wanted)


class GivenByLevel(GivenDirectly):
    """The same where the host waits for how many cells of each level are claimed."""

    packs_directly = False

    def packed(
        self, outputs: SoftMasks, size: object, cells: Tensor, threshold: float, counts: Any = None
    ) -> PackedMasks:
        self.told.append((cells, counts))
        return pack_masks(outputs.probabilities[cells], threshold)


def outputs_of(*scenes: Scene) -> SoftMasks:
    logits = torch.zeros(len(scenes), 1, 1, 1)
    return SoftMasks([logits], torch.stack([scene.probabilities for scene in scenes]))


def at_once(*scenes: Scene, directly: bool = True, **options: Any) -> list[Dense]:
    """Selects from scenes of one grid; their cells may be of several strides."""
    decoder = GivenDirectly() if directly else GivenByLevel()
    ends = torch.tensor([len(scenes[0].strides) // 3, len(scenes[0].strides)])
    selector = Selector(**options)
    selection = Selection(selector, decoder, Grid(scenes[0].strides, ends))
    scores = torch.stack([scene.cell_scores for scene in scenes])
    with count_waits() as waits:
        selected = list(select_at_once(selection, outputs_of(*scenes), scores, SIZE))
    assert waits.total == (1 if directly else 2)
    for cells, counts in decoder.told:
        assert counts == [int((cells < end).sum()) for end in ends.tolist()]
    return [dense(found) for found in selected]


def assert_as_in_chunks(scene: Scene, **options: Any) -> int:
    """Both ways give the same; returns how many instances."""
    (found,) = at_once(scene, **options)
    for one, other in zip(found, select(scene, **options), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    return len(found.scores)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("area_filter", [True, False])
@pytest.mark.parametrize("class_agnostic", [True, False])
def test_random_scenes(seed: int, area_filter: bool, class_agnostic: bool) -> None:
    scene = make_scene(seed, cells=40, radius=(0.2, 8.0))
    options = dict(area_filter=area_filter, class_agnostic=class_agnostic)
    (found,) = at_once(scene, **options)
    expected = reference(scene, area_filter, class_agnostic)
    np.testing.assert_allclose(found.scores, [one.score for one in expected], atol=1e-5)
    assert found.classes.tolist() == [one.category for one in expected]
    assert torch.equal(found.masks, scene.probabilities[[one.cell for one in expected]])
    assert assert_as_in_chunks(scene, **options)


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.05, 0.5, 2.0])
@pytest.mark.parametrize("nms_kernel", ["gaussian", "linear"])
@pytest.mark.parametrize("nms_sigma", [2.0, 1000.0])
def test_what_was_dropped_never_returns_whatever_the_threshold_after_nms(
    threshold: float, nms_kernel: str, nms_sigma: float
) -> None:
    scene = make_scene(9, cells=50, radius=(0.2, 7.0))
    options = dict(update_threshold=threshold, nms_kernel=nms_kernel, nms_sigma=nms_sigma)
    found = assert_as_in_chunks(scene, **options)
    assert (found == 0) == (threshold == 2.0)


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.1, 1.0])
def test_any_score_threshold(threshold: float) -> None:
    scene = make_scene(10, cells=30)
    # As point NMS leaves them.
    scene.cell_scores[torch.rand(scene.cell_scores.shape) < 0.5] = 0
    assert assert_as_in_chunks(scene, score_threshold=threshold) == 0 or threshold < 1


@pytest.mark.parametrize("classes", [1, 80])
@pytest.mark.parametrize("limits", [(500, 100), (30, 7), (1, 1)])
def test_numbers_of_classes_and_limits(classes: int, limits: tuple[int, int]) -> None:
    scene = make_scene(11, cells=20, classes=classes)
    assert assert_as_in_chunks(scene, pre_nms=limits[0], post_nms=limits[1]) > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, None])
def test_equal_scores_keep_the_order_of_cells_and_classes(dtype: torch.dtype | None) -> None:
    """Scores of half precision are often equal; here masks are, too, so that they stay so."""
    scene = make_scene(12, cells=60)
    scores = scene.cell_scores
    scores = scores.mul(8).round() / 8 if dtype is None else scores.to(dtype).float()
    probabilities = scene.probabilities[:1].expand(60, -1, -1)
    scene = scene._replace(cell_scores=scores, probabilities=probabilities)
    assert len(scores.unique()) < scores.numel()
    assert assert_as_in_chunks(scene, nms_kernel="linear", update_threshold=0.0) > 50


def test_scores_that_are_no_numbers_are_no_candidates() -> None:
    scene = make_scene(13, cells=30)
    scene.cell_scores[::3] = torch.nan
    assert assert_as_in_chunks(scene) > 0


@pytest.mark.parametrize("case", ["nothing scores", "all too small", "no cells", "no classes"])
def test_nothing_found_gives_empty_results_of_the_same_form(case: str) -> None:
    scene = make_scene(8, cells=20, radius=(0.1, 1.0))
    if case == "nothing scores":
        scene = scene._replace(cell_scores=scene.cell_scores / 10)
    if case == "no cells":
        scene = Scene(*(tensor[:0] for tensor in scene))
    if case == "no classes":
        scene = scene._replace(cell_scores=scene.cell_scores[:, :0])
    assert assert_as_in_chunks(scene) == 0


def test_images_are_apart() -> None:
    scenes = [make_scene(seed, cells=40) for seed in range(3)]
    scenes = [scene._replace(strides=scenes[0].strides) for scene in scenes]
    scenes[1].cell_scores.div_(10)
    together = at_once(*scenes)
    for scene, found in zip(scenes, together, strict=True):
        (alone,) = at_once(scene)
        assert all(torch.equal(one, other) for one, other in zip(found, alone, strict=True))
    assert [len(found.scores) > 0 for found in together] == [True, False, True]


@pytest.mark.parametrize("ties", [False, True])
def test_a_crowd_of_more_than_go_into_nms_and_come_out(ties: bool) -> None:
    scene = make_scene(5, cells=300, radius=(2.5, 6.0))
    if ties:
        # The last that goes in scores the same as some that don't.
        scores = scene.cell_scores.mul(8).round() / 8
        disc = scene.probabilities[:1].expand(300, -1, -1)
        scene = scene._replace(cell_scores=scores, probabilities=disc)
    assert (scene.cell_scores > 0.1).sum() > 600
    assert assert_as_in_chunks(scene, update_threshold=0.0) == 100
    assert assert_as_in_chunks(scene, update_threshold=0.0, pre_nms=30) == 30


@pytest.mark.parametrize("length", [3, 1000])
def test_of_masks_that_are_not_packed_directly_those_of_claimed_cells_are_made(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In ascending order, a few at a time, each time told how many there are of each level."""
    scene = make_scene(14, cells=30)
    claimed = torch.arange(0, 30, 3)
    scene.cell_scores[torch.isin(torch.arange(30), claimed, invert=True)] = 0.05
    monkeypatch.setattr(selection_at_once, "chunk_length", lambda *_: length)
    asked: list[int] = []
    packed = GivenByLevel.packed

    def packing(self: GivenByLevel, outputs: SoftMasks, size: object, cells: Tensor, *others):
        asked.append(len(cells))
        return packed(self, outputs, size, cells, *others)

    monkeypatch.setattr(GivenByLevel, "packed", packing)
    (expected,), (found,) = at_once(scene), at_once(scene, directly=False)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert asked == ([3, 3, 3, 1] if length == 3 else [10])


def test_claims_are_cells_above_the_threshold() -> None:
    scores = torch.tensor([[0.2, 0.0, 0.1, 0.5, torch.nan], [0.0, 0.0, 0.0, 0.0, 0.0]])[..., None]
    grid = Grid(torch.zeros(5, dtype=torch.int64), torch.tensor([2, 3, 5]))
    cells, counts = find_claims(scores, Selector(score_threshold=0.1), grid)
    assert cells.tolist() == [[0, 3, 1, 2, 4], [0, 1, 2, 3, 4]]
    assert counts.tolist() == [[1, 1, 2], [0, 0, 0]]


@pytest.mark.parametrize("gpu", [False, True])
def test_a_cpu_and_greedy_nms_go_the_other_way(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.zeros(1, 5, 2)
    assert not order.waits(scores)
    monkeypatch.setattr(order, "waits", lambda _: gpu)
    for name in ("matrix", "mask", "soft", "fast"):
        grid = Grid(torch.ones(5), torch.tensor([5]))
        selection = Selection(Selector(nms_type=name), Given(), grid)
        assert suits_at_once(selection, scores) == (gpu and name == "matrix")
