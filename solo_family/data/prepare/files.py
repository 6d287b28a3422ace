"""Convert many files, each once: a second start goes on where the first one ended."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError
from ...files import replacing
from ...progress import Progress


@dataclass(frozen=True)
class Prepared:
    """What was prepared of one split.

    Attributes:
        split: its name.
        count: how many files or images it has now.
        expected: how many the complete dataset has.
        new: how many of them were written now.
        output: the file or folder that was written.
    """

    split: str
    count: int
    expected: int
    new: int
    output: Path

    def report(self) -> str:
        """Return a line about it, which says if images are missing."""
        line = f"{self.split}: {self.count} images, {self.new} of them written now: {self.output}"
        if self.count != self.expected:
            line += f" (the complete dataset has {self.expected}: are all files unpacked?)"
        return line


def need(path: Path, what: str) -> Path:
    """Return a path that must exist.

    Raises:
        DataError: it does not.
    """
    if not path.exists():
        raise DataError(f"There is no {path}: {what}")
    return path


def convert_files(
    split: str,
    sources: Iterable[Path],
    target: Callable[[Path], Path],
    convert: Callable[[Path, Path], None],
    expected: int,
) -> Prepared:
    """Write a file for each source, but those that are there already.

    Args:
        split: its name, for the progress bar.
        sources: the files to convert.
        target: returns where the result of a source belongs.
        convert: reads the source, its first argument, and writes the file that its second names.
        expected: how many sources the complete dataset has.
    """
    paths = sorted(sources)
    if not paths:
        raise DataError(f"{split}: there is no file to convert. Unpack the dataset there.")
    new = 0
    for source in Progress(paths, split, unit="image"):
        path = target(source)
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        # Of a run that is killed here no half of a file stays under the final name.
        with replacing(path) as temporary:
            convert(source, temporary)
        new += 1
    return Prepared(split, len(paths), expected, new, target(paths[0]).parent)
