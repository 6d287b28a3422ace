"""Choose the weights of a training run, or of a folder that `publish` wrote."""

import logging
from pathlib import Path

from ..checkpoint.load import what_is_wrong
from ..errors import DataError
from ..fetch.names import WEIGHTS
from .resume import checkpoints

logger = logging.getLogger(__name__)

_PUBLISHED, _FINAL = WEIGHTS


def weights_of_run(folder: Path) -> Path:
    """Return the weights that training ended with, or else its newest intact checkpoint.

    A folder without checkpoints may have weights that `publish` wrote.

    Raises:
        DataError: there is none, or none is intact.
    """
    final = folder / _FINAL
    paths = [path for path in checkpoints(folder) if path != final]
    if final.is_file():
        paths.insert(0, final)
    elif not paths and (folder / _PUBLISHED).is_file():
        paths.append(folder / _PUBLISHED)
    refused: list[str] = []
    for path in paths:
        reason = what_is_wrong(path)
        if not reason:
            if refused:
                logger.warning("%s Taken instead: %s.", " ".join(refused), path)
            return path
        refused.append(reason)
    if refused:
        raise DataError(
            f"{folder} has no intact checkpoint ({' '.join(refused)}). Give weights= "
            "or the path of other weights, or train again."
        )
    raise DataError(
        f"{folder} has neither model_final.pth nor another checkpoint. Give weights= or the "
        "path of a checkpoint, or wait for the first one of the training run."
    )
