"""Find the pictures that a file of several pages has."""

from pathlib import Path

from . import tiff
from .formats import Format
from .stored import mapped, open_stored

_SUBFILE = 254
# Bits of the tag: a smaller copy of another page, and a mask of one.
_COPY, _MASK = 1, 4


def picture_pages(path: str, wanted: Format) -> list[int]:
    """Return the pages of a TIFF that are pictures, from 1; [1] for any other file.

    Smaller copies and masks of other pages are none, and neither are pages that a model of many
    channels takes as the channels of one picture.

    Args:
        path: of a file; it need not be a picture.
        wanted: the model's format.
    """
    if Path(path).suffix.lower() not in (".tif", ".tiff"):
        return [1]
    try:
        with open(path, "rb") as file:
            if not tiff.is_tiff(file.read(4)):
                return [1]
            file.seek(0)
            stored = open_stored(path, file, wanted)
            if stored is not None and stored.pages == 1:
                return [1]
            pages = tiff.read_pages(mapped(file))
    except Exception:  # whether it is a picture, its reader says
        return [1]
    numbered = enumerate(pages, start=1)
    return [number for number, page in numbered if not page.one(_SUBFILE, 0) & (_COPY | _MASK)]
