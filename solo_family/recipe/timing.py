"""Time training iterations of a recipe on this machine."""

import logging
import statistics
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import torch
from detectron2.utils.events import EventStorage

from ..engine.arguments import argument_parser
from ..engine.main import read_config
from ..engine.shared_cores import shared_cores
from ..engine.trainer import Trainer
from ..progress import Progress

FIRST = 2  # iterations that are not timed: memory and caches fill up
TIMED = 10
# Random weights take the same time; nothing is evaluated, and no step moves the weights far.
_WITHOUT = (
    *("MODEL.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", "", "MODEL.VGG.WEIGHTS", ""),
    *("DATASETS.TEST", "()", "TEST.BEST_METRIC", "", "TEST.EVAL_PERIOD", "0"),
    *("SOLVER.BASE_LR", "1e-8"),
)


def seconds_per_iteration(config: Path) -> float:
    """Return the typical time of ten iterations, in seconds, to two digits.

    Args:
        config: the recipe.

    Raises:
        SoloFamilyError: the config or the data can't be trained with.
    """
    with closing(seconds_of_iterations(config)) as seconds:
        total = FIRST + TIMED
        timed = Progress(islice(seconds, total), "timing", total, unit="iteration", leave=False)
        return two_digits(typical(list(timed)))


def seconds_of_iterations(config: Path, opts: Sequence[str] = ()) -> Generator[float, None, None]:
    """Train, and yield the seconds of each iteration, the first ones included, without an end.

    Args:
        config: the recipe.
        opts: keys and values that replace the recipe's.

    Raises:
        SoloFamilyError: the config or the data can't be trained with.
    """
    with tempfile.TemporaryDirectory() as folder:
        with _quiet():
            words = ["--config-file", str(config), *opts, *_WITHOUT, "OUTPUT_DIR", folder]
            trainer = Trainer(read_config(argument_parser().parse_args(words)))
            trainer.raw_model.train()
            cores = shared_cores(trainer.cfg)
        device = next(trainer.raw_model.parameters()).device
        number = 0
        while True:
            with _quiet(), EventStorage(number):
                for hook in cores:
                    hook.look()
                start = time.perf_counter()
                trainer._trainer.iter = number
                trainer._trainer.run_step()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                seconds = time.perf_counter() - start
            yield seconds
            number += 1


def typical(seconds: Sequence[float]) -> float:
    """Return the median of the seconds of iterations, without the first ones if there are more."""
    return statistics.median(seconds[FIRST:] or seconds)


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
