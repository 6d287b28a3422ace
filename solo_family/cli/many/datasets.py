"""COCO's files, from finished shards."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from ...saving.picture import Classes, Picture
from ...saving.saver import Options
from ...saving.writer import common_folder, make_savers
from ..source import Source
from .folder import DATASETS, Folder
from .rows import as_picture
from .shards import Shards


def write_datasets(
    formats: Sequence[str],
    folder: Folder,
    shards: Shards,
    classes: Classes,
    sources: Sequence[Source],
) -> None:
    """Write files of some formats to the folder of the shards.

    Pictures pass through memory one shard at a time. Those without a result are left out.

    Args:
        formats: of instances; see `SAVERS`.
        folder: of the shards.
        shards: all of which are finished.
        classes: of the model.
        sources: all pictures.

    Raises:
        DataError: a file can't be written.
    """
    if not formats:
        return
    with tempfile.TemporaryDirectory(prefix=DATASETS, dir=folder.local) as temporary:
        output = Path(temporary)
        with ExitStack() as stack:
            savers = make_savers(formats, output, classes, Options())
            for saver in savers:
                stack.enter_context(saver)
            for picture in _pictures(shards, sources):
                for saver in savers:
                    saver.add(picture)
        for file in sorted(output.iterdir()):
            folder.take(file)


def _pictures(shards: Shards, sources: Sequence[Source]) -> Iterator[Picture]:
    root = common_folder([source.path for source in sources if source.path is not None])
    for table in shards.tables():
        for row in table.to_pylist():
            if row["error"] is None:
                yield as_picture(row, _name(sources[row["image_id"] - 1], root))


def _name(source: Source, root: Path | None) -> str:
    """Return the name of a picture in a file: relative to the folder of all, or its address."""
    if source.path is None or root is None:
        return source.file_name
    path = source.path if source.page is None else source.path.with_name(source.name)
    return Path(os.path.relpath(path, root)).as_posix()
