"""The model of the flags: described, as the first process needs it, or opened in a worker."""

import argparse
from pathlib import Path
from typing import NamedTuple

from detectron2.data import Metadata
from detectron2.data import transforms as T

from ...config.output import DEFAULT_CONFIDENCE, confidence_threshold
from ...data.loading.images import Reading
from ...errors import ConfigError
from ...export.folder import read_description
from ...predictor.exported import exported_metadata, exported_reading, exported_threshold
from ...predictor.load import class_metadata
from ...predictor.sources import Source as Model
from ...predictor.sources import from_config, from_exported, read_cfg
from ..tiled_pictures import model_key

# Networks' inputs are padded to a multiple of this many pixels; where it is another number, batches
# have a little more or less padding.
_MULTIPLE = 32


class Description(NamedTuple):
    """What is known of a model before it is opened.

    Attributes:
        metadata: of its classes.
        reading: how picture files are read.
        key: a text that changes with what it answers.
        edges: pixels of the short edge to which pictures are resized, and the most of the long one;
            (0, 0) if the size is not changed, or unknown.
        threshold: the lowest score that is saved, unless another is asked for.
        device: `MODEL.DEVICE` in this process; "" for an exported model.
    """

    metadata: Metadata
    reading: Reading
    key: str
    edges: tuple[int, int] = (0, 0)
    threshold: float = DEFAULT_CONFIDENCE
    device: str = ""

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of a picture as the network has it: resized and padded."""
        short, long = self.edges
        if short:
            height, width = T.ResizeShortestEdge.get_output_shape(height, width, short, long)
        return -(-height // _MULTIPLE) * _MULTIPLE, -(-width // _MULTIPLE) * _MULTIPLE


def describe_model(args: argparse.Namespace) -> Description:
    """Return what is known of the model of the flags.

    Raises:
        ConfigError: a key of the config can't work, or there are no weights.
        DataError: the config or the exported folder can't be read.
    """
    if args.exported is not None:
        description = read_description(args.exported)
        key = model_key(None, Path(args.exported))
        return Description(
            exported_metadata(description),
            exported_reading(description),
            key,
            threshold=exported_threshold(description),
        )
    cfg = read_cfg(args.config_file, args.opts)
    if not cfg.MODEL.WEIGHTS:
        raise ConfigError(
            f"MODEL.WEIGHTS of {args.config_file} is empty: each worker would have other random "
            "weights. End the command with --opts MODEL.WEIGHTS FILE."
        )
    keyed = cfg.clone()
    keyed.defrost()
    keyed.MODEL.DEVICE = ""  # a run may go on with other devices
    edges = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    return Description(
        class_metadata(cfg),
        Reading.from_config(cfg),
        model_key(keyed, None),
        edges,
        confidence_threshold(cfg),
        cfg.MODEL.DEVICE,
    )


def open_model(args: argparse.Namespace, threads: int = 0) -> Model:
    """Return the model of the flags.

    Args:
        args: the flags.
        threads: of an exported model; 0 leaves it to its engine.

    Raises:
        SoloFamilyError: see `from_exported` and `from_config`.
    """
    if args.exported is not None:
        return from_exported(args.exported, args.exported_engine, threads)
    return from_config(read_cfg(args.config_file, args.opts))
