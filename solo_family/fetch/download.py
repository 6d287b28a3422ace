"""Download of a file: with progress, resumption after an interruption, and a check of its hash."""

import logging
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from filelock import FileLock

from ..errors import DataError, first_line
from .cache import CACHE_VARIABLE, offline
from .checksums import actual_hash

logger = logging.getLogger(__name__)

_CHUNK = 2**20
_ATTEMPTS = 3
_TIMEOUT = 30  # seconds to wait for the next byte
_SECONDS_PER_MESSAGE = 5.0
# Answers after which the same request may succeed.
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
_RANGE_REFUSED = 416


def download(
    address: str, path: Path, checksum: str = "", headers: Mapping[str, str] | None = None
) -> Path:
    """Download a file, unless it exists.

    An interrupted download is resumed. The incomplete file is `path` with `.part` appended, from
    which a later call continues. Of several processes one downloads, and the others wait for it.

    Args:
        address: an http or https URL.
        path: where to write the file.
        checksum: the beginning of the file's hash, "sha256:...", "md5:..." or "git:..."; "" if it
            is unknown.
        headers: of the request, for this host alone: a redirection to another gets none of them.

    Returns:
        `path`.

    Raises:
        DataError: requests are forbidden, the address can't be reached or has no such file, the
            file can't be written, or its hash is wrong.
    """
    if path.is_file():
        return path
    shown = _shown(address)
    forbidden = offline()
    if forbidden:
        raise DataError(
            f"{shown} is not in the cache ({path}), and {forbidden} forbids to download it. "
            "Unset that variable, or copy the file there from another machine."
        )
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.open("ab").close()
    except OSError as error:
        raise DataError(
            f"{path.parent} can't be written to ({first_line(error)}). Set the environment "
            f"variable {CACHE_VARIABLE} to another folder for downloads."
        ) from error
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.is_file():  # another process has downloaded it
            return path
        try:
            _fetch(address, part, headers or {})
            _check(address, part, checksum)
            part.replace(path)
        finally:
            if part.is_file() and part.stat().st_size == 0:
                part.unlink()
    return path


def _fetch(address: str, part: Path, headers: Mapping[str, str]) -> None:
    reason, shown = "", _shown(address)
    for attempt in range(_ATTEMPTS):
        try:
            if _receive(address, part, headers):
                return
            reason = "the connection was closed"
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.reason}"
            if error.code == _RANGE_REFUSED:
                part.unlink(missing_ok=True)  # it is no beginning of the file that is there now
            elif error.code not in _TEMPORARY:
                part.unlink(missing_ok=True)
                raise DataError(
                    f"{shown} does not exist any more ({reason}). Look for the "
                    "file on the page of its authors (docs/model_zoo.md), download it there, and "
                    "run `python -m solo_family convert` on it."
                ) from error
        except urllib.error.URLError as error:
            raise DataError(
                f"{shown} can't be reached ({error.reason}). Check the network; or download the "
                f"file on another machine, and copy it to {part.with_suffix('')}."
            ) from error
        except (HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
            reason = first_line(error)
        logger.warning(
            f"Download interrupted: {reason}. Resuming after {_megabytes(part)} "
            f"({attempt + 1}/{_ATTEMPTS})"
        )
    raise DataError(
        f"{shown}: the download was interrupted {_ATTEMPTS} times ({reason}) after "
        f"{_megabytes(part)}. Run the same command again to resume it."
    )


def _receive(address: str, part: Path, headers: Mapping[str, str]) -> bool:
    """Append the missing bytes to `part`, and return whether the file is complete then."""
    done = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(address, headers={"User-Agent": "solo_family"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        if response.headers.get_content_type() == "text/html":
            shown = _shown(address)
            raise DataError(
                f"{shown} is a web page and not a file any more. Look for the file on the page "
                "of its authors (docs/model_zoo.md), download it there, and run "
                "`python -m solo_family convert` on it."
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
    shown = _shown(address)
    if not checksum:
        logger.warning(f"{shown}: no checksum is published, so the file was not verified")
        return
    kind, expected = checksum.split(":")
    actual = actual_hash(part, kind)
    if not actual.startswith(expected):
        part.unlink()
        raise DataError(
            f"{shown} is not the published file: its {kind} is {actual}, and does not begin with "
            f"{expected}. The download was deleted. Run the same command again; if the hash is "
            "wrong again, don't use the file."
        )


def _shown(address: str) -> str:
    """Return an address for messages: without what lets its reader download the file, too."""
    parts = urlsplit(address)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=place, query="", fragment=""))


def _megabytes(path: Path) -> str:
    size = path.stat().st_size if path.is_file() else 0
    return f"{size / 1e6:.1f} MB"
