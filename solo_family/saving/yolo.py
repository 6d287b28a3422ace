"""The segmentation format of Ultralytics YOLO: a text file per picture."""

from pathlib import Path

import yaml

from .outlines import join, outline
from .picture import Classes, Picture
from .saver import Options, Saver, copy_picture, refuse_existing, written


class Yolo(Saver):
    """Save a dataset in the folder `yolo`: `data.yaml`, `images` and `labels`.

    A line has the class and the outline of an object. Its holes and parts are connected by lines of
    no width, as Ultralytics' own converter does.
    """

    format = "yolo"

    def __init__(self, output: Path, classes: Classes, options: Options) -> None:
        super().__init__(output, classes, options)
        self._folder = output / "yolo"
        for name in ("images", "labels"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self._most = -1

    def write(self, picture: Picture) -> None:
        """Write the text file of a picture, and copy the picture."""
        labels = self._folder / "labels" / f"{picture.name}.txt"
        self._most = max([self._most, *(one.label for one in picture.instances or [])])
        if picture.is_known and labels.exists():
            return  # perhaps corrected since
        refuse_existing(labels)
        copy_picture(picture, self._folder / "images")
        size = [picture.size["width"], picture.size["height"]]
        with written(labels) as file:
            for instance in picture.instances or []:
                ring = join(outline(instance.rle, self.options.polygon_tolerance))
                if len(ring):
                    shares = " ".join(f"{share:.7g}" for share in (ring / size).ravel())
                    file.write(f"{instance.label} {shares}\n")

    def finish(self) -> None:
        """Write `data.yaml`, which names the classes."""
        count = max(len(self.classes.names), self._most + 1)
        content = {
            "train": "images",
            "val": "images",
            "names": {label: self.classes.name(label) for label in range(count)},
        }
        with written(self._folder / "data.yaml") as file:
            yaml.safe_dump(content, file, sort_keys=False, allow_unicode=True)
