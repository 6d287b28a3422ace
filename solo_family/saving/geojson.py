"""GeoJSON, as QuPath and programs for maps read it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from .outlines import Part, outline
from .picture import Classes, Picture, SavedInstance
from .saver import JsonList, Options, Saver, written


class GeoJson(Saver):
    """Save a `.geojson` per picture in the folder `geojson`, with coordinates in pixels.

    Each feature has the properties `class`, `score` and `area_px`, and those that QuPath reads:
    `objectType`, `classification` and `measurements`.
    """

    format = "geojson"

    def __init__(self, output: Path, classes: Classes, options: Options) -> None:
        super().__init__(output, classes, options)
        self._folder = output / "geojson"
        self._folder.mkdir(exist_ok=True)

    def write(self, picture: Picture) -> None:
        """Write the file of a picture."""
        with written(self._folder / f"{picture.name}.geojson") as file:
            file.write('{"type": "FeatureCollection", "features": ')
            features = JsonList(file)
            for instance in picture.instances or []:
                parts = outline(instance.rle, self.options.polygon_tolerance)
                if parts:
                    features.append(self._feature(instance, parts))
            features.close()
            file.write(f', "picture": {json.dumps(picture.file_name)}}}\n')

    def _feature(self, instance: SavedInstance, parts: list[Part]) -> dict[str, Any]:
        pixels = instance.area
        measurements = {"score": instance.score, "area_px": pixels}
        if size := self.options.pixel_size:
            measurements[size.key] = size.area(pixels)
        name = self.classes.name(instance.label)
        qupath = {"objectType": "detection", "classification": {"name": name}}
        return {
            "type": "Feature",
            "geometry": geometry(parts),
            "properties": {"class": name, **measurements, **qupath, "measurements": measurements},
        }


def geometry(parts: list[Part]) -> dict[str, Any]:
    """Return a Polygon, or a MultiPolygon of several parts."""
    polygons = [[_closed(ring) for ring in part.rings] for part in parts]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _closed(ring: np.ndarray) -> list[list[float]]:
    points = ring.tolist()
    return [*points, points[0]]
