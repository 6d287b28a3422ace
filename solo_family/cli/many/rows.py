"""The table of results: a row per picture.

Shape letters: N instances, H W of the picture.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ...data.formats.label_maps import encode_ids
from ...errors import first_line
from ...saving.label_map import label_values
from ...saving.picture import Classes, Picture, SavedInstance
from ..batches import Item

if TYPE_CHECKING:
    import pyarrow as pa


@cache
def schema() -> "pa.Schema":
    """Return the columns.

    Those of results that a model does not predict are null, and so are all of them where there is
    an error. The lists of N have an item per instance, in descending order of scores.
    """
    import pyarrow as pa

    segment = pa.struct(
        {
            "id": pa.int32(),
            "label": pa.int32(),
            "class_id": pa.int64(),
            "class_name": pa.string(),
            "is_thing": pa.bool_(),
            "score": pa.float32(),
        }
    )
    mask = pa.struct({"size": pa.list_(pa.int32()), "counts": pa.string()})
    return pa.schema(
        {
            "image_id": pa.int64(),  # position in the input, from 1
            "file_name": pa.string(),
            "page": pa.int32(),  # of a TIFF of several pictures, from 1
            "height": pa.int32(),
            "width": pa.int32(),
            "error": pa.string(),  # why there is no result
            "labels": pa.list_(pa.int32()),  # [N], the indices of classes in the model's outputs
            "class_ids": pa.list_(pa.int64()),  # [N], in the dataset the model was trained on
            "class_names": pa.list_(pa.string()),  # [N]
            "scores": pa.list_(pa.float32()),  # [N], 0 to 1
            "boxes": pa.list_(pa.list_(pa.float64())),  # [N, 4], x, y, width, height in pixels
            "masks": pa.list_(mask),  # [N], COCO's compressed RLE
            "label_map": pa.binary(),  # a PNG of class indices, [H, W]; see `label_values`
            "panoptic": pa.binary(),  # a PNG of segment ids, [H, W], in COCO's panoptic format
            "segments": pa.list_(segment),
        }
    )


def error_row(item: Item) -> dict[str, Any]:
    """Return the row of a picture that has no result, because of `item.error`."""
    return _place(item) | {"error": _text(first_line(item.error or Exception()))}


def result_row(item: Item, found: Mapping[str, Any], classes: Classes) -> dict[str, Any]:
    """Return the row of a picture.

    Args:
        item: the picture, which was read.
        found: the fields of `Picture` that `predicted` returns.
        classes: of the model.
    """
    row = _place(item)
    if found.get("instances") is not None:
        row |= _instances(found["instances"], classes)
    if found.get("labels") is not None:
        row["label_map"] = _png(label_values(found["labels"], len(classes.names)))
    if found.get("segments") is not None:
        ids, infos = found["segments"]
        row["panoptic"] = _png(encode_ids(ids)[:, :, ::-1])
        row["segments"] = [_segment(info, classes) for info in infos]
    return row


def as_table(rows: Sequence[dict[str, Any]]) -> "pa.Table":
    """Return rows as a table with all columns."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), schema())


def as_picture(row: Mapping[str, Any], name: str) -> Picture:
    """Return a row without an error as a picture whose pixels are black.

    Args:
        row: of a table, as Python's own types.
        name: in files of results.
    """
    # All its pixels are the same byte of memory.
    image = np.broadcast_to(np.zeros((), np.uint8), (row["height"], row["width"], 3))
    where = {"file_name": row["file_name"]}
    if row["page"] is not None:
        where["page"] = row["page"]
    return Picture(
        image_id=row["image_id"],
        name=Path(name).stem,
        file_name=name,
        path=Path(name),
        where=where,
        image=image,
        instances=None if row["labels"] is None else _saved_instances(row),
    )


def describe_classes(classes: Classes) -> dict[bytes, bytes]:
    """Return the classes as the metadata of a Parquet file."""
    return {b"solo_family.classes": json.dumps(classes.categories()).encode()}


def _text(text: str) -> str:
    """Return text with bytes that are no letters, as names of files may have them, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _place(item: Item) -> dict[str, Any]:
    source = item.source
    file_name = _text(source.file_name)
    place = {"image_id": item.image_id, "file_name": file_name, "page": source.page}
    if item.image is None:
        return place
    height, width = item.image.shape[:2]
    return place | {"height": height, "width": width}


def _instances(instances: Sequence[SavedInstance], classes: Classes) -> dict[str, Any]:
    return {
        "labels": [one.label for one in instances],
        "class_ids": [classes.id(one.label) for one in instances],
        "class_names": [classes.name(one.label) for one in instances],
        "scores": [one.score for one in instances],
        "boxes": [one.box for one in instances],
        "masks": [_mask(one.rle) for one in instances],
    }


def _mask(rle: Mapping[str, Any]) -> dict[str, Any]:
    counts = rle["counts"]
    text = counts.decode() if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in rle["size"]], "counts": text}


def _saved_instances(row: Mapping[str, Any]) -> list[SavedInstance]:
    columns = zip(row["labels"], row["scores"], row["boxes"], row["masks"], strict=True)
    return [SavedInstance(*one) for one in columns]


def _segment(info: Mapping[str, Any], classes: Classes) -> dict[str, Any]:
    label = int(info["category_id"])
    return {
        "id": int(info["id"]),
        "label": label,
        "class_id": classes.id(label),
        "class_name": classes.name(label),
        "is_thing": bool(info.get("isthing", True)),
        "score": info.get("score"),
    }


def _png(values: np.ndarray) -> bytes:
    is_encoded, content = cv2.imencode(".png", values)
    assert is_encoded
    return content.tobytes()
