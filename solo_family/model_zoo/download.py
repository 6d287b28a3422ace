"""Fetches a file once: with progress, going on where it stopped, checked, whole or not there."""

import hashlib
import logging
import os
import time
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from ..errors import DataError, first_line

logger = logging.getLogger(__name__)

_CHUNK = 2**20
_ATTEMPTS = 3
_TIMEOUT = 30  # seconds without a byte
_SECONDS_PER_MESSAGE = 5.0
CACHE_VARIABLE = "SOLO_FAMILY_CACHE"


def cache_folder() -> Path:
    """Return `$SOLO_FAMILY_CACHE`, or `solo_family` in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "solo_family"
    return Path(os.environ.get(CACHE_VARIABLE) or default).expanduser()


def download(address: str, path: Path, checksum: str = "") -> Path:
    """Fetch a file unless it is there.

    A connection that breaks is taken up again where it stopped. What there is of a file then is
    `path` with `.part` at its end; the next call goes on from it.

    Args:
        address: http or https.
        path: of the file.
        checksum: how its hash begins, "sha256:..." or "md5:..."; "" if it is not known.

    Returns:
        `path`.

    Raises:
        DataError: there is no network, no such file there, no writing here, or it is another file.
    """
    if path.is_file():
        return path
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.open("ab").close()
    except OSError as error:
        raise DataError(
            f"{path.parent} can't be written ({first_line(error)}): name another folder for "
            f"downloads in the environment variable {CACHE_VARIABLE}."
        ) from error
    try:
        _fetch(address, part)
        _check(address, part, checksum)
        part.replace(path)
    finally:
        if part.is_file() and part.stat().st_size == 0:
            part.unlink()
    return path


def _fetch(address: str, part: Path) -> None:
    reason = ""
    for attempt in range(_ATTEMPTS):
        try:
            if _receive(address, part):
                return
            reason = "the connection broke"
        except urllib.error.HTTPError as error:
            part.unlink(missing_ok=True)
            raise DataError(
                f"{address} is not there any more ({error.code} {error.reason}). Look for the file "
                "at its authors' page, see docs/model_zoo.md, and convert it."
            ) from error
        except urllib.error.URLError as error:
            raise DataError(
                f"{address} can't be reached ({error.reason}): is there a network? A file that was "
                "fetched elsewhere is taken by `python -m solo_family convert`."
            ) from error
        except (HTTPException, ConnectionError, TimeoutError) as error:
            reason = first_line(error)
        logger.warning(f"{reason}; going on from {_megabytes(part)} ({attempt + 1}/{_ATTEMPTS})")
    raise DataError(
        f"{address}: interrupted {_ATTEMPTS} times ({reason}) after {_megabytes(part)}. "
        "Call again to go on from there."
    )


def _receive(address: str, part: Path) -> bool:
    """Append to `part` what is missing, and return whether the file is then complete."""
    done = part.stat().st_size
    headers = {"User-Agent": "solo_family", "Range": f"bytes={done}-"} if done else {}
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        if response.headers.get_content_type() == "text/html":
            raise DataError(
                f"{address} gives a web page, not a file: it has moved. Look for it at its "
                "authors' page, see docs/model_zoo.md, and convert it."
            )
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        total = None if length is None else int(length) + (done if resumed else 0)
        _write(response, part, done if resumed else 0, total)
    return total is None or part.stat().st_size == total


def _write(response: HTTPResponse, part: Path, done: int, total: int | None) -> None:
    begin = last = time.monotonic()
    start = done
    with open(part, "ab" if done else "wb") as file:
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            now = time.monotonic()
            if now - last > _SECONDS_PER_MESSAGE and total:
                last = now
                rest = (total - done) * (now - begin) / (done - start)
                logger.info(f"{done / total:.0%} of {total / 1e6:.0f} MB, {rest:.0f} s left")


def _check(address: str, part: Path, checksum: str) -> None:
    if not checksum:
        logger.warning(f"{address}: no checksum is published, so none was compared")
        return
    kind, expected = checksum.split(":")
    with open(part, "rb") as file:
        actual = hashlib.file_digest(file, kind).hexdigest()
    if not actual.startswith(expected):
        part.unlink()
        raise DataError(
            f"{address} is another file than the published one: its {kind} is {actual}, not "
            f"{expected}... It was removed; call again, and if it stays so, don't use it."
        )


def _megabytes(path: Path) -> str:
    size = path.stat().st_size if path.is_file() else 0
    return f"{size / 1e6:.1f} MB"
