"""Checkpoints that are complete or not there."""

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
    """detectron2's checkpointer; a file, and the note of the last one, appears whole or not.

    Saving raises TrainingError where the disk is full, or weights are not finite; what was there
    before stays.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.path_manager: Any = _Checkpoints(PathManager)
        # Where there is one, its weights are saved beside the raw ones.
        self.ema: EMA | None = None
        # After which a resumed run would go on; None before the first.
        self.saved_iteration: int | None = None

    def save(self, name: str, **state: Any) -> None:
        """Writes `name.pth`, which a run resumes from, and `name_ema.pth`, which holds weights."""
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
        # A run resumes from its last checkpoint, which the best one need not be.
        if not last_filename_basename.startswith(_BEST):
            super().tag_last_checkpoint(last_filename_basename)


def _check_finite(name: str, kind: str, weights: dict[str, Tensor]) -> None:
    bad = not_finite(weights.items())
    if bad:
        raise TrainingError(
            f"The checkpoint {name} was not written: {len(bad)} {kind} are not finite, {bad[0]} "
            "first. Those before it are whole: go on from one with --resume, and a lower "
            "SOLVER.BASE_LR or clipped gradients (SOLVER.CLIP_GRADIENTS)."
        )


class _Checkpoints(WholeFiles):
    """A PathManager whose files are whole, and say what to do where they can't be written."""

    @contextmanager
    def written(self, path: str, mode: str) -> Iterator[IO[Any]]:
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            # Somebody has removed it; what was trained is worth more than to ask why.
            logging.getLogger(__name__).warning(f"{folder} was gone, and is made again.")
            os.makedirs(folder)
        try:
            with super().written(path, mode) as file:
                yield file
        except Exception as error:
            cause = full_disk(error) or error  # torch.save raises another after the system's
            if not isinstance(cause, OSError):
                raise
            remedy = "See to the disk or network drive of OUTPUT_DIR"
            if full_disk(cause):
                remedy = (
                    "Make room on the disk, or raise SOLVER.CHECKPOINT_PERIOD and delete old ones"
                )
            raise TrainingError(
                f"Can't write the checkpoint {path}: {cause.strerror}. The checkpoints before it "
                f"are whole. {remedy}; then --resume goes on from the last."
            ) from error
