"""Draw a model's predictions on pictures."""

from pathlib import Path

import cv2
import numpy as np
from detectron2.data import Metadata
from detectron2.structures import Instances
from detectron2.utils.colormap import colormap
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import VisImage, Visualizer

from ..errors import DataError
from ..files import replacing
from ..modeling.class_colours import with_class_colours
from ..ops.label_maps import class_of_pixels
from .labels import keep_labels_inside
from .painting import is_large, paint
from .predictions import Predictions
from .tracking import NO_TRACK

# Pixels between pictures side by side; even, as most videos' sizes must be.
_LINE = 4


def draw_predictions(
    visualizer: VideoVisualizer, image: np.ndarray, predictions: Predictions
) -> np.ndarray:
    """Draw the most complete prediction: panoptic, else semantic, else instances.

    On large pictures, for masks that are in memory as runs, and for classes of pixels that have no
    names, colours are painted without names.

    Args:
        visualizer: one per picture or video; it gives an object the same colour in every frame.
        image: (H, W, 3) uint8, BGR.
        predictions: result of `keep_confident`.

    Returns:
        (H, W, 3) uint8, BGR.
    """
    if image.shape[1] <= 2:
        return image.copy()  # detectron2 mistakes a mask of this width for another type
    if is_large(image, predictions) or _is_nameless(predictions, visualizer.metadata):
        painted = image.copy()
        paint(painted, predictions, visualizer.metadata)
        return painted
    visualizer.metadata = with_class_colours(visualizer.metadata)
    rgb = image[:, :, ::-1]
    if "panoptic_seg" in predictions:
        drawn = visualizer.draw_panoptic_seg_predictions(rgb, *predictions["panoptic_seg"])
    elif "sem_seg" in predictions:
        category = class_of_pixels(predictions["sem_seg"])
        drawn = visualizer.draw_sem_seg(rgb, category)
    elif predictions["instances"].has("track_ids"):
        drawn = _draw_tracks(visualizer, rgb, predictions["instances"])
    else:
        drawn = visualizer.draw_instance_predictions(rgb, predictions["instances"])
    keep_labels_inside(drawn)
    return cv2.cvtColor(drawn.get_image(), cv2.COLOR_RGB2BGR)


def _is_nameless(predictions: Predictions, metadata: Metadata) -> bool:
    """Return whether detectron2, which draws only classes with names, would draw no pixel."""
    is_semantic = "sem_seg" in predictions and "panoptic_seg" not in predictions
    return is_semantic and not metadata.get("stuff_classes")


def _draw_tracks(visualizer: VideoVisualizer, rgb: np.ndarray, instances: Instances) -> VisImage:
    """Draw instances in the colours of their tracks, with class, score and number of the track."""
    names = visualizer.metadata.get("thing_classes") or []
    table = colormap(rgb=True, maximum=1)
    labels, colours = [], []
    for label, score, track in zip(
        instances.pred_classes.tolist(), instances.scores.tolist(), instances.track_ids.tolist()
    ):
        name = names[label] if label < len(names) else str(label)
        number = "" if track == NO_TRACK else f" #{track}"
        labels.append(f"{name} {score:.0%}{number}")
        colours.append(table[track % len(table)])
    frame = Visualizer(rgb, visualizer.metadata)
    masks = instances.pred_masks.numpy()
    return frame.overlay_instances(masks=masks, labels=labels, assigned_colors=colours)


def beside(*pictures: np.ndarray) -> np.ndarray:
    """Return pictures of one size, uint8 [H, W, 3], side by side with white lines between them."""
    line = np.full((pictures[0].shape[0], _LINE, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (line, picture)]
    return np.concatenate(parts[1:], axis=1)


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 BGR image in the format that the suffix names.

    Raises:
        DataError: the file can't be written, or its suffix names no image format.
    """
    with replacing(path) as temporary:
        try:
            written = cv2.imwrite(str(temporary), image)
        except cv2.error as error:
            raise DataError(
                f"{path}: {path.suffix or 'a name without suffix'} is not an image format; use "
                ".png or .jpg."
            ) from error
        if not written:
            raise DataError(
                f"{path}: can't be written; check the folder's permissions and the free space"
            )
