"""Atomic checkpoints: a file is complete, or does not exist."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager
from torch import Tensor

from ..checkpoint.load import not_finite
from ..errors import TrainingError
from ..faults import full_disk
from ..files import WholeFiles
from .ema import EMA

_BEST = "model_best"


class AtomicCheckpointer(DetectionCheckpointer):
    """Save with detectron2's checkpointer, but write each file, and `last_checkpoint`, atomically.

    Saving raises TrainingError if the disk is full or weights are not finite. Earlier checkpoints
    are then unchanged.

    Args:
        args: positional arguments of detectron2's checkpointer.
        options: keyword arguments of detectron2's checkpointer.

    Attributes:
        ema: if it is not None, its averaged weights are saved beside the raw ones.
        saved_iteration: the last iteration in the newest checkpoint; None before the first.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.path_manager: Any = _Checkpoints(PathManager)
        self.ema: EMA | None = None
        self.saved_iteration: int | None = None

    def save(self, name: str, **state: Any) -> None:
        """Write `name.pth`, from which a run can resume and, with EMA, `name_ema.pth`.

        Args:
            name: of the file, without extension.
            state: further objects for `name.pth`, for instance the iteration.

        Raises:
            TrainingError: weights are not finite, or the file can't be written.
        """
        if self.save_dir and self.save_to_disk:
            _check_finite(name, "weights", self.model.state_dict())
            if self.ema is not None:
                _check_finite(name, "averaged weights", self.ema.average)
        super().save(name, **state)
        if self.ema is not None and self.save_dir and self.save_to_disk:
            with self.path_manager.open(
                os.path.join(self.save_dir, f"{name}_ema.pth"), "wb"
            ) as file:
                torch.save({"model": self.ema.average}, file)
        if not name.startswith(_BEST):
            self.saved_iteration = state.get("iteration")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write the name of a checkpoint into `last_checkpoint`, unless it is the best one.

        A run resumes from its last checkpoint, which need not be the best one.
        """
        if not last_filename_basename.startswith(_BEST):
            super().tag_last_checkpoint(last_filename_basename)


def _check_finite(name: str, kind: str, weights: dict[str, Tensor]) -> None:
    bad = not_finite(weights.items())
    if bad:
        raise TrainingError(
            f"The checkpoint {name} was not written: {len(bad)} {kind} are not finite, the first "
            f"is {bad[0]}. Earlier checkpoints are intact: go on from the last with --resume, and "
            "lower SOLVER.BASE_LR or clip gradients (SOLVER.CLIP_GRADIENTS)."
        )


class _Checkpoints(WholeFiles):
    """A PathManager that writes files atomically, and whose errors say what to do."""

    @contextmanager
    def written(self, path: str, mode: str) -> Iterator[IO[Any]]:
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            # It was deleted during the run; the trained weights must not be lost with it.
            logging.getLogger(__name__).warning(
                f"The output folder {folder} was deleted during the run; it is created again."
            )
            os.makedirs(folder)
        try:
            with super().written(path, mode) as file:
                yield file
        except Exception as error:
            cause = full_disk(error) or error  # torch.save hides the system's error in its own
            if not isinstance(cause, OSError):
                raise
            remedy = "Check the disk or network drive of OUTPUT_DIR"
            if full_disk(cause):
                remedy = (
                    "Free some disk space, or delete old checkpoints and raise "
                    "SOLVER.CHECKPOINT_PERIOD"
                )
            raise TrainingError(
                f"Can't write the checkpoint {path}: {cause.strerror}. Earlier checkpoints are "
                f"intact. {remedy}; then --resume goes on from the last."
            ) from error
