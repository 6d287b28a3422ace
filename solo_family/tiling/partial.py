"""Keep the results of finished tiles in a file, so that an interrupted image can be gone on with.

K classes, h w of a tile.
"""

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..ops.runs import Runs, box_of
from .matching import TileObject
from .records import RecordFile

_KIND = "solo_family tiles 1"


class TileResult(NamedTuple):
    """What a model says of one tile.

    Attributes:
        objects: its instances, in pixels of the image; None if it predicts none.
        panoptic: ids of segments, int [h, w], and their infos; None if it predicts none.
        sem_seg: scores, [K, h, w]; None if it predicts none.
    """

    objects: list[TileObject] | None
    panoptic: tuple[Tensor, list[dict[str, Any]]] | None
    sem_seg: Tensor | None


class PartialFile:
    """The results of finished tiles, appended one by one.

    What a killed process has left unfinished at its end is dropped. Semantic scores are not kept,
    which would take K times four bytes for each pixel: an image that has some begins anew.

    Args:
        path: of the file, which `remove` deletes.
        key: what the results depend on: a file of another key is begun anew.
        height: of the image.

    Attributes:
        finished: the results that the file had, by the index of their tiles.
    """

    def __init__(self, path: Path, key: str, height: int) -> None:
        self._records = RecordFile(path, _KIND, key)
        unpacked = (_unpack(self._records.read(place), height) for place in self._records.places)
        self.finished: dict[int, TileResult] = dict(unpacked)

    def append(self, index: int, result: TileResult) -> None:
        """Keep a tile's result."""
        if result.sem_seg is not None:
            return
        self._records.append(_pack(index, result))

    def close(self) -> None:
        """Leave the file for another run."""
        self._records.close()

    def remove(self) -> None:
        """Delete the file: the image is finished."""
        self._records.remove()


def _pack(index: int, result: TileResult) -> bytes:
    arrays: dict[str, Any] = {"index": index}
    if result.objects is not None:
        found = result.objects
        none = np.zeros(0, np.int64)
        arrays |= {
            "counts": np.array([len(one.runs.starts) for one in found], np.int64),
            "starts": np.concatenate([none, *(one.runs.starts for one in found)]),
            "stops": np.concatenate([none, *(one.runs.stops for one in found)]),
            "scores": np.array([one.score for one in found], np.float64),
            "labels": np.array([one.label for one in found], np.int64),
            "are_cut": np.array([one.is_cut for one in found], bool),
        }
    if result.panoptic is not None:
        segments, infos = result.panoptic
        arrays["segments"] = segments.numpy()
        arrays["infos"] = np.frombuffer(json.dumps(infos).encode(), np.uint8)
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _unpack(payload: bytes, height: int) -> tuple[int, TileResult]:
    objects = panoptic = None
    # Without pickles, which can run code.
    with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
        index = int(arrays["index"])
        if "counts" in arrays:
            objects = _objects(index, arrays, height)
        if "segments" in arrays:
            infos = json.loads(arrays["infos"].tobytes())
            panoptic = torch.from_numpy(arrays["segments"]), infos
    return index, TileResult(objects, panoptic, None)


def _objects(index: int, arrays: Any, height: int) -> list[TileObject]:
    ends = arrays["counts"].cumsum()[:-1]
    parts = [np.split(arrays[name], ends) for name in ("starts", "stops")]
    masks = [Runs(*pair) for pair in zip(*parts)][: len(arrays["counts"])]
    values = [arrays[name].tolist() for name in ("scores", "labels", "are_cut")]
    return [
        TileObject(index, runs, box_of(runs, height), runs.area, score, label, is_cut)
        for runs, score, label, is_cut in zip(masks, *values)
    ]
