"""The colours of classes, which are the same in all pictures that are drawn."""

import numpy as np
from detectron2.data import Metadata
from detectron2.utils.colormap import colormap


def colour_table(count: int) -> np.ndarray:
    """Return as many colours, BGR, float [count, 3] of 0 to 255; they repeat."""
    table = colormap(rgb=False, maximum=255)
    return table[np.arange(count) % len(table)]


def with_class_colours(metadata: Metadata) -> Metadata:
    """Return metadata that have a colour for each class of pixels: those of `colour_table`.

    detectron2 draws classes without one in random colours, which are others in each picture and in
    each frame of a video.
    """
    count = len(metadata.get("stuff_classes") or [])
    if len(metadata.get("stuff_colors") or []) >= count:
        return metadata
    content = metadata.as_dict()
    content.pop("name", None)
    return Metadata(**content | {"stuff_colors": colour_table(count)[:, ::-1].tolist()})
