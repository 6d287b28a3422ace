"""Pictures of class indices.

Shape letters: H W of the picture, K classes.
"""

from pathlib import Path

import numpy as np

from .picture import Classes, Picture, disjoint_segments
from .saver import Options, Saver, write_png, written

_VOID, _VOID_16_BIT = 255, 65535


class LabelMap(Saver):
    """Save a PNG of class indices per picture in the folder `label_maps`, with `classes.txt`.

    Pixels without a class are 255, or 65535 in the PNGs of 16 bits that models with more than 255
    classes have. A pixel in several instances has the class of the one with the highest score.
    """

    format = "label-map"
    needs = ("labels", "segments", "instances")

    def __init__(self, output: Path, classes: Classes, options: Options) -> None:
        super().__init__(output, classes, options)
        self._folder = output / "label_maps"
        self._folder.mkdir(exist_ok=True)
        if classes.names:
            with written(self._folder / "classes.txt") as file:
                file.writelines(f"{name}\n" for name in classes.names)

    def write(self, picture: Picture) -> None:
        """Write the PNG of a picture."""
        values = label_values(label_map(picture), len(self.classes.names))
        write_png(self._folder / f"{picture.name}.png", values)


def label_values(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the class of every pixel as files have it.

    Args:
        labels: int [H, W]; -1, or at least K, where there is no class.
        num_classes: K; 0 if unknown.

    Returns:
        uint8 or, of more than 255 classes, uint16 [H, W]; 255 or 65535 where there is no class.
    """
    count = num_classes or int(labels.max(initial=-1)) + 1
    wide = count > _VOID
    known = (labels >= 0) & (labels < count)
    void = _VOID_16_BIT if wide else _VOID
    return np.where(known, labels, void).astype(np.uint16 if wide else np.uint8)


def label_map(picture: Picture) -> np.ndarray:
    """Return the class of every pixel, int64 [H, W]; -1, or at least K, where there is none."""
    if picture.labels is not None:
        return picture.labels
    if picture.segments is not None:
        ids, infos = picture.segments
        pairs = [(int(info["id"]), int(info["category_id"])) for info in infos]
    else:
        instances = picture.instances or []
        ids = disjoint_segments(instances, picture.image.shape[:2])
        pairs = [(number, instance.label) for number, instance in enumerate(instances, start=1)]
    classes = np.full(max([int(ids.max(initial=0)), *(pair[0] for pair in pairs)]) + 1, -1)
    for number, label in pairs:
        classes[number] = label
    return classes[np.maximum(ids, 0)]
