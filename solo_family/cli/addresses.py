"""Download pictures and videos from http(s) addresses."""

import http.client
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, first_line
from ..version import __version__

_ADDRESS = re.compile(r"(?i)[a-z][a-z0-9+.-]+://")
_DOWNLOADED = re.compile(r"(?i)https?://")
MEGABYTE = 10**6
MAX_MEGABYTES = 256
_PART = 2**16


@dataclass(frozen=True)
class Network:
    """What may be fetched.

    Attributes:
        is_allowed: whether addresses are opened at all.
        max_bytes: the largest file that is downloaded.
        timeout: seconds in which a server must answer, and between parts of an answer.
        deadline: seconds that a whole download may take.
    """

    is_allowed: bool = False
    max_bytes: int = MAX_MEGABYTES * MEGABYTE
    timeout: float = 20.0
    deadline: float = 600.0


NO_NETWORK = Network()


def is_address(pattern: str) -> bool:
    """Return whether text is an address, with a scheme, and not a path."""
    return _ADDRESS.match(pattern) is not None


def is_downloaded(address: str) -> bool:
    """Return whether an address is one of a file to download, not of a stream."""
    return _DOWNLOADED.match(address) is not None


def download(address: str, path: Path, network: Network, shown: str) -> None:
    """Write what an http(s) address has to a file.

    Args:
        address: with its password, if any.
        path: of the new file.
        network: the limits.
        shown: the address in messages.

    Raises:
        DataError: it can't be downloaded, or is too large or too slow.
    """
    request = urllib.request.Request(
        address, headers={"User-Agent": f"solo_family/{__version__}", "Accept": "*/*"}
    )
    end = time.monotonic() + network.deadline
    try:
        with (
            urllib.request.urlopen(request, timeout=network.timeout) as answer,
            path.open("wb") as file,
        ):
            announced = int(answer.headers.get("Content-Length") or 0)
            count = 0
            if announced > network.max_bytes:
                raise _too_large(shown, network)
            while part := answer.read(_PART):
                count += len(part)
                if count > network.max_bytes:
                    raise _too_large(shown, network)
                if time.monotonic() > end:
                    raise TimeoutError(f"it took more than {network.deadline:g} s")
                file.write(part)
            if count < announced:
                raise OSError(f"it ended after {count} of {announced} bytes")
    except DataError:
        raise
    except urllib.error.HTTPError as error:
        raise DataError(f"{shown}: can't be downloaded: {error.code} {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        said = first_line(reason) if isinstance(reason, Exception) else str(reason)
        raise DataError(f"{shown}: can't be downloaded: {said}") from error


def _too_large(shown: str, network: Network) -> DataError:
    return DataError(
        f"{shown}: larger than {network.max_bytes / MEGABYTE:g} MB; --max-download MEGABYTES "
        "allows more"
    )
