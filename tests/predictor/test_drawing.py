"""What is drawn of each kind of prediction."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances
from detectron2.utils.video_visualizer import VideoVisualizer

from solo_family.cli.window import show_picture
from solo_family.errors import SoloFamilyError
from solo_family.predictor import drawing
from solo_family.predictor.drawing import draw_predictions
from solo_family.predictor.predictions import Predictions

pytestmark = pytest.mark.usefixtures("drawn_in_red")

METADATA = Metadata(thing_classes=["cell"], stuff_classes=["void", "ground"])
# Large enough that a label at one region doesn't reach the other.
H, W = 120, 320
IMAGE = np.full((H, W, 3), 128, np.uint8)
LEFT, RIGHT = (slice(30, 90), slice(10, 100)), (slice(30, 90), slice(220, 310))


def _instance(region: tuple[slice, slice]) -> Instances:
    masks = torch.zeros(1, H, W, dtype=torch.bool)
    masks[0][region] = True
    rows, columns = region
    box = [columns.start, rows.start, columns.stop, rows.stop]
    return Instances(
        (H, W),
        pred_masks=masks,
        pred_boxes=Boxes(torch.tensor([box], dtype=torch.float32)),
        scores=torch.ones(1),
        pred_classes=torch.zeros(1, dtype=torch.int64),
    )


def _is_changed(predictions: Predictions) -> list[bool]:
    """Whether most of the left, and of the right region is drawn over."""
    drawn = draw_predictions(VideoVisualizer(METADATA), IMAGE, predictions)
    assert (drawn.shape, drawn.dtype) == (IMAGE.shape, np.uint8)
    is_drawn = (drawn != IMAGE).any(axis=-1)
    return [bool(is_drawn[region].mean() > 0.5) for region in (LEFT, RIGHT)]


def test_instances_are_drawn_where_they_are() -> None:
    assert _is_changed({"instances": _instance(LEFT)}) == [True, False]


def test_no_instances_leave_the_picture_as_it_was() -> None:
    nothing = {"instances": _instance(LEFT)[:0]}
    drawn = draw_predictions(VideoVisualizer(METADATA), IMAGE, nothing)
    np.testing.assert_array_equal(drawn, IMAGE)


def test_semantic_segmentation_comes_before_instances() -> None:
    logits = torch.zeros(3, H, W)
    logits[2] = 1.0  # No category has this index, so that it stays undrawn.
    logits[1][RIGHT] = 2.0
    assert _is_changed({"sem_seg": logits, "instances": _instance(LEFT)}) == [False, True]


@pytest.mark.parametrize("metadata", [Metadata(), Metadata(stuff_classes=[])])
def test_classes_without_names_are_drawn(metadata: Metadata) -> None:
    logits = torch.zeros(2, H, W)
    logits[1][RIGHT] = 2.0
    drawn = draw_predictions(VideoVisualizer(metadata), IMAGE, {"sem_seg": logits})
    assert len(np.unique(drawn[RIGHT].reshape(-1, 3), axis=0)) == 1
    assert (drawn[RIGHT][0, 0] != drawn[LEFT][0, 0]).any()


def test_panoptic_segmentation_comes_first() -> None:
    segments = torch.zeros(H, W, dtype=torch.int32)
    segments[RIGHT] = 5
    infos = [{"id": 5, "category_id": 0, "isthing": True}]
    predictions = {"panoptic_seg": (segments, infos), "instances": _instance(LEFT)}
    assert _is_changed(predictions) == [False, True]
    assert _is_changed({"panoptic_seg": (segments, [])}) == [False, False]


def _colours(predictions: Predictions, metadata: Metadata) -> list[list[int]]:
    """Returns the colours in the middle of the left and of the right region."""
    drawn = draw_predictions(VideoVisualizer(metadata), IMAGE * 0, predictions)
    return [drawn[region][5, 5].tolist() for region in (LEFT, RIGHT)]


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
@pytest.mark.parametrize("given", [None, [[0, 0, 200]], [[0, 0, 200], [0, 200, 0]]])
def test_a_class_of_pixels_has_one_colour_in_all_pictures(
    task: str, given: list[list[int]] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """detectron2 draws classes without a colour in random ones: videos flickered."""

    def random_color(*_: object, **__: object) -> None:
        raise AssertionError("a random colour")

    monkeypatch.setattr("detectron2.utils.visualizer.random_color", random_color)
    colours = {} if given is None else {"stuff_colors": given}
    names = ["ground", "sky"]
    metadata = Metadata(thing_classes=names, stuff_classes=names, **colours)
    labels = torch.zeros(H, W, dtype=torch.int32)
    labels[RIGHT] = 1
    infos = [{"id": label + 1, "category_id": label, "isthing": False} for label in range(2)]
    predictions: dict[str, Any] = {"sem_seg": torch.stack([labels == 0, labels == 1]).float()}
    if task == "panoptic":
        predictions = {"panoptic_seg": (labels + 1, infos)}
    left, right = _colours(predictions, metadata)
    assert left != right
    assert [left, right] == _colours(predictions, metadata)
    if given is not None and len(given) == len(names):
        # The dataset's own: blue and green, in BGR.
        assert [int(np.argmax(one)) for one in (left, right)] == [0, 1]


@pytest.mark.parametrize("width", [1, 2, 3])
def test_narrow_pictures_are_no_problem(width: int) -> None:
    instances = Instances((H, width))
    instances.pred_masks = torch.ones(1, H, width, dtype=torch.bool)
    instances.pred_boxes = Boxes(torch.tensor([[0.0, 0.0, width, H]]))
    instances.scores, instances.pred_classes = torch.ones(1), torch.zeros(1, dtype=torch.int64)
    image = np.zeros((H, width, 3), np.uint8)
    drawn = draw_predictions(VideoVisualizer(METADATA), image, {"instances": instances})
    assert drawn.shape == image.shape


def test_an_object_keeps_its_colour_from_frame_to_frame() -> None:
    visualizer = VideoVisualizer(METADATA)
    first, second = (
        draw_predictions(visualizer, IMAGE, {"instances": _instance(LEFT)}) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_showing_without_windows_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def imshow(*_: object) -> None:
        raise cv2.error("not implemented")

    monkeypatch.setattr(drawing.cv2, "imshow", imshow)
    with pytest.raises(SoloFamilyError, match="--show"):
        show_picture(IMAGE, milliseconds=1)


def _label_pixels(left: int, top: int, size: tuple[int, int] = (H, W)) -> int:
    """How many pixels a label's dark background has, of an object of 40 x 40 at a place."""
    instances = _instance((slice(top, top + 40), slice(left, left + 40)))
    height, width = size
    masks = torch.zeros(1, height, width, dtype=torch.bool)
    masks[0, top : top + 40, left : left + 40] = True
    instances = Instances(
        size,
        pred_masks=masks,
        pred_boxes=instances.pred_boxes,
        scores=torch.ones(1),
        pred_classes=torch.zeros(1, dtype=torch.int64),
    )
    names = Metadata(thing_classes=["a cell with a name"])
    grey = np.full((height, width, 3), 200, np.uint8)
    drawn = draw_predictions(VideoVisualizer(names), grey, {"instances": instances})
    return int((drawn[:, :, 1] < 60).sum())


@pytest.mark.parametrize(("left", "top"), [(0, 0), (W - 40, 40), (0, H - 40), (W - 40, H - 40)])
def test_a_label_at_the_border_is_as_large_as_in_the_middle(left: int, top: int) -> None:
    assert abs(_label_pixels(left, top) / _label_pixels(140, 40) - 1) < 0.15


def test_a_label_wider_than_the_picture_is_made_smaller() -> None:
    whole = _label_pixels(140, 40)
    assert 0.3 * whole < _label_pixels(40, 40, (100, 100)) < 0.9 * whole
    assert _label_pixels(0, 0, (40, 40)) > 0  # where no size fits, the beginning is there


def test_labels_of_a_crowd_do_not_hide_its_masks() -> None:
    def dark(count: int) -> int:
        masks = torch.zeros(count, H, W, dtype=torch.bool)
        places = [(y, x) for y in range(4, H - 8, 10) for x in range(4, W - 8, 20)][:count]
        for mask, (y, x) in zip(masks, places, strict=True):
            mask[y : y + 6, x : x + 6] = True
        instances = Instances(
            (H, W),
            pred_masks=masks,
            pred_boxes=Boxes(torch.tensor([[x, y, x + 6.0, y + 6.0] for y, x in places])),
            scores=torch.ones(count),
            pred_classes=torch.zeros(count, dtype=torch.int64),
        )
        grey = np.full((H, W, 3), 200, np.uint8)
        drawn = draw_predictions(VideoVisualizer(METADATA), grey, {"instances": instances})
        return int((drawn[:, :, 1] < 60).sum())

    labelled = dark(20)
    assert labelled > 20 * 100
    assert dark(160) < labelled  # with their labels, eight times as much
