"""Reads weights of any source without running what a file says.

A pickle can name any function of Python, which is called while it is read. Here only the few that
make arrays and tensors are allowed.
"""

import pickle
import re
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from .errors import DataError, first_line
from .files import damaged_entry

# Where the weights stand, in the order in which they are looked for.
_WEIGHTS_KEYS = ("model", "state_dict", "model_state", "blobs")
# What arrays of numbers are pickled with, by numpy before 2.0 and since.
_NUMPY = {
    *(("numpy", name) for name in ("ndarray", "dtype")),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
}
# How our unpickler and torch's name what they refuse.
_REFUSED = re.compile(r"(\S+) is not allowed|GLOBAL `?([\w.]+)")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a .safetensors, a .pkl of numpy arrays (detectron2's model zoo), or a
    file of `torch.save`.

    Args:
        path: of the file.

    Returns:
        Tensors by their names in the file, on the CPU, without the `module.` of a DDP model.

    Raises:
        DataError: there is no such file, it is broken, or it can't be read safely.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    state = find_weights(read_file(path), path)
    if all(name.startswith("module.") for name in state):
        return {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def read_file(path: Path) -> Any:
    """Read all that a file holds; see `read_weights`."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".pkl":
            with open(path, "rb") as file:
                return ArrayUnpickler(file).load()
        return load_torch(path)
    except Exception as error:
        # Whatever is broken in a file comes up as any of a dozen errors of four libraries.
        needed = refused(error)
        if not needed:
            raise DataError(
                f"{path} can't be read as a checkpoint: {reason(error)} Is it complete, and a "
                ".pth, .pkl or .safetensors of weights?"
            ) from error
        raise DataError(
            f"{path} can't be read safely: beside weights it needs {needed}, and to make "
            "that, code that the file names would have to be run. Where its own code base is "
            "installed and the file is trusted, torch.save its weights alone, and convert those."
        ) from error


def load_torch(path: str | Path) -> Any:
    """Read a file of `torch.save`, and only what makes tensors; its checksums are verified.

    Raises:
        ValueError: what the file holds is not what was written.
        Exception: see `torch.load`.
    """
    damaged = damaged_entry(path)
    if damaged:
        raise ValueError(f"its part {damaged} does not have its checksum, so it is damaged")
    return torch.load(path, map_location="cpu", weights_only=True)


def refused(error: Exception) -> str:
    """Return the function that a file would have had called, or "" if it is broken otherwise."""
    named = _REFUSED.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
    return (named[1] or named[2]).rstrip(".") if named else ""


def reason(error: Exception) -> str:
    """Return what is wrong with a file, without torch's advice to trust it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Weights only load failed"):
        return lines[1]
    return first_line(error)


def find_weights(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the tensors of what a checkpoint holds, wherever they stand in it.

    Raises:
        DataError: there are none, or something else stands among them.
    """
    for key in _WEIGHTS_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path} holds no weights but {type(content).__name__}.")
    weights = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in content.items()
    }
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise DataError(
                f"{path} holds no weights: {name!r} is {type(value).__name__}, not a tensor. "
                f"Weights are looked for at the top, and under {', '.join(_WEIGHTS_KEYS)}."
            )
    return weights


class ArrayUnpickler(pickle.Unpickler):
    """Makes arrays, numbers, strings and containers, and nothing else."""

    def __init__(self, file: IO[bytes]) -> None:
        # Files of Python 2 are among the published ones.
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NUMPY:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return super().find_class(module, name)


def load_checkpoint(path: str) -> dict[str, Any]:
    """Return what a checkpoint file of torch's holds; of a .safetensors what its .pth would hold.

    That is `model`, and what is noted beside it.
    """
    if not path.endswith(".safetensors"):
        return load_torch(path)
    with safe_open(path, framework="pt") as file:
        notes = file.metadata() or {}
    # Of a backbone alone, whose names are matched by their ends.
    heuristics = notes.get("matching_heuristics") == "True"
    return {"model": load_file(path), "matching_heuristics": heuristics}
