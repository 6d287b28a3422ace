"""Reading of JSON, gzipped or not; a file that is something else is named as what it is."""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

_GZIP = b"\x1f\x8b"
_TOOLS_XML = {
    b"<annotations": "it is CVAT's XML; export the task again as COCO",
    b"<annotation": "it is an XML of VOC's, which has boxes and no masks",
}
# How a file begins that is no JSON, what it is then, and what to do.
_OTHERS = {
    b"PK\x03\x04": "it is a zip archive; unpack it, and name the json in it",
    b"BZh": "it is compressed by bzip2; unpack it with bunzip2",
    b"\xfd7zXZ": "it is compressed by xz; unpack it with unxz",
    b"\x28\xb5\x2f\xfd": "it is compressed by zstd; unpack it with unzstd",
    b"\x93NUMPY": "it is an array of numpy's",
    b"\x89PNG": "it is a picture, in PNG",
    b"\xff\xd8\xff": "it is a picture, in JPEG",
    b"version https://git-lfs": "it is a pointer of Git LFS; fetch the file with `git lfs pull`",
    b"<": "it is XML or HTML, perhaps a page that was saved in place of the file",
}


class NotJson(ValueError):
    """Say what a file is that is no JSON, as the middle of a sentence."""


def parse_json(file: BinaryIO, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Return the content of a JSON file, in any of the encodings of JSON, gzipped or not.

    Args:
        file: open for reading.
        object_hook: see `json.loads`.

    Raises:
        NotJson: it is something else, or damaged.
        OSError: it can't be read.
    """
    encoded = file.read()
    if encoded.startswith(_GZIP):
        encoded = _unpacked(encoded)
    start = encoded[:64].lstrip()
    head = encoded[:512] if start.startswith(b"<") else b""
    try:
        text = encoded.decode(json.detect_encoding(encoded))
        del encoded  # halves the memory during parsing
        return json.loads(text.removeprefix("\ufeff"), object_hook=object_hook)
    except (ValueError, RecursionError) as error:  # ValueError: invalid JSON, or a huge number
        known = [words for element, words in _TOOLS_XML.items() if element in head]
        known += [words for beginning, words in _OTHERS.items() if start.startswith(beginning)]
        raise NotJson(next(iter(known), str(error) if start else "it is empty")) from error


def _unpacked(encoded: bytes) -> bytes:
    try:
        return gzip.decompress(encoded)
    except (OSError, EOFError, zlib.error) as error:
        raise NotJson(f"it is a gzip archive that is cut off or damaged ({error})") from error
