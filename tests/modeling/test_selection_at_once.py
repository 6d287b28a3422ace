"""Selection without waits against the published order of operations, and against chunks."""

import numpy as np
import pytest
import torch
from torch import Tensor

from solo_family.modeling.postprocess import selection_at_once
from solo_family.modeling.postprocess.selection import Selector
from solo_family.modeling.postprocess.selection_at_once import (
    Candidates,
    Grid,
    Selected,
    find_candidates,
    select_at_once,
    suits,
)
from solo_family.ops.packed_masks import PackedMasks, pack_masks

from ..waits import count_waits
from .test_selection import SIZE, Scene, make_scene, reference, select


def at_once(*scenes: Scene, **options: object) -> list[Selected | None]:
    """Selects from scenes of one grid; their cells may be of several strides."""
    selector = Selector(**options)  # type: ignore[arg-type]

    def measure(candidates: Candidates) -> list[PackedMasks]:
        images = zip(scenes, candidates.cells)
        return [
            pack_masks(scene.probabilities[cells], selector.mask_threshold)
            for scene, cells in images
        ]

    scores = torch.stack([scene.cell_scores for scene in scenes])
    ends = torch.tensor([len(scenes[0].strides) // 3, len(scenes[0].strides)])
    grid = Grid(scenes[0].strides, ends)
    decoded: list[tuple[Tensor, list[int]]] = []

    def decode(image: int, cells: Tensor, counts: list[int]) -> Tensor:
        decoded.append((cells, counts))
        return scenes[image].probabilities[cells]

    with count_waits() as waits:
        found = list(select_at_once(selector, scores, grid, measure, decode))
    assert waits.total == 1
    for cells, counts in decoded:
        assert counts == [int((cells < end).sum()) for end in ends.tolist()]
    return found


def assert_as_in_chunks(scene: Scene, **options: object) -> int:
    """Both ways give the same; returns how many instances."""
    (found,) = at_once(scene, **options)
    assert found is not None
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
    assert found is not None
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
        assert found is not None
        assert alone is not None
        assert all(torch.equal(one, other) for one, other in zip(found, alone, strict=True))
    assert [len(found.scores) > 0 for found in together if found] == [True, False, True]


@pytest.mark.parametrize("ties", [False, True])
def test_a_crowd_is_right_or_left_to_chunks(ties: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more candidates than are looked at, the best for NMS must all be among those."""
    monkeypatch.setattr(selection_at_once, "_MOST", 24)
    complete = []
    for pre_nms in range(1, 12):
        scene = make_scene(pre_nms, cells=40, radius=(2.5, 6.0))
        if ties:
            # The first that is left out often scores the same as the last that is not.
            scene = scene._replace(cell_scores=scene.cell_scores.mul(8).round() / 8)
        (found,) = at_once(scene, pre_nms=pre_nms)
        complete.append(found is not None)
        if found is not None:
            assert_as_in_chunks(scene, pre_nms=pre_nms)
    assert 2 < sum(complete) < 10


def test_the_best_that_was_left_out_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last that is looked at scores 0.6; with a maskness of 0.8, the best have 0.72, 0.68."""
    monkeypatch.setattr(selection_at_once, "_MOST", 4)
    probabilities = torch.zeros((7, *SIZE))
    probabilities[:, :8] = 0.8
    scores = torch.tensor([0.9, 0.85, 0.8, 0.6, 0.5, 0.5, 0.5]).diag()
    strides = torch.full((7,), 8)
    (enough,) = at_once(Scene(scores, strides, probabilities), pre_nms=2)
    assert enough is not None
    assert enough.classes.tolist() == [0, 1]
    # With a maskness of 0.52 they have 0.47 and 0.44, less than one that was left out may have.
    assert at_once(Scene(scores, strides, probabilities * 0.65), pre_nms=2) == [None]
    # Small masks leave nothing.
    assert at_once(Scene(scores, strides * 1000, probabilities), pre_nms=2) == [None]


def test_as_many_candidates_as_are_looked_at_may_not_be_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = torch.rand(2, 10, 3)
    monkeypatch.setattr(selection_at_once, "_MOST", 30)
    assert (find_candidates(scores, Selector(pre_nms=4)).lowest == -torch.inf).all()
    monkeypatch.setattr(selection_at_once, "_MOST", 12)
    scores[1].flatten()[11:] = 0
    lowest = find_candidates(scores, Selector(pre_nms=4)).lowest
    assert lowest[0] == scores[0].flatten().sort(descending=True).values[11]
    assert lowest[1] == -torch.inf


def test_a_cpu_and_greedy_nms_go_the_other_way() -> None:
    gpu = torch.device("cuda")
    assert suits(Selector(), gpu)
    assert not suits(Selector(), torch.device("cpu"))
    assert not any(suits(Selector(nms_type=name), gpu) for name in ("mask", "soft", "fast"))
