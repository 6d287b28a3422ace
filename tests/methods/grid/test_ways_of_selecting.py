"""All ways of selecting against the published order, one candidate at a time; ties included."""

from collections import Counter

import numpy as np
import pytest
import torch

from solo_family.methods.grid.mask_decoder import Grid
from solo_family.methods.grid.selection import Selected, Selection, Selector, select_in_chunks
from solo_family.methods.grid.selection_at_once import select_at_once
from solo_family.methods.grid.selection_traceable import select_traceable

from .test_selection import SIZE, Given, Scene, make_scene, reference
from .test_selection_at_once import GivenDirectly, outputs_of


def in_chunks(scene: Scene, selector: Selector, grid: Grid) -> Selected:
    (image,) = outputs_of(scene).images()
    found = select_in_chunks(Selection(selector, Given(), grid), image, scene.cell_scores, SIZE)
    return found._replace(masks=found.masks[:])


def at_once(scene: Scene, selector: Selector, grid: Grid) -> Selected:
    selection = Selection(selector, Given(), grid)
    (found,) = select_at_once(selection, outputs_of(scene), scene.cell_scores[None], SIZE)
    return found


def packed_directly(scene: Scene, selector: Selector, grid: Grid) -> Selected:
    selection = Selection(selector, GivenDirectly(), grid)
    (found,) = select_at_once(selection, outputs_of(scene), scene.cell_scores[None], SIZE)
    return found


def traceable(scene: Scene, selector: Selector, grid: Grid) -> Selected:
    """Without those that a runtime drops."""
    selection = Selection(selector, Given(), grid)
    found = select_traceable(selection, outputs_of(scene), scene.cell_scores[None], SIZE)
    scores, classes, masks, candidates = (values[0] for values in found)
    assert candidates == (scene.cell_scores > 0.1).sum()
    kept = scores >= selector.update_threshold
    return Selected(scores[kept], classes[kept], masks[kept])


WAYS = (in_chunks, at_once, packed_directly, traceable)


def scene_of(seed: int, ties: bool) -> Scene:
    scene = make_scene(seed, cells=24, radius=(0.2, 8.0))
    if not ties:
        return scene
    # Four masks and eight scores, so that what is equal stays so, whatever the arithmetic.
    masks = scene.probabilities[torch.arange(24) % 4]
    scores = scene.cell_scores.mul(8).round() / 8
    return Scene(scores, scene.strides[torch.arange(24) % 4], masks)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("area_filter", [True, False])
@pytest.mark.parametrize("class_agnostic", [True, False])
def test_all_ways_find_what_the_reference_finds(
    seed: int, ties: bool, area_filter: bool, class_agnostic: bool
) -> None:
    scene = scene_of(seed, ties)
    expected = reference(scene, area_filter, class_agnostic, post_nms=25)
    assert expected
    selector = Selector(area_filter=area_filter, class_agnostic=class_agnostic, post_nms=25)
    grid = Grid(scene.strides, torch.tensor([8, 24]))
    masks = scene.probabilities[[found.cell for found in expected]]
    classes = [found.category for found in expected]
    for way in WAYS:
        found = way(scene, selector, grid)
        np.testing.assert_allclose(found.scores, [one.score for one in expected], atol=1e-5)
        # Which of equal ones comes first is not promised where there is no stable sort.
        if way is not traceable or not ties:
            assert found.classes.tolist() == classes, way.__name__
            assert torch.equal(found.masks, masks), way.__name__
        elif not class_agnostic and len(expected) < 25:
            assert Counter(found.classes.tolist()) == Counter(classes)


def test_the_cases_have_ties_and_a_difference_that_every_option_makes() -> None:
    """Guards the test above."""
    for seed in range(3):
        kept = reference(scene_of(seed, ties=True), post_nms=25)
        assert len({found.score for found in kept}) < len(kept)
    results = [
        reference(scene_of(0, ties=False), area_filter, class_agnostic)
        for area_filter in (True, False)
        for class_agnostic in (True, False)
    ]
    assert all(one != other for n, one in enumerate(results) for other in results[:n])
