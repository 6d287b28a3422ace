"""Which checkpoint a run goes on from; and where the older ones go when it begins anew."""

import logging
import re
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm
from fvcore.common.checkpoint import Checkpointer
from torch import Tensor

from ..checkpoint.load import load_last, not_finite
from ..errors import DataError, first_line
from ..weight_files import read_file

logger = logging.getLogger(__name__)

_LAST = "last_checkpoint"
_NUMBERED = re.compile(r"model_(\d+)\.pth")


def resume(checkpointer: Checkpointer) -> bool:
    """Loads the newest whole checkpoint of the output folder; all processes load the same.

    That is the one that the file `last_checkpoint` names, as long as it is whole; else that of the
    highest iteration. One that is whole but does not fit the config ends the run: an older one
    would be another run.

    Returns:
        Whether there is any; without one a run begins anew.

    Raises:
        DataError: none of those that are there is whole, or the newest doesn't fit the config.
    """
    path = newest_checkpoint(checkpointer.save_dir)
    if path is None:
        return False
    load_last(checkpointer, str(path))
    return True


def newest_checkpoint(folder: str) -> Path | None:
    """Returns the newest whole checkpoint of a folder, as the main process sees it.

    Raises:
        DataError: there are some, and none is whole.
    """
    found: tuple[Path | None, str] = (None, "")
    if comm.is_main_process():
        try:
            found = _newest(Path(folder)), ""
        except DataError as error:
            found = None, str(error)
    path, message = comm.all_gather(found)[0]
    if message:
        raise DataError(message)
    return path


def _newest(folder: Path) -> Path | None:
    named = _named(folder)
    paths = checkpoints(folder)
    refused: list[str] = []
    for path in paths:
        try:
            iteration = check_checkpoint(path)["iteration"]
        except DataError as error:
            refused.append(first_line(error))
            logger.warning(f"--resume leaves a checkpoint out: {refused[-1]}")
            continue
        if named is not None and path != named:
            logger.warning(f"{folder / _LAST} names {named.name}, which is no whole checkpoint.")
        logger.info(f"--resume goes on from {path}, after iteration {iteration}.")
        return path
    if not paths and named is None:
        return None
    reasons = "; ".join(refused) or f"{folder / _LAST} names {named}, which is not there"
    raise DataError(
        f"--resume can't go on from {folder}: none of its checkpoints is whole ({reasons}). Put "
        "one that is there and write its name into last_checkpoint, or start anew without "
        "--resume (the files are then moved aside) or in another OUTPUT_DIR."
    )


def checkpoints(folder: Path) -> list[Path]:
    """Returns the files of checkpoints, whole or not: the one that `last_checkpoint` names first,
    then the newest first. Averages are none.
    """
    named, paths = _named(folder), _by_iteration(folder)
    if named is not None and named.is_file() and not _is_average(named):
        return [named, *(path for path in paths if path != named)]
    return paths


def _named(folder: Path) -> Path | None:
    """Returns what `last_checkpoint` names, whether it is there or not; None without that file."""
    try:
        text = (folder / _LAST).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
    return folder / text.replace("\0", "")


def _by_iteration(folder: Path) -> list[Path]:
    """Returns the files that are named as checkpoints, the newest first.

    By what they say of themselves: clocks jump, and copies have new times.
    """
    paths = [path for path in folder.glob("model_*.pth") if not _is_average(path)]
    return sorted(paths, key=iteration_of, reverse=True)


def _is_average(path: Path) -> bool:
    return path.stem.endswith("_ema")


def iteration_of(path: Path) -> int:
    """Returns the last iteration that is in a checkpoint, by its name or content; -1 if unknown."""
    number = _NUMBERED.fullmatch(path.name)
    if number:
        return int(number[1])
    try:
        return int(torch.load(path, weights_only=True, mmap=True)["iteration"])
    except Exception:  # what is wrong with it is said when its turn comes
        return -1


def check_checkpoint(path: Path) -> dict[str, Any]:
    """Returns all that a checkpoint holds.

    Raises:
        DataError: it can't be read, its checksums are wrong, it holds weights alone, or some that
            are not finite.
    """
    content = read_file(path)
    if not isinstance(content, dict) or not {"model", "trainer", "iteration"} <= set(content):
        raise DataError(f"{path} holds weights alone, and nothing that a run goes on with.")
    kept = content["trainer"].get("hooks", {}).get("EMA", {}).get("average", {})
    for kind, weights in (("weights", content["model"]), ("averaged weights", kept)):
        bad = not_finite((n, value) for n, value in weights.items() if isinstance(value, Tensor))
        if bad:
            raise DataError(f"{path}: {len(bad)} {kind} are not finite, {bad[0]} first.")
    return content


def set_aside(folder: str) -> None:
    """Moves the checkpoints of an earlier run into `previous-N` below the folder, with one line.

    N is the smallest number that is free.
    """
    root = Path(folder)
    files = sorted({*root.glob("model_*.pth"), *root.glob(_LAST)})
    if not files:
        return
    number = 1
    while True:
        target = root / f"previous-{number}"
        try:
            target.mkdir()
            break
        except FileExistsError:
            number += 1
    for path in files:
        path.rename(target / path.name)
    logger.warning(
        f"This run begins anew: the {len(files)} files of the earlier run's checkpoints were moved "
        f"to {target}. --resume would have gone on from them."
    )
