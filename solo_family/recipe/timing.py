"""Time training iterations of a recipe on this machine."""

import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from detectron2.utils.events import EventStorage

from ..engine.main import argument_parser, read_config
from ..engine.trainer import Trainer

_FIRST = 2  # iterations that are not timed: memory and caches fill up
_TIMED = 10
# Random weights take the same time; nothing is evaluated, and no step moves the weights far.
_WITHOUT = (
    *("MODEL.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", "", "MODEL.VGG.WEIGHTS", ""),
    *("DATASETS.TEST", "()", "TEST.BEST_METRIC", "", "TEST.EVAL_PERIOD", "0"),
    *("SOLVER.BASE_LR", "1e-8"),
)


def seconds_per_iteration(config: Path) -> float:
    """Return the median time of ten iterations, in seconds, to two digits.

    Args:
        config: the recipe.

    Raises:
        SoloFamilyError: the config or the data can't be trained with.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        words = ["--config-file", str(config), *_WITHOUT, "OUTPUT_DIR", folder]
        trainer = Trainer(read_config(argument_parser().parse_args(words)))
        trainer.raw_model.train()
        times = []
        with EventStorage(0):
            for number in range(_FIRST + _TIMED):
                start = time.perf_counter()
                trainer._trainer.iter = number
                trainer._trainer.run_step()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - start)
    return two_digits(statistics.median(times[_FIRST:]))


def two_digits(value: float) -> float:
    """Return a positive number to two significant digits."""
    return float(f"{value:.1e}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Log only warnings in the `with` block: the log of a training would hide the plan."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)
