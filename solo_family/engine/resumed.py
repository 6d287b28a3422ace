"""What `--resume` does with settings that are others than before: the one place that decides it.

A key is applied from the resumed iteration on, or refused with what to do; none is dropped.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from detectron2.config import CfgNode

from ..config.load import dotted_values
from ..config.rules import as_lists
from ..config.solver import optimizer_name
from ..data.formats.classes import class_names
from ..data.formats.dataset_classes import listed, without_blanks
from ..errors import ConfigError

logger = logging.getLogger(__name__)

# What takes a new value, and how.
SCHEDULE = "the learning rate is what the new schedule gives at the resumed iteration"
GROUPS = "the optimizer takes it for its next step, and keeps its averages"
STEP = "the next iteration is done with it"
BATCH = "the order goes on after as many images, in whole batches; a scaled learning rate follows"
AVERAGE = "the average goes on with it; one that is turned on begins with the resumed weights"

APPLIED = {
    **dict.fromkeys(
        (
            *("BASE_LR", "BASE_LR_END", "LR_SCHEDULER_NAME", "MAX_ITER", "STEPS", "GAMMA"),
            *("NUM_DECAYS", "WARMUP_FACTOR", "WARMUP_ITERS", "WARMUP_METHOD", "RESCALE_INTERVAL"),
            *("POLY_LR_POWER", "POLY_LR_CONSTANT_ENDING", "BIAS_LR_FACTOR"),
            *("BACKBONE_MULTIPLIER", "BACKBONE_LAYER_DECAY", "REFERENCE_BATCH_SIZE"),
        ),
        SCHEDULE,
    ),
    **dict.fromkeys(
        (
            *("MOMENTUM", "NESTEROV", "WEIGHT_DECAY", "WEIGHT_DECAY_NORM", "WEIGHT_DECAY_BIAS"),
            *("WEIGHT_DECAY_EMBED", "NO_DECAY_NAMES"),
        ),
        GROUPS,
    ),
    **dict.fromkeys(
        (
            *("CLIP_GRADIENTS.ENABLED", "CLIP_GRADIENTS.CLIP_TYPE", "CLIP_GRADIENTS.CLIP_VALUE"),
            *("CLIP_GRADIENTS.NORM_TYPE", "AMP.ENABLED", "AMP.PRECISION", "CHANNELS_LAST"),
            *("NORMALIZE_LOSS_GLOBALLY", "CHECKPOINT_PERIOD", "ACCUMULATE", "SHARE_CORES"),
            *("ACTIVATION_CHECKPOINTING", "COMPILE"),
        ),
        STEP,
    ),
    **dict.fromkeys(("IMS_PER_BATCH", "REFERENCE_WORLD_SIZE"), BATCH),
    **dict.fromkeys(("EMA.ENABLED", "EMA.DECAY"), AVERAGE),
}
REFUSED = {
    "SOLVER.OPTIMIZER": "the averages of one optimizer are not those of another",
    "SOLVER.AMSGRAD": "AMSGrad keeps a maximum that the checkpoint has not, or has in vain",
    "SEED": "the order of images, and what augmentations draw, go on as they began",
}
# Files that a run begins with; a resumed one reads its checkpoint instead.
BEGINNING = ("MODEL.WEIGHTS", "MODEL.TIMM.WEIGHTS")
# They follow from the datasets, in the order of the model's outputs.
CLASSES = "MODEL.CLASS_NAMES"


def settings_of(cfg: CfgNode) -> dict[str, Any]:
    """Return the settings that a checkpoint keeps, by their dotted keys.

    The optimizer is the one that is built, so that '' and its name are the same.
    """
    return {
        **dotted_values(cfg.SOLVER, "SOLVER."),
        "SOLVER.OPTIMIZER": optimizer_name(cfg),
        "SEED": cfg.SEED,
        "MODEL.WEIGHTS": cfg.MODEL.WEIGHTS,
        "MODEL.TIMM.WEIGHTS": cfg.MODEL.TIMM.WEIGHTS,
        CLASSES: class_names(cfg),
    }


def check_resumed(before: Mapping[str, Any] | None, finished: int, cfg: CfgNode) -> None:
    """Refuse a resumed run whose settings would not be what happens, and log those that change.

    Args:
        before: the settings that the checkpoint was written with; None in one of an earlier
            version, whose settings can't be compared.
        finished: the iterations that are in the checkpoint.
        cfg: the configuration to go on with.

    Raises:
        ConfigError: names the key, its value, the one before, and what to do.
    """
    if finished > cfg.SOLVER.MAX_ITER:
        raise ConfigError(
            f"--resume: SOLVER.MAX_ITER is {cfg.SOLVER.MAX_ITER}, but the checkpoint has had "
            f"{finished} iterations. Set SOLVER.MAX_ITER {finished} or more, or write the name of "
            "an earlier checkpoint into last_checkpoint."
        )
    if before is None:
        return
    changed = []
    for key, value in settings_of(cfg).items():
        if key not in before or as_lists(before[key]) == as_lists(value):
            continue
        if key in BEGINNING:
            _check_beginning(key, before[key], value)
            continue
        if key == CLASSES:
            _check_classes(before[key], value)
            continue
        if key in REFUSED:
            raise ConfigError(
                f"--resume: {key} is {value!r}, but the run began with {before[key]!r}: "
                f"{REFUSED[key]}. Set {key} {before[key]!r}, or begin a run of its own from these "
                "weights: without --resume, with MODEL.WEIGHTS the checkpoint and another "
                "OUTPUT_DIR."
            )
        changed.append(f"{key} {before[key]!r} -> {value!r}")
    if changed:
        logger.warning(
            "--resume: from iteration %d on other settings apply: %s.", finished, "; ".join(changed)
        )


def _check_beginning(key: str, before: str, now: str) -> None:
    """Refuse other weights to begin with; a file of the same name in another folder is the same."""
    if now and PurePath(before).name != PurePath(now).name:
        raise ConfigError(
            f"--resume: {key} is {now!r}, but the run began with {before!r}, and goes on with its "
            f"checkpoint: the file would not be read. Set {key} {before!r}, or begin a run of its "
            "own from the file: without --resume, with another OUTPUT_DIR."
        )


def _check_classes(before: Sequence[str], now: Sequence[str]) -> None:
    """Refuse other names of the model's outputs, or another order; unknown names are let pass."""
    if before and now and without_blanks(before) != without_blanks(now):
        raise ConfigError(
            f"--resume: {CLASSES} is {listed(now)}, but the run began with {listed(before)}: each "
            "output would change its class. Give DATASETS.TRAIN the names that it had, in the same "
            "order of their ids, or begin a run of its own from these weights: without --resume, "
            "with MODEL.WEIGHTS the checkpoint and another OUTPUT_DIR."
        )
