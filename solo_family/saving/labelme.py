"""labelme's format: a json beside each picture."""

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .outlines import outline
from .picture import Classes, Picture, SavedInstance
from .saver import Options, Saver, copy_picture, refuse_existing, written

# The oldest version of labelme whose files have shapes of the kind "mask".
_VERSION = "5.3.0"


class Labelme(Saver):
    """Save labelme's files in the folder `labelme`, with copies of the pictures beside them.

    The parts of an object have one `group_id`. An object with holes is a shape of the kind "mask",
    because labelme's polygons have none.
    """

    format = "labelme"

    def __init__(self, output: Path, classes: Classes, options: Options) -> None:
        super().__init__(output, classes, options)
        self._folder = output / "labelme"
        self._folder.mkdir(exist_ok=True)

    def write(self, picture: Picture) -> None:
        """Write the json of a picture, and copy the picture."""
        file_name = self._folder / f"{picture.name}.json"
        if picture.is_known and file_name.exists():
            return  # perhaps corrected since
        refuse_existing(file_name)
        shapes = [
            shape
            for number, instance in enumerate(picture.instances or [], start=1)
            for shape in self._shapes(instance, number)
        ]
        content: dict[str, Any] = {
            "version": _VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": copy_picture(picture, self._folder),
            "imageData": None,
            "imageHeight": picture.size["height"],
            "imageWidth": picture.size["width"],
        }
        with written(file_name) as file:
            json.dump(content, file, ensure_ascii=False, indent=2)

    def _shapes(self, instance: SavedInstance, number: int) -> list[dict[str, Any]]:
        common: dict[str, Any] = {
            "label": self.classes.name(instance.label),
            "group_id": None,
            "description": f"score {instance.score:.3f}",
            "flags": {},
            "mask": None,
        }
        parts = outline(instance.rle, self.options.polygon_tolerance)
        if any(part.holes for part in parts):
            return [common | _mask_shape(instance)]
        if len(parts) > 1:
            common["group_id"] = number
        return [common | {"shape_type": "polygon", "points": part.outer.tolist()} for part in parts]


def _mask_shape(instance: SavedInstance) -> dict[str, Any]:
    mask, left, top = instance.crop()
    height, width = mask.shape
    encoded = cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()
    return {
        "shape_type": "mask",
        "points": [[left, top], [left + width - 1, top + height - 1]],
        "mask": base64.b64encode(encoded).decode(),
    }
