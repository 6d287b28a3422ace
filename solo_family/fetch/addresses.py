"""Addresses of weights, as detectron2 takes them: http(s), and detectron2:// for its own files."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from .download import download

_DETECTRON2 = "detectron2://"
_ITS_HOST = "https://dl.fbaipublicfiles.com/detectron2/"
_LONGEST_NAME = 250  # detectron2 gives longer names another form


def is_address(text: str) -> bool:
    """Return whether a text is an address that `fetch_address` downloads."""
    return text.startswith(("http://", "https://", _DETECTRON2))


def fetch_address(text: str) -> Path | None:
    """Download a file to where detectron2 looks for it, unless it is there.

    detectron2's own download can neither be resumed nor forbidden.

    Args:
        text: an address.

    Returns:
        The file in detectron2's cache; None for a name that is left to detectron2.

    Raises:
        DataError: see `download`.
    """
    from iopath.common.file_io import get_cache_dir

    address = text.partition("?")[0]  # what follows is for detectron2's checkpointer
    if address.startswith(_DETECTRON2):
        address = _ITS_HOST + address.removeprefix(_DETECTRON2)
    folder, name = os.path.split(urlsplit(address).path.lstrip("/"))
    if not name or len(name) > _LONGEST_NAME:
        return None
    return download(address, Path(get_cache_dir(), folder, name))
