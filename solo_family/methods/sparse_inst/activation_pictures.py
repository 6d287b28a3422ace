"""Draw what SparseInst's predictions come from: its activation maps (arXiv 2203.12827)."""

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog
from tqdm import tqdm

from ...cli.inputs import Source, find_sources
from ...cli.writers import make_folder, plan_outputs, write_picture
from ...config import setup_cfg
from ...data.formats.register import check_datasets
from ...data.loading.images import Reading, read_image
from ...errors import ConfigError, DataError, SoloFamilyError
from ...predictor import class_metadata
from .activation_maps import MapReader, draw_maps, draw_responses, mean_responses

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """Writes the pictures.

    Returns:
        The exit status: 0, or 1 if an input was skipped.

    Raises:
        SoloFamilyError: a flag, a config key, a dataset or every input can't work.
    """
    cfg = setup_cfg(args.config_file, args.opts)
    if args.activation_maps and not args.input:
        raise SoloFamilyError("--activation-maps needs pictures: --input PATH ...")
    make_folder(args.output)
    if args.input:
        sources, unmatched = find_sources(args.input)
    else:
        sources, unmatched = _dataset_sources(cfg.DATASETS.TEST), []
    pictures = _Pictures(sources, Reading.from_config(cfg))
    reader = MapReader(cfg)
    wrong = [index for index in args.maps if not 0 <= index < reader.count]
    if wrong and args.activation_statistics:
        raise SoloFamilyError(f"--maps has {wrong[0]}; the model's are 0 to {reader.count - 1}.")
    if args.activation_maps:
        metadata = class_metadata(cfg)
        outputs = dict(zip(sources, plan_outputs(sources, args.output)))
        for source, image in pictures:
            found = reader.instances(image, args.confidence_threshold)
            write_picture(outputs[source], draw_maps(image, *found, metadata))
    else:
        responses = mean_responses(reader, (image for _, image in pictures), args.maps)
        drawn = draw_responses(responses, args.maps)
        write_picture(args.output / "activation_statistics.png", drawn)
    for pattern in unmatched:
        logger.error("skipped %s: no such file", pattern)
    skipped = pictures.skipped + len(unmatched)
    print(f"{len(sources) - pictures.skipped} pictures to {args.output}, {skipped} skipped")
    return 1 if skipped else 0


class _Pictures:
    """Reads pictures one by one, and counts those that it skips because they can't be read."""

    def __init__(self, sources: list[Source], reading: Reading) -> None:
        self._sources = sources
        self._reading = reading
        self.skipped = 0

    def __iter__(self) -> Iterator[tuple[Source, np.ndarray]]:
        for source in tqdm(self._sources, unit="picture"):
            try:
                yield source, read_image(str(source.path), "BGR", self._reading)
            except DataError as error:
                logger.error("skipped %s", error)
                self.skipped += 1


def _dataset_sources(names: Sequence[str]) -> list[Source]:
    if not names:
        raise ConfigError(
            "DATASETS.TEST is empty: name a dataset, for instance "
            "\"('coco_json:ANNOTATIONS.json:IMAGE_DIR',)\", or give pictures with --input."
        )
    check_datasets(names)
    records = [record for name in names for record in DatasetCatalog.get(name)]
    return [Source(Path(record["file_name"]), is_video=False) for record in records]
