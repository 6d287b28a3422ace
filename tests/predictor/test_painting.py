"""Predictions painted over large pictures, where detectron2's visualizer would take too long."""

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances
from detectron2.utils.video_visualizer import VideoVisualizer

from solo_family.ops.run_masks import RunMasks
from solo_family.ops.runs import runs_of
from solo_family.ops.window import Window
from solo_family.predictor import painting
from solo_family.predictor.drawing import draw_predictions
from solo_family.predictor.result import Result
from solo_family.saving.filters import Filters
from solo_family.tiling.merge_semantic import LabelMap

SIZE = (40, 60)
NAMES = Metadata(thing_classes=["a", "b"], stuff_classes=["a", "b"])


def masks() -> torch.Tensor:
    found = torch.zeros((3, *SIZE), dtype=torch.bool)
    found[0, 5:20, 5:30] = True
    found[1, 10:35, 25:50] = True
    found[2, 0, 59] = True
    return found


def instances(as_runs: bool) -> Instances:
    packed = RunMasks(runs_of(masks(), Window(0, 0, *SIZE), SIZE[0]), SIZE)
    return Instances(
        SIZE,
        pred_masks=packed if as_runs else masks(),
        pred_boxes=Boxes(packed.boxes),
        scores=torch.tensor([0.9, 0.8, 0.7]),
        pred_classes=torch.tensor([0, 1, 1]),
    )


def drawn(predictions: dict[str, Any]) -> np.ndarray:
    """Draw on a grey picture, which stays as it was, and return which pixels have changed."""
    picture = np.full((*SIZE, 3), 100, np.uint8)
    image = draw_predictions(VideoVisualizer(NAMES), picture, predictions)
    assert (picture == 100).all()
    assert image.dtype == np.uint8
    return (image != 100).any(axis=2)


@pytest.mark.parametrize("as_runs", [True, False])
def test_masks_are_painted_and_nothing_else(as_runs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(painting, "LARGE_PIXELS", 10**9 if as_runs else 100)
    assert np.array_equal(drawn({"instances": instances(as_runs)}), masks().any(dim=0).numpy())


def test_classes_and_segments_are_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(painting, "LARGE_PIXELS", 100)
    assert drawn({"sem_seg": LabelMap(masks()[0].short(), 2)}).all()
    segments = (masks()[0] + 2 * (masks()[1] & ~masks()[0])).int()
    infos = [{"id": 2, "category_id": 1, "isthing": True}]  # the other scores too little
    painted = drawn({"panoptic_seg": (segments, infos), "instances": instances(False)})
    assert np.array_equal(painted, (segments == 2).numpy())


@pytest.mark.parametrize("colours", [None, [(200, 0, 0), (0, 200, 0)]])
def test_classes_that_are_dropped_are_not_painted(
    colours: list[tuple[int, int, int]] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(painting, "LARGE_PIXELS", 100)
    metadata = Metadata(stuff_classes=["a", "b"], **({"stuff_colors": colours} if colours else {}))
    given = {"sem_seg": LabelMap(masks()[0].short(), 2)}
    picture = np.full((*SIZE, 3), 100, np.uint8)
    image = draw_predictions(VideoVisualizer(metadata), picture, Filters(labels=(1,))(given))
    assert np.array_equal((image != 100).any(axis=2), masks()[0].numpy())
    if colours:
        assert image[10, 10].tolist() == [50, 150, 50]  # BGR, half of each


def test_a_result_is_the_same_with_runs() -> None:
    picture = np.zeros((*SIZE, 3), np.uint8)
    runs, pixels = (Result({"instances": instances(b)}, NAMES, picture) for b in (True, False))
    assert np.array_equal(runs.masks, pixels.masks)
    assert runs.to_coco() == pixels.to_coco()
    for ours, theirs in zip(runs.polygons(), pixels.polygons(), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
