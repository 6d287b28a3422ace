"""The files that the page offers for download: one file, or a zip of several."""

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from detectron2.utils.video_visualizer import VideoVisualizer

from ...errors import ConfigError, DataError
from ...predictor.drawing import draw_predictions, write_picture
from ...predictor.predictions import Predictions
from ...saving.coco import CocoDataset, CocoResults, CocoRleDataset
from ...saving.cutouts import Cutouts
from ...saving.geojson import GeoJson
from ...saving.label_map import LabelMap
from ...saving.labelme import Labelme
from ...saving.names import Names
from ...saving.panoptic import Panoptic
from ...saving.picture import Classes, Picture, predicted
from ...saving.saver import Saver
from ...saving.table import Table
from ...saving.writer import PICTURES
from ...saving.yolo import Yolo
from ..source import Source
from .drawing import draw
from .model import WebModel
from .rows import Row

PNG, NAMED = "png", PICTURES
_SAVERS: dict[type[Saver], str] = {
    CocoDataset: "COCO with polygons (json)",
    CocoRleDataset: "COCO with exact masks (json)",
    CocoResults: "COCO results (json)",
    Labelme: "labelme",
    Yolo: "YOLO",
    GeoJson: "GeoJSON",
    Table: "table (csv)",
    LabelMap: "label map (png)",
    Panoptic: "COCO panoptic",
    Cutouts: "cutouts (png)",
}
# What can be downloaded, and its name on the page.
KINDS: dict[str, str] = {
    PNG: "as shown (png)",
    NAMED: "classes and scores drawn (png)",
    **{saver.format: name for saver, name in _SAVERS.items()},
}
# Suffixes of files that a zip can't make smaller.
_PACKED = frozenset({".png", ".jpg", ".jpeg", ".webp"})


@dataclass(frozen=True)
class Saved:
    """A picture whose results are saved.

    Attributes:
        source: its file.
        predictions: what is saved.
        rows: of the predictions.
        image: uint8 [H, W, 3], BGR.
    """

    source: Source
    predictions: Predictions
    rows: list[Row]
    image: np.ndarray


def kinds_for(predictions: Predictions) -> list[str]:
    """Return the kinds of `KINDS` that can have what a model predicts."""
    there = {
        "instances": "instances" in predictions or "panoptic_seg" in predictions,
        "labels": "sem_seg" in predictions,
        "segments": "panoptic_seg" in predictions,
    }
    savers = [one.format for one in _SAVERS if any(there[need] for need in one.needs)]
    return [PNG, NAMED, *savers]


def write_download(kind: str, pictures: Iterable[Saved], folder: Path, model: WebModel) -> Path:
    """Write the results of pictures in one format.

    Args:
        kind: one of `KINDS`.
        pictures: whose names need not differ.
        folder: empty.
        model: with its options of saving.

    Returns:
        The only file that was written, or a zip of all.

    Raises:
        ConfigError: there is no such kind, or it can't have what the model predicts.
        DataError: a file can't be written, or there is nothing to write.
    """
    content = folder / kind
    content.mkdir()
    if kind in (PNG, NAMED):
        _write_pictures(kind, pictures, content, model)
    else:
        _save(kind, pictures, content, model)
    files = sorted(path for path in content.rglob("*") if path.is_file())
    if not files:
        raise DataError("There is nothing to save: no object is shown.")
    if len(files) == 1:
        return files[0]
    packed = folder / f"{kind}.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in files:
            how = zipfile.ZIP_STORED if file.suffix in _PACKED else zipfile.ZIP_DEFLATED
            archive.write(file, file.relative_to(content), how)
    return packed


def _save(kind: str, pictures: Iterable[Saved], folder: Path, model: WebModel) -> None:
    savers = [saver for saver in _SAVERS if saver.format == kind]
    if not savers:
        raise ConfigError(f"The format is {kind!r}; save as one of: {', '.join(KINDS)}.")
    names = Names()
    with savers[0](folder, Classes(model.model.metadata), model.options) as saver:
        for number, one in enumerate(pictures, start=1):
            source = one.source
            # Of a page of several, and of a file, the name that the user knows it by.
            file_name = source.own_name or Path(source.file_name).name
            picture = Picture(
                image_id=number,
                name=names.new(Path(source.name).stem),
                file_name=file_name,
                path=None if source.own_name else source.path,
                where=source.where() | {"file_name": file_name},
                image=one.image,
                **predicted(one.predictions),
            )
            saver.add(picture)


def _write_pictures(kind: str, pictures: Iterable[Saved], folder: Path, model: WebModel) -> None:
    metadata, names = model.model.metadata, Names()
    for picture in pictures:
        if kind == PNG:
            size = picture.image.shape[:2]
            drawn = draw(picture.image, picture.predictions, picture.rows, metadata, size)
        else:
            drawn = draw_predictions(VideoVisualizer(metadata), picture.image, picture.predictions)
        write_picture(folder / f"{names.new(Path(picture.source.name).stem)}.png", drawn)
