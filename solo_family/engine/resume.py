"""The choice of the checkpoint to resume from, and the move of old ones when a new run starts."""

import logging
import os
import re
import shutil
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
# What the writers of metrics append to.
_METRICS = ("metrics.json", "metrics.csv")
_NUMBERED = re.compile(r"model_(\d+)\.pth")


def resume(checkpointer: Checkpointer) -> bool:
    """Load the newest intact checkpoint of the output folder, the same one in all processes.

    It is the one that the file `last_checkpoint` names or, if that is damaged, the intact one of
    the highest iteration. If the newest intact checkpoint does not fit the config, an error is
    raised, because older ones would not fit, either.

    Returns:
        Whether there is a checkpoint.

    Raises:
        DataError: all checkpoints are damaged, or the newest intact one doesn't fit the config.
    """
    path = newest_checkpoint(checkpointer.save_dir)
    if path is None:
        return False
    load_last(checkpointer, str(path))
    return True


def newest_checkpoint(folder: str) -> Path | None:
    """Return the newest intact checkpoint of a folder, as the main process sees it, or None.

    Raises:
        DataError: the folder has checkpoints, and all of them are damaged.
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
            logger.warning(f"--resume skips a checkpoint: {refused[-1]}")
            continue
        if named is not None and path != named:
            logger.warning(
                f"{folder / _LAST} names {named.name}, which is not an intact checkpoint."
            )
        logger.info(f"--resume goes on from {path}, after iteration {iteration + 1}.")
        return path
    if not paths and named is None:
        return None
    reasons = "; ".join(refused) or f"{folder / _LAST} names {named}, which does not exist"
    raise DataError(
        f"--resume can't go on from {folder}: none of its checkpoints is intact ({reasons}). Copy "
        "an intact one there and write its name into last_checkpoint, or start a new run: without "
        "--resume, which moves the old files to a subfolder, or in another OUTPUT_DIR."
    )


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, intact or not, without averaged weights.

    First the one that `last_checkpoint` names, then the others, the newest first.
    """
    named, paths = _named(folder), _by_iteration(folder)
    if named is not None and named.is_file() and not _is_average(named):
        return [named, *(path for path in paths if path != named)]
    return paths


def _named(folder: Path) -> Path | None:
    """Return the path that `last_checkpoint` names, which may not exist; None without that file."""
    try:
        text = (folder / _LAST).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
    return folder / text.replace("\0", "")


def _by_iteration(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, in descending order of their iterations.

    Times of files would be unreliable: clocks jump, and copies have new times.
    """
    paths = [path for path in folder.glob("model_*.pth") if not _is_average(path)]
    return sorted(paths, key=iteration_of, reverse=True)


def _is_average(path: Path) -> bool:
    return path.stem.endswith("_ema")


def iteration_of(path: Path) -> int:
    """Return the last iteration in a checkpoint, by its name or content; -1 if it is unknown."""
    number = _NUMBERED.fullmatch(path.name)
    if number:
        return int(number[1])
    try:
        return int(torch.load(path, weights_only=True, mmap=True)["iteration"])
    except Exception:  # `check_checkpoint` reports what is wrong
        return -1


def hook_of_checkpoint(path: Path, name: str) -> dict[str, Any]:
    """Return the state of a hook in a checkpoint; empty if there is none, or no intact file."""
    try:
        content = torch.load(path, weights_only=True, mmap=True)
        return dict(content["trainer"]["hooks"][name])
    except Exception:  # a run goes on without it
        return {}


def check_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, after checking that a run can resume from it.

    Raises:
        DataError: the file can't be read, its checksums are wrong, it has weights only, or some
            weights are not finite.
    """
    content = read_file(path)
    if not isinstance(content, dict) or not {"model", "trainer", "iteration"} <= set(content):
        raise DataError(
            f"{path} has weights only, and no state of a run to resume. Name it in MODEL.WEIGHTS "
            "to start a new run from these weights."
        )
    kept = content["trainer"].get("hooks", {}).get("EMA", {}).get("average", {})
    for kind, weights in (("weights", content["model"]), ("averaged weights", kept)):
        bad = not_finite((n, value) for n, value in weights.items() if isinstance(value, Tensor))
        if bad:
            raise DataError(
                f"{path}: {len(bad)} {kind} are not finite, the first is {bad[0]}. Use an earlier "
                "checkpoint."
            )
    return content


def set_aside(folder: str) -> None:
    """Move the checkpoints and the metrics of an earlier run to `previous-N`, and log it.

    The curves, the report and the model card would take metrics of the earlier run for those of the
    new one. N is the smallest number that is not taken.

    Args:
        folder: the output folder.
    """
    root = Path(folder)
    files = sorted({*root.glob("model_*.pth"), *root.glob(_LAST)})
    tables = [path for name in _METRICS if (path := root / name).is_file() and path.stat().st_size]
    if not files and not tables:
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
    for path in tables:
        # The new run has opened the file for appending, and goes on with the one that it has.
        shutil.copyfile(path, target / path.name)
        os.truncate(path, 0)
    moved = [f"the {len(files)} checkpoint files" if files else "", "the metrics" if tables else ""]
    logger.warning(
        f"This is a new run: {' and '.join(filter(None, moved))} of an earlier run were moved to "
        f"{target}. With --resume the earlier run would have been continued."
    )
