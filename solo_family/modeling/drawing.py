"""Pictures of how a method comes to its masks: what a method's `visualize.py` is given and gives.

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
    """A picture to look at.

    Attributes:
        name: tells it from the others; errors speak of it so.
        image: uint8 [H, W, 3], BGR.
    """

    name: str
    image: np.ndarray


class Drawing(NamedTuple):
    """What was drawn.

    Attributes:
        name: of the picture that it shows; or, where it shows none or many, one of its own.
        image: uint8 [h, w, 3], BGR.
        remark: what is to be said of it, or "".
    """

    name: str
    image: np.ndarray
    remark: str = ""


@dataclass(frozen=True)
class DrawingOptions:
    """What users may choose, of which each method looks at what it has.

    Attributes:
        confidence_threshold: the least score of what is drawn.
        maps: numbers of the maps that are drawn.
        window: (x, y), the centre of a window in pixels of the picture; None for the method's own
            choice.
        metadata: asked for where classes are named.
    """

    confidence_threshold: float = 0.5
    maps: tuple[int, ...] = ()
    window: tuple[float, float] | None = None
    metadata: Callable[[], Metadata] = Metadata


# What a method's `visualize.py` has, a function for each kind of drawing: of a predictor with the
# method's model, and pictures, which are read while it draws. It raises SoloFamilyError where an
# option or a picture can't work.
Draw = Callable[[DefaultPredictor, Iterable[Picture], DrawingOptions], Iterator[Drawing]]


def network_input(predictor: DefaultPredictor, image: np.ndarray) -> Tensor:
    """Return a picture as the predictor gives it to its model: resized, in the model's colours.

    Args:
        predictor: says how.
        image: uint8 [H, W, 3], BGR.

    Returns:
        uint8 [3, h, w].
    """
    if predictor.input_format == "RGB":
        image = image[:, :, ::-1]
    resized = predictor.aug.get_transform(image).apply_image(image)
    return torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
