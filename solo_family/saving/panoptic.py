"""COCO's panoptic format: a json, and a PNG of segment ids per picture."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..data.formats.label_maps import encode_ids
from .picture import Classes, Picture, disjoint_segments
from .saver import JsonList, Options, Saver, write_png


class Panoptic(Saver):
    """Save `panoptic.json`, and the PNGs in the folder `panoptic`.

    Of a semantic model each class in a picture is one segment, of stuff. Instances are made
    disjoint: a pixel belongs to the one with the highest score.
    """

    format = "panoptic"
    needs = ("segments", "instances", "labels")

    def __init__(self, output: Path, classes: Classes, options: Options) -> None:
        super().__init__(output, classes, options)
        self._folder = output / "panoptic"
        self._folder.mkdir(exist_ok=True)
        self._json = self.open(output / "panoptic.json")
        self._json.write('{"annotations": ')
        self._annotations = JsonList(self._json)
        self._images: list[dict[str, Any]] = []
        self._is_thing: dict[int, bool] = {}
        self._is_semantic = False

    def write(self, picture: Picture) -> None:
        """Write the PNG and the segments of a picture."""
        ids, infos = self._segments(picture)
        # Numbered again from 1, without those that cover nothing.
        numbers = np.zeros_like(ids)
        segments: list[dict[str, Any]] = []
        for info in infos:
            mask = ids == info["id"]
            area = int(mask.sum())
            if area:
                numbers[mask] = len(segments) + 1
                segments.append(self._segment(info, len(segments) + 1, mask, area))
        file_name = f"{picture.name}.png"
        write_png(self._folder / file_name, encode_ids(numbers)[:, :, ::-1])
        self._images.append({"id": picture.image_id, "file_name": picture.file_name} | picture.size)
        self._annotations.append(
            {"image_id": picture.image_id, "file_name": file_name, "segments_info": segments}
        )

    def _segments(self, picture: Picture) -> tuple[np.ndarray, list[dict[str, Any]]]:
        if picture.segments is not None:
            return picture.segments
        if picture.instances is not None:
            found = picture.instances
            infos = [
                {"id": number, "category_id": one.label, "isthing": True, "score": one.score}
                for number, one in enumerate(found, start=1)
            ]
            return disjoint_segments(found, picture.image.shape[:2]), infos
        assert picture.labels is not None
        self._is_semantic = True
        labels = [int(label) for label in np.unique(picture.labels)]
        known = [label for label in labels if label < (len(self.classes.names) or label + 1)]
        infos = [{"id": label + 1, "category_id": label, "isthing": False} for label in known]
        return picture.labels + 1, infos

    def _segment(
        self, info: dict[str, Any], number: int, mask: np.ndarray, area: int
    ) -> dict[str, Any]:
        label = int(info["category_id"])
        self._is_thing[label] = bool(info.get("isthing", True))
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        left, top = int(columns[0]), int(rows[0])
        box = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
        score = {"score": float(info["score"])} if "score" in info else {}
        return {
            "id": number,
            "category_id": self.classes.id(label),
            "area": area,
            "bbox": box,
            "iscrowd": 0,
        } | score

    def finish(self) -> None:
        """Write the images and categories."""
        self._annotations.close()
        labels = sorted({*range(len(self.classes.names)), *self._is_thing})
        categories = [
            {
                "id": self.classes.id(label),
                "name": self.classes.name(label),
                "isthing": int(self._thing(label)),
            }
            for label in labels
        ]
        self._json.write(f',\n"images": {json.dumps(self._images)}')
        self._json.write(f',\n"categories": {json.dumps(categories)}}}\n')

    def _thing(self, label: int) -> bool:
        unseen = not self._is_semantic and self.classes.is_thing(label)
        return self._is_thing.get(label, unseen)
