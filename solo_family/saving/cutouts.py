"""Each instance as a picture of its own."""

import re
from pathlib import Path

import numpy as np

from .picture import Classes, Picture
from .saver import Options, Saver, write_png


class Cutouts(Saver):
    """Save a PNG per instance in the folder `cutouts`: its box, transparent outside its mask."""

    format = "cutouts"

    def __init__(self, output: Path, classes: Classes, options: Options) -> None:
        super().__init__(output, classes, options)
        self._folder = output / "cutouts"
        self._folder.mkdir(exist_ok=True)

    def write(self, picture: Picture) -> None:
        """Write the instances of a picture."""
        for number, instance in enumerate(picture.instances or [], start=1):
            mask, left, top = instance.crop()
            if not mask.size:
                continue
            height, width = mask.shape
            colours = picture.image[top : top + height, left : left + width]
            alpha = mask[:, :, None].astype(np.uint8) * 255
            label = re.sub(r"[^\w-]+", "_", self.classes.name(instance.label))
            name = f"{picture.name}_{number:04d}_{label}.png"
            write_png(self._folder / name, np.concatenate([colours, alpha], axis=2))
