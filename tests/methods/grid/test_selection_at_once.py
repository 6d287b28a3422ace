"""Selection without waits against the published order of operations, and against chunks."""

import numpy as np
import pytest
import torch
from torch import Tensor

from solo_family.methods.grid.selection import Selector
from solo_family.methods.grid.selection_at_once import (
    Claims,
    Grid,
    Selected,
    find_claims,
    select_at_once,
    suits,
)
from solo_family.ops import PackedMasks, pack_masks

from ...waits import count_waits
from .test_selection import Scene, make_scene, reference, select


def at_once(*scenes: Scene, **options: object) -> list[Selected]:
    """Selects from scenes of one grid; their cells may be of several strides."""
    selector = Selector(**options)  # type: ignore[arg-type]

    def measure(claims: Claims) -> list[PackedMasks]:
        packed = []
        for scene, cells, counts in zip(scenes, *claims):
            masks = pack_masks(scene.probabilities[cells], selector.mask_threshold)
            wanted = torch.arange(len(cells)) < counts[-1]
            # Whatever bits the masks have that nobody asked for.
            words = torch.where(wanted[:, None], masks.words, masks.words.flip(1).bitwise_not())
            packed.append(PackedMasks(words, masks.areas * wanted, masks.maskness * wanted))
        return packed

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


@pytest.mark.parametrize("measured", ["all", "claimed"])
def test_masks_of_cells_without_candidates_may_be_anything(measured: str) -> None:
    """Or not be there: how many there are is known on the device, and on the host or not."""
    scene = make_scene(14, cells=30)
    claimed = torch.arange(0, 30, 3)
    scene.cell_scores[torch.isin(torch.arange(30), claimed, invert=True)] = 0.05
    (expected,) = at_once(scene)
    selector, grid = Selector(), Grid(scene.strides, torch.tensor([30]))

    def measure(claims: Claims) -> list[PackedMasks]:
        assert claims.counts.tolist() == [[10]]
        assert claims.cells[0, :10].tolist() == claimed.tolist()
        packed = pack_masks(scene.probabilities[claims.cells[0]], 0.5)
        packed.words[10:] = 0
        packed.areas[10:] = 0
        return [packed if measured == "all" else PackedMasks(*(part[:10] for part in packed))]

    (found,) = select_at_once(
        selector, scene.cell_scores[None], grid, measure, lambda _, cells, __: cells
    )
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(scene.probabilities[found.masks], expected.masks)


def test_claims_are_cells_above_the_threshold() -> None:
    scores = torch.tensor([[0.2, 0.0, 0.1, 0.5, torch.nan], [0.0, 0.0, 0.0, 0.0, 0.0]])[..., None]
    grid = Grid(torch.zeros(5, dtype=torch.int64), torch.tensor([2, 3, 5]))
    cells, counts = find_claims(scores, 0.1, grid)
    assert cells.tolist() == [[0, 3, 1, 2, 4], [0, 1, 2, 3, 4]]
    assert counts.tolist() == [[1, 1, 2], [0, 0, 0]]


def test_a_cpu_and_greedy_nms_go_the_other_way() -> None:
    gpu = torch.device("cuda")
    assert suits(Selector(), gpu)
    assert not suits(Selector(), torch.device("cpu"))
    assert not any(suits(Selector(nms_type=name), gpu) for name in ("mask", "soft", "fast"))
