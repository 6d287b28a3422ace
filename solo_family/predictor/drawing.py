"""Pictures with a model's predictions drawn on them."""

import cv2
import numpy as np
from detectron2.utils.video_visualizer import VideoVisualizer

from ..errors import SoloFamilyError
from .predictions import Predictions

ESCAPE_KEY = 27


def draw_predictions(
    visualizer: VideoVisualizer, image: np.ndarray, predictions: Predictions
) -> np.ndarray:
    """Draw the most complete prediction: panoptic, else semantic, else instances.

    Args:
        visualizer: one per picture or video; it follows objects from frame to frame.
        image: (H, W, 3) uint8, BGR.
        predictions: of `keep_confident`.

    Returns:
        (H, W, 3) uint8, BGR.
    """
    if image.shape[1] <= 2:
        return image.copy()  # detectron2 takes a mask of this width for something else
    rgb = image[:, :, ::-1]
    if "panoptic_seg" in predictions:
        drawn = visualizer.draw_panoptic_seg_predictions(rgb, *predictions["panoptic_seg"])
    elif "sem_seg" in predictions:
        category = predictions["sem_seg"].argmax(dim=0)
        drawn = visualizer.draw_sem_seg(rgb, category)
    else:
        drawn = visualizer.draw_instance_predictions(rgb, predictions["instances"])
    return cv2.cvtColor(drawn.get_image(), cv2.COLOR_RGB2BGR)


def show_picture(image: np.ndarray, milliseconds: int) -> None:
    """Show a BGR image in a window, for so long, or until a key is pressed if 0.

    Raises:
        SoloFamilyError: there can't be a window here.
        KeyboardInterrupt: the key is Escape.
    """
    try:
        cv2.imshow("solo_family demo", image)
        key = cv2.waitKey(milliseconds)
    except cv2.error as error:
        raise SoloFamilyError(
            "--show: this OpenCV can't open windows (a headless build, or no display); leave it out"
        ) from error
    if key == ESCAPE_KEY:
        raise KeyboardInterrupt
