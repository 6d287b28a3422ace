"""Write a tool's pictures, videos and results so that a file appears complete or not at all."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from ..errors import DataError
from ..files import replacing
from ..pictures.formats import WRITTEN
from .inputs import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from .source import Source

PICTURE_SUFFIXES = frozenset(WRITTEN)


def plan_outputs(sources: Sequence[Source], output: Path) -> list[Path]:
    """Choose one output file per source, none of which overwrites another, or a source.

    Args:
        sources: the inputs.
        output: a folder, which is created, and in it those that the sources are `below`; or, for a
            single source, optionally the name of a picture or video.

    Returns:
        The output files, in the order of the sources.

    Raises:
        DataError: `output` can't be written, or names one file for several sources.
    """
    names_file = output.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and not output.is_dir()
    if names_file:
        _check_output_file(sources, output)
    folder = output.parent if names_file else output
    make_folder(folder)
    return [output] if names_file else _distinct_files(sources, folder)


def make_folder(folder: Path) -> None:
    """Create `folder`, unless it exists.

    Raises:
        DataError: it can't be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: can't make this output folder ({error.strerror})") from error


def _check_output_file(sources: Sequence[Source], output: Path) -> None:
    if len(sources) != 1:
        raise DataError(f"{output}: one output file for {len(sources)} inputs; name a folder")
    (source,) = sources
    allowed = VIDEO_SUFFIXES if source.is_video else PICTURE_SUFFIXES
    if output.suffix.lower() not in allowed:
        raise DataError(f"{output}: the output of {source} ends in one of {sorted(allowed)}")
    if source.path is not None and output.resolve() == source.path.resolve():
        raise DataError(f"{output}: this would overwrite the input; name another file")


def _distinct_files(sources: Sequence[Source], folder: Path) -> list[Path]:
    taken = {_identity(source.path) for source in sources if source.path is not None}
    outputs = []
    for source in sources:
        name = Path(source.name)
        suffix = _output_suffix(source, name)
        inner = folder / source.below
        make_folder(inner)
        path, copy = inner / f"{name.stem}{suffix}", 2
        while _identity(path) in taken:
            path, copy = inner / f"{name.stem}_{copy}{suffix}", copy + 1
        taken.add(_identity(path))
        outputs.append(path)
    return outputs


def _identity(path: Path) -> str:
    # In lower case, because some file systems don't distinguish it.
    return str(path.resolve()).lower()


def _output_suffix(source: Source, name: Path) -> str:
    if source.is_video:
        return ".mp4"
    return name.suffix if name.suffix.lower() in PICTURE_SUFFIXES else ".png"


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


@contextmanager
def video_writer(path: Path, fps: float, size: tuple[int, int]) -> Iterator[cv2.VideoWriter]:
    """Open a video for (H, W, 3) uint8 BGR frames.

    Args:
        path: the file, whose suffix names the container.
        fps: frames per second.
        size: the frames' width and height in pixels.

    Yields:
        The writer; the file gets its name only if no error occurs.

    Raises:
        DataError: OpenCV can't write such a video.
    """
    with replacing(path) as temporary:
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(temporary), codec, fps, size)
        if not writer.isOpened():
            raise DataError(f"{path}: OpenCV can't write this video; try a name in .mp4")
        try:
            yield writer
        finally:
            writer.release()
