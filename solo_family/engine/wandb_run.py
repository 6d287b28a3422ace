"""A run of Weights & Biases."""

import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from ..files import replacing
from .loggers import Logger, read_run_id

_ID = "wandb_run.txt"


class WandbRun(Logger):
    """Log to Weights & Biases; its own environment variables say where and how.

    `WANDB_MODE=offline` writes files alone, `WANDB_PROJECT` and `WANDB_ENTITY` say where to. The id
    of the run is kept in the folder, so that a resumed training goes on in it.
    """

    name = "wandb"
    _run: Any = None

    def open(self, resumed: bool) -> None:
        """Begin a run, or go on in that of the folder."""
        import wandb

        path = self.folder / _ID
        identity = read_run_id(path, resumed) or secrets.token_hex(4)
        self._run = wandb.init(
            dir=str(self.folder),
            id=identity,
            name=os.environ.get("WANDB_NAME") or self.folder.resolve().name,
            resume="allow",
        )
        # Steps of wandb's own must not go back, as iterations do when a run is resumed.
        self._run.define_metric("iteration")
        self._run.define_metric("*", step_metric="iteration")
        with replacing(path) as temporary:
            temporary.write_text(f"{identity}\n", encoding="utf-8")

    def log(self, iteration: int, values: dict[str, float]) -> None:
        """Log the metrics."""
        self._run.log({**values, "iteration": iteration})

    def log_picture(self, iteration: int, name: str, picture: np.ndarray) -> None:
        """Log a picture."""
        import wandb

        image = wandb.Image(np.ascontiguousarray(picture.transpose(1, 2, 0)))
        self._run.log({name: image, "iteration": iteration})

    def close(self) -> None:
        """End the run."""
        if self._run is not None:
            self._run.finish()


def build(folder: Path) -> WandbRun:
    """Return the logger of a folder."""
    return WandbRun(folder)
