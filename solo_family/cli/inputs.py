"""Find a tool's input: pictures, folders, globs, lists, pages, videos, addresses and cameras."""

import glob
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import cv2
from PIL import Image, UnidentifiedImageError

from ..data.loading.images import Reading
from ..data.loading.watchdog import TIMEOUT, Watchdog, watched
from ..errors import DataError
from ..files import walk
from ..pictures.formats import SUFFIXES
from ..pictures.pages import picture_pages
from .addresses import MEGABYTE, NO_NETWORK, Network, is_address, is_downloaded
from .lists import lines_of, read_list
from .source import WEBCAM, Source, camera, without_password

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "WEBCAM", "Source", "find_sources"]

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(SUFFIXES)
VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv"),
        *(".3gp", ".mts", ".m2ts", ".ogv", ".mjpg", ".mjpeg"),
    }
)
STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Finding:
    """How inputs are found.

    Attributes:
        recursive: take the files of folders in folders, too.
        videos: everything is a video, and an http(s) address a stream.
        takes_videos: take the videos of folders as well as their pictures, and cameras by number.
        network: what may be fetched from addresses.
        leave_out: a folder below others whose files are no inputs, as that of outputs.
        storage: finds the pictures that an address of cloud storage names, recursively or not; None
            takes such an address for one of a stream.
    """

    recursive: bool = False
    videos: bool = False
    takes_videos: bool = False
    network: Network = NO_NETWORK
    leave_out: Path | None = None
    storage: Callable[[str, bool], list[Source]] | None = None


def find_sources(
    patterns: Sequence[str], finding: Finding | None = None
) -> tuple[list[Source], list[str]]:
    """Find the inputs that patterns name, each once, in the order given.

    Args:
        patterns: files, folders, quoted globs, `@FILE` for a text file with one of these per line,
            `-` for standard input (a file's bytes, or lines of text as in such a file), addresses,
            and numbers of cameras.
        finding: how; by default only pictures in folders, and no network.

    Returns:
        The sources, and the patterns that match nothing.

    Raises:
        DataError: no pattern matches anything, or an address is not allowed.
    """
    finding = finding or Finding()
    with Watchdog(TIMEOUT, "Looking for the input"):
        given = list(chain.from_iterable(_listed(pattern, finding) for pattern in patterns))
        found = [(p, [p] if isinstance(p, Source) else _expand(p, finding)) for p in given]
    unmatched = [str(pattern) for pattern, sources in found if not sources]
    if len(unmatched) == len(found):
        raise DataError(_nothing(unmatched, finding))
    sources: dict[object, Source] = {}
    for source in chain.from_iterable(matches for _, matches in found):
        sources.setdefault(_identity(source), source)
    kinds = (_with_kind(source, finding) for source in sources.values())
    return list(watched(kinds, "A file", TIMEOUT)), unmatched


def split_pages(sources: Sequence[Source], reading: Reading) -> list[Source]:
    """Return the sources with a TIFF of several pictures as one source for each of its pages.

    Args:
        sources: see `find_sources`.
        reading: tells which pages are channels of one picture.
    """
    split: list[Source] = []
    for source in watched(sources, "A file", TIMEOUT):
        pages = [1]
        if source.path is not None and not source.is_video:
            pages = picture_pages(str(source.path), reading.format)
        split += [source] if len(pages) < 2 else [replace(source, page=page) for page in pages]
    return split


def _listed(pattern: str, finding: Finding) -> list[str | Source]:
    """Return the patterns that a list or standard input has, or the pattern itself."""
    if pattern.startswith("@") and not Path(pattern).exists():
        return [*read_list(Path(pattern[1:]))]
    if pattern != STANDARD_INPUT or Path(pattern).exists():
        return [pattern]
    limit = finding.network.max_bytes
    content = sys.stdin.buffer.read(limit + 1)
    if not content:
        raise DataError("standard input is empty; --input - reads a picture, or lines with paths")
    if len(content) > limit:
        raise DataError(
            f"standard input has more than {limit / MEGABYTE:g} MB; --max-download MEGABYTES "
            "allows more"
        )
    lines = lines_of(content)
    if lines is not None:
        return [*lines]
    return [Source(path=None, is_video=False, content=content)]


def _nothing(patterns: Sequence[str], finding: Finding) -> str:
    folders = [pattern for pattern in patterns if Path(os.path.expanduser(pattern)).is_dir()]
    hint = ": give files, folders or globs"
    if folders and not finding.recursive and any(_has_folders(Path(name)) for name in folders):
        hint = " in the folder itself; --recursive looks into its folders as well"
    return f"no file matches {', '.join(patterns) or 'an empty list'}{hint}"


def _has_folders(folder: Path) -> bool:
    return any(path.is_dir() for path in folder.expanduser().iterdir())


def _expand(pattern: str, finding: Finding) -> list[Source]:
    path = Path(os.path.expanduser(pattern))
    if path.is_dir():
        return list(_in_folder(path, finding))
    # Checked before globbing, because a file's own name may contain brackets.
    if path.exists():
        return [Source(path, is_video=False)]
    if is_address(pattern):
        if finding.storage is not None and not is_downloaded(pattern):
            return finding.storage(pattern, finding.recursive)
        return [_addressed(pattern, finding)]
    if pattern.isdecimal() and (finding.videos or finding.takes_videos):
        return [camera(int(pattern))]
    found = [p for p in map(Path, sorted(glob.glob(str(path), recursive=True))) if p.is_file()]
    return [Source(path, is_video=False) for path in found]


def _addressed(address: str, finding: Finding) -> Source:
    if not finding.network.is_allowed:
        raise DataError(
            f"no file matches {without_password(address)}: it is an address, which "
            "--allow-network opens"
        )
    is_live = finding.videos or not is_downloaded(address)
    source = Source(None, is_live, address=address, network=finding.network, is_live=is_live)
    return replace(source, is_video=is_live or Path(source.name).suffix.lower() in VIDEO_SUFFIXES)


def _in_folder(folder: Path, finding: Finding) -> Iterator[Source]:
    """Yield the files of a folder in the order of their names, those of inner folders last."""
    wanted = IMAGE_SUFFIXES | (VIDEO_SUFFIXES if finding.takes_videos else frozenset())
    left_out = finding.leave_out and finding.leave_out.resolve()
    # This tool's own outputs are no inputs.
    for here, names in walk(folder, left_out, _tell):
        for name in names:
            if Path(name).suffix.lower() in wanted:
                yield Source(here / name, is_video=False, below=here.relative_to(folder))
        if not finding.recursive:
            return


def _tell(error: OSError) -> None:
    logger.error("skipped %s: %s", error.filename, error.strerror)


def _identity(source: Source) -> object:
    """Return what is the same for a file that is named in two ways."""
    if source.path is None:
        return replace(source, below=Path())
    return os.path.normpath(os.path.abspath(source.path))


def _with_kind(source: Source, finding: Finding) -> Source:
    if source.is_live or source.address is not None:
        return source
    if finding.videos:
        return replace(source, is_video=True)
    with source.file() as path:
        return replace(source, is_video=_is_video(path))


def _is_video(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES or suffix in VIDEO_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    # Pillow is asked first, because OpenCV opens a picture as a video of one frame.
    try:
        Image.open(path).close()
    except UnidentifiedImageError:
        return cv2.VideoCapture(str(path)).isOpened()
    except OSError:
        pass
    return False
