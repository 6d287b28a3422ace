"""Show pictures in a window."""

import cv2
import numpy as np

from ..errors import SoloFamilyError

ESCAPE_KEY = 27


def show_picture(image: np.ndarray, milliseconds: int) -> None:
    """Show a BGR image in a window.

    Args:
        image: uint8 [H, W, 3].
        milliseconds: how long; 0 waits until a key is pressed.

    Raises:
        SoloFamilyError: no window can be opened here.
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
