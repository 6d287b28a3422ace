"""What a tool reads: a picture, a page of a file, a video, an address, or a camera."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from .addresses import Network, download


@dataclass(frozen=True)
class Source:
    """One picture, one video, one stream or camera.

    Attributes:
        path: of the file; None for what is not a file.
        is_video: whether it has frames.
        page: of a file with several pictures, from 1; None for the only one.
        below: the folder of its output, relative to the output folder.
        address: from which it is downloaded, or streamed if `is_live`.
        content: what standard input had.
        network: limits of downloads.
        camera: number of the camera, if it is none of the others.
        is_live: a camera or stream: it has no end of its own.
    """

    path: Path | None
    is_video: bool
    page: int | None = None
    below: Path = Path()
    address: str | None = None
    content: bytes | None = field(default=None, repr=False)
    network: Network | None = None
    camera: int = 0
    is_live: bool = False

    @property
    def name(self) -> str:
        """A file's name for it, with a suffix where it has one."""
        if self.path is not None:
            page = "" if self.page is None else f"_p{self.page:03d}"
            return f"{self.path.stem}{page}{self.path.suffix}"
        if self.content is not None:
            return "stdin"
        if self.address is not None:
            parts = urlsplit(self.address)
            return Path(unquote(parts.path)).name or parts.hostname or "stream"
        return f"webcam_{self.camera}" if self.camera else "webcam"

    @property
    def file_name(self) -> str:
        """The name in files of results: the path as it was found, or the address."""
        return str(self.path) if self.path is not None else str(self)

    @property
    def own_name(self) -> str | None:
        """The name of a picture that is not a file of its own; None if it is one."""
        return None if self.path is not None and self.page is None else self.name

    def where(self, frame: int | None = None) -> dict[str, str | int]:
        """Return what identifies it in files of results.

        Args:
            frame: of a video, from 0.
        """
        where: dict[str, str | int] = {"file_name": self.file_name}
        if self.page is not None:
            where["page"] = self.page
        return where if frame is None else where | {"frame": frame}

    def __str__(self) -> str:
        if self.path is not None:
            return str(self.path) + ("" if self.page is None else f", page {self.page}")
        if self.content is not None:
            return "standard input"
        return self.name if self.address is None else without_password(self.address)

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Yield the path of its file; what is not a file is written to a temporary one.

        Raises:
            DataError: it can't be downloaded.
        """
        if self.path is not None:
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="solo_family-") as folder:
            path = Path(folder, self.name)
            if self.content is not None:
                path.write_bytes(self.content)
            else:
                assert self.address is not None
                assert self.network is not None
                download(self.address, path, self.network, str(self))
            yield path


WEBCAM = Source(path=None, is_video=True, is_live=True)


def camera(number: int) -> Source:
    """Return the camera of a number, as OpenCV counts them."""
    return Source(path=None, is_video=True, camera=number, is_live=True)


def without_password(address: str) -> str:
    """Return an address as it may be printed and written to files."""
    parts = urlsplit(address)
    if "@" not in parts.netloc:
        return address
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
