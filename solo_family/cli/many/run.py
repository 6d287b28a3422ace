"""The run of `predict-many`: from flags to shards, and to an exit status."""

import argparse
import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.contrib.logging import logging_redirect_tqdm

from ...errors import ConfigError, DataError, SoloFamilyError
from ...predictor.sources import is_exported
from ...progress import Progress
from ...saving.filters import find_labels
from ...saving.picture import Classes
from ...tiling.tiles import with_tile
from ..input_flags import network_of
from ..inputs import Finding, Source, find_sources, split_pages
from ..saving import check_filters
from ..threshold import check_score, lowest_score
from .datasets import write_datasets
from .engine import Engine, predict_all
from .folder import Folder
from .local import Local
from .manifest import begin
from .model import Description, describe_model
from .rows import describe_classes
from .shards import Shards
from .storage import find_stored

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

INTERRUPTED = 130  # Exit status that shells report after Ctrl-C.
# Pictures that a process is given at once, of which each batch is a part.
_CHUNK, _BATCHES = 16, 4
# So many errors are named; the others are in the table.
_NAMED = 10


def run(args: argparse.Namespace) -> int:
    """Predict; see `predict_many.run`."""
    if args.exported is None and is_exported(Path(args.config_file)):
        args.exported = Path(args.config_file)
    _check(args)
    description = describe_model(args)
    args.confidence_threshold = lowest_score(args.confidence_threshold, description.threshold)
    if args.classes is not None:
        find_labels(args.classes, Classes(description.metadata).names)
    with Folder(args.output) as folder:
        try:
            sources, unmatched = _find(args, description, folder)
        except DataError as error:
            logger.error("%s", error)
            return 2
        for pattern in unmatched:
            logger.error("skipped %s: no such file", pattern)
        settings = _settings(args, description)
        shard_size = begin(folder, sources, settings, args.shard_size)
        classes = Classes(description.metadata)
        places = folder.inner("shards")
        shards = Shards(places, len(sources), shard_size, describe_classes(classes))
        if args.retry_errors:
            shards.take_back_errors()
        try:
            _predict(args, description, sources, shards)
        except KeyboardInterrupt:
            logger.info(
                "stopped; the shards written so far are complete, and the same command goes on "
                "from there"
            )
            return INTERRUPTED
        write_datasets(args.save, folder, shards, classes, sources)
        failed = _tell_errors(shards)
    done = len(sources) - failed
    print(f"{done} of {len(sources)} pictures predicted, results in {folder}")
    return 1 if failed or unmatched else 0


def _check(args: argparse.Namespace) -> None:
    check_filters(args)
    for flag in ("batch", "shard_size", "workers"):
        value = getattr(args, flag)
        if value is not None and value < 1:
            raise ConfigError(f"--{flag.replace('_', '-')} is {value}; give a number, 1 or more.")
    check_score(args.confidence_threshold)
    for flag in ("address", "workers"):
        if args.engine == "local" and getattr(args, flag) is not None:
            raise ConfigError(f"--{flag} is for --engine ray; leave it out with --engine local.")
    with_tile(None, args.tile)
    if args.exported is not None and args.opts:
        raise SoloFamilyError("--opts changes a config; an exported model has none")
    if args.exported is None and args.exported_engine is not None:
        raise SoloFamilyError(
            "--exported-engine is for exported models: add --exported DIR, or leave it out"
        )


def _find(
    args: argparse.Namespace, description: Description, folder: Folder
) -> tuple[list[Source], list[str]]:
    finding = Finding(
        recursive=args.recursive,
        network=network_of(args),
        leave_out=folder.local,
        storage=find_stored,
    )
    sources, unmatched = find_sources(args.input, finding)
    if any(source.content is not None for source in sources):
        raise DataError("--input -: predict-many takes no picture from standard input, but a list")
    return split_pages(sources, description.reading), unmatched


def _settings(args: argparse.Namespace, description: Description) -> dict[str, Any]:
    """Return what the results depend on, by flag."""
    return {
        "the model": description.key,
        "--exported-engine": args.exported_engine,
        "--confidence-threshold": args.confidence_threshold,
        "--classes": args.classes,
        "--min-size": args.min_size,
        "--no-overlap": args.no_overlap,
        "--tile": args.tile,
    }


def _predict(
    args: argparse.Namespace, description: Description, sources: list[Source], shards: Shards
) -> None:
    """Predict what is missing."""
    todo = {image_id: sources[image_id - 1] for image_id in shards.missing()}
    if not todo:
        return
    known = len(sources) - len(todo)
    if known:
        logger.info("going on: %d of %d pictures are done", known, len(sources))
    size = max(_CHUNK, _BATCHES * (args.batch or 1))
    with (
        logging_redirect_tqdm(),
        _engine(args, description) as engine,
        Progress(total=len(sources), initial=known, unit="picture") as progress,
    ):
        for table in predict_all(engine, todo, size):
            _refuse_semantic(args, table)
            progress.update(shards.add(table))


def _engine(args: argparse.Namespace, description: Description) -> AbstractContextManager[Engine]:
    if args.engine == "local":
        return nullcontext(Local(args, description))
    from .cluster import Cluster

    return Cluster(args, description)


def _refuse_semantic(args: argparse.Namespace, table: "pa.Table") -> None:
    """Refuse formats of instances at the first result of a model without, not after all."""
    import pyarrow.compute as pc

    has_result = pc.is_null(table["error"])
    if args.save and pc.any(pc.and_(has_result, pc.is_null(table["labels"]))).as_py():
        raise ConfigError(
            f"--save {' '.join(args.save)} needs instances, but this model predicts a class for "
            "every pixel. Leave --save out: the shards have it in the column label_map."
        )


def _tell_errors(shards: Shards) -> int:
    count = 0
    for _, error in shards.errors():
        count += 1
        if count <= _NAMED:
            logger.error("no result: %s", error)
    if count > _NAMED:
        logger.error("and %d more; all are in the column error", count - _NAMED)
    return count
