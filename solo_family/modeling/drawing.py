"""Define what a method's `visualize.py`, which draws how masks come about, takes and returns.

H W of a picture, h w of what is drawn.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from detectron2.data import Metadata
from detectron2.engine import DefaultPredictor
from torch import Tensor


class Picture(NamedTuple):
    """A picture to draw on.

    Attributes:
        name: distinguishes it from the others, also in error messages.
        image: uint8 [H, W, 3], BGR.
        given: what the model takes, uint8 [H, W, C] of the working format; None if it is `image`.
    """

    name: str
    image: np.ndarray
    given: np.ndarray | None = None

    @property
    def model_input(self) -> np.ndarray:
        """uint8 [H, W, C] of the working format."""
        return self.image if self.given is None else self.given


class Drawing(NamedTuple):
    """A finished drawing.

    Attributes:
        name: that of the picture that it shows; or, if it shows none or many, one of its own.
        image: uint8 [h, w, 3], BGR.
        remark: a comment to print, or "".
    """

    name: str
    image: np.ndarray
    remark: str = ""


@dataclass(frozen=True)
class DrawingOptions:
    """The user's options; each method reads those that concern it.

    Attributes:
        confidence_threshold: the lowest score of what is drawn.
        maps: indices of the maps to draw.
        window: (x, y), the centre of a window in pixels of the picture; None for the method's own
            choice.
        metadata: called only where classes are named.
    """

    confidence_threshold: float = 0.5
    maps: tuple[int, ...] = ()
    window: tuple[float, float] | None = None
    metadata: Callable[[], Metadata] = Metadata


# A function of a method's `visualize.py`, one for each type of drawing: it takes a predictor with
# the method's model, and pictures, which are read while it draws. It raises SoloFamilyError if an
# option or a picture can't work.
Draw = Callable[[DefaultPredictor, Iterable[Picture], DrawingOptions], Iterator[Drawing]]


def network_input(predictor: DefaultPredictor, image: np.ndarray) -> Tensor:
    """Return a picture as the predictor passes it to its model: resized, in its colour order.

    Args:
        predictor: determines the size and the colour order.
        image: uint8 [H, W, C] of the working format; see `Picture.model_input`.

    Returns:
        uint8 [C, h, w].
    """
    if predictor.input_format == "RGB":
        image = image[:, :, ::-1]
    resized = predictor.aug.get_transform(image).apply_image(image)
    return torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
