"""Keep what was predicted in a file, so that a run which was interrupted can go on.

H W of a picture.
"""

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..tiling.records import RecordFile
from .picture import SavedInstance

_KIND = "solo_family results 1"
JOURNAL = ".results.partial"


@dataclass(frozen=True)
class Known:
    """What is known of a picture or frame.

    Attributes:
        found: the fields of `Picture` that `predicted` returned.
    """

    found: dict[str, Any]


class Journal:
    """The predictions of pictures and frames, appended one by one.

    Args:
        path: of the file.
        key: what predictions depend on: a file of another key is begun anew.
        resumes: use what the file has, and leave it at the end. Otherwise it is begun anew, and
            removed when the run is complete.

    Attributes:
        names: of the files that belong to pictures, in lower case.
    """

    def __init__(self, path: Path, key: str, *, resumes: bool) -> None:
        if not resumes:
            path.unlink(missing_ok=True)
        self._resumes = resumes
        self._records = RecordFile(path, _KIND, key)
        self._places: dict[str, tuple[int, Any]] = {}
        self._names: dict[str, str] = {}
        for place in self._records.places:
            head = json.loads(self._records.read(place).partition(b"\n")[0])
            self._places[head["where"]] = (place, head["stamp"])
            self._names[head["where"]] = head["name"]
        self.names = {name.lower() for name in self._names.values()}

    def find(self, where: dict[str, Any]) -> Known | None:
        """Return what is known of a picture, if its file has not changed; see `append`."""
        place, stamp = self._places.get(_identity(where), (0, None))
        if not self._resumes or stamp is None or stamp != _stamp(where):
            return None
        return Known(_unpacked(self._records.read(place).partition(b"\n")[2]))

    def name_of(self, where: dict[str, Any]) -> str | None:
        """Return the name of the files that belong to a picture, if it has had one."""
        return self._names.get(_identity(where))

    def append(self, where: dict[str, Any], name: str, found: dict[str, Any]) -> None:
        """Keep what was predicted.

        Args:
            where: `file_name`, and perhaps `frame` and `page`; see `ResultWriter.add`. What is no
                file is not kept.
            name: of the files that belong to it.
            found: the fields of `Picture` that `predicted` returns.
        """
        stamp = _stamp(where)
        if stamp is not None:
            head = {"where": _identity(where), "stamp": stamp, "name": name}
            self._records.append(json.dumps(head).encode() + b"\n" + _packed(found))

    def close(self, *, is_complete: bool) -> None:
        """Leave the file to another run, or remove it."""
        if is_complete and not self._resumes:
            self._records.remove()
        else:
            self._records.close()


def _identity(where: dict[str, Any]) -> str:
    path = str(Path(where["file_name"]).absolute())
    return json.dumps([path, where.get("page"), where.get("frame")])


def _stamp(where: dict[str, Any]) -> list[int] | None:
    """Return what changes with a file; None if there is none."""
    path = Path(where["file_name"])
    if not path.is_file():
        return None
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _packed(found: dict[str, Any]) -> bytes:
    arrays: dict[str, Any] = {}
    described: dict[str, Any] = {}
    if found.get("instances") is not None:
        described["instances"] = [_as_text(one) for one in found["instances"]]
    if found.get("labels") is not None:
        arrays["labels"] = found["labels"]
    if found.get("segments") is not None:
        arrays["segments"], described["infos"] = found["segments"]
    arrays["described"] = np.frombuffer(json.dumps(described).encode(), np.uint8)
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _as_text(instance: SavedInstance) -> dict[str, Any]:
    given = asdict(instance)
    counts = given["rle"]["counts"]
    given["rle"]["counts"] = counts.decode() if isinstance(counts, bytes) else counts
    return given


def _unpacked(packed: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    # Without pickles, which can run code.
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        described = json.loads(arrays["described"].tobytes())
        if "labels" in arrays:
            found["labels"] = arrays["labels"]
        if "segments" in arrays:
            found["segments"] = arrays["segments"], described["infos"]
    if "instances" in described:
        found["instances"] = [SavedInstance(**one) for one in described["instances"]]
    return found
