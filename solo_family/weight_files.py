"""Safe reading of weight files of any origin.

A pickle can name any Python function, which is called while the file is read. Here only the few
functions that create arrays and tensors are allowed.
"""

import io
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
from .fetch.names import weights_file
from .files import damaged_entry

# The keys under which checkpoints have their weights, in the order in which they are tried.
_WEIGHTS_KEYS = ("model", "state_dict", "model_state", "blobs")
# The functions and classes in pickles of numeric arrays, of numpy before 2.0 and since.
_NUMPY = {
    *(("numpy", name) for name in ("ndarray", "dtype")),
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
}
# What a tensor in a pickle is made of, as the pretrained backbones of MaskFormer's converters have.
_TENSORS = {("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter")}
# The messages in which our unpickler and torch's name what they refuse.
_REFUSED = re.compile(r"(\S+) is not allowed|GLOBAL `?([\w.]+)")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a file.

    Args:
        path: of a .safetensors, a .pkl of arrays (detectron2's model zoo) or tensors, or a file of
            `torch.save`; or a name of such a file, see `fetch.names`.

    Returns:
        Tensors by their names in the file, on the CPU, without the prefix `module.` of a DDP model.

    Raises:
        DataError: the file does not exist, is damaged, or can't be read safely.
    """
    path = weights_file(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. Correct the path.")
    state = find_weights(read_file(path), path)
    if all(name.startswith("module.") for name in state):
        return {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def read_file(path: Path) -> Any:
    """Read the complete content of a file.

    Args:
        path: as of `read_weights`.

    Raises:
        DataError: the file is damaged, or can't be read safely.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".pkl":
            with open(path, "rb") as file:
                return ArrayUnpickler(file).load()
        return load_torch(path)
    except Exception as error:
        # A damaged file can raise any of a dozen errors of four libraries.
        needed = refused(error)
        if not needed:
            raise DataError(
                f"{path} can't be read as a checkpoint: {reason(error)} Check that it is complete, "
                "and that it is a .pth, .pkl or .safetensors file of weights."
            ) from error
        raise DataError(
            f"{path} can't be read safely: besides weights it has {needed}, and reading that would "
            "run code that the file names. If you trust the file, load it where its own code base "
            "is installed, torch.save only its weights, and use that file."
        ) from error


def load_torch(path: str | Path) -> Any:
    """Read a file of `torch.save` after verifying its checksums; only tensors are created.

    Raises:
        ValueError: a checksum is wrong.
        Exception: any error of `torch.load`.
    """
    damaged = damaged_entry(path)
    if damaged:
        raise ValueError(f"the checksum of its part {damaged} is wrong, so the file is damaged")
    return torch.load(path, map_location="cpu", weights_only=True)


def refused(error: Exception) -> str:
    """Return the function that an unpickler has refused to call; "" for any other error."""
    named = _REFUSED.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
    return (named[1] or named[2]).rstrip(".") if named else ""


def reason(error: Exception) -> str:
    """Return the reason why a file can't be read, without torch's advice to trust the file."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Weights only load failed"):
        return lines[1]
    return first_line(error)


def find_weights(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the weights in the content of a checkpoint, under whichever key they are.

    Args:
        content: of the file.
        path: of the file, for messages.

    Returns:
        Tensors by name.

    Raises:
        DataError: there are no weights, or one of them is not a tensor.
    """
    for key in _WEIGHTS_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content:
        raise DataError(
            f"{path} has no weights: it has a {type(content).__name__} where a dict of tensors is "
            "needed. Name a file of weights."
        )
    weights = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in content.items()
    }
    for name, value in weights.items():
        if not isinstance(value, Tensor):
            raise DataError(
                f"{path} has no weights: {name!r} is a {type(value).__name__}, not a tensor. "
                f"Weights must be at the top level, or under {', '.join(_WEIGHTS_KEYS)}."
            )
    return weights


def _load_storage(content: bytes) -> Any:
    """Return the numbers of a tensor, which torch writes into a pickle as a file of its own."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler that creates arrays, tensors, numbers, strings and containers, and nothing else.

    Args:
        file: the open pickle.
    """

    def __init__(self, file: IO[bytes]) -> None:
        # Some published files were written by Python 2.
        super().__init__(file, encoding="latin1")
        self._path = getattr(file, "name", "the file")

    def find_class(self, module: str, name: str) -> Any:
        """Return a class or function that a pickle names.

        Raises:
            pickle.UnpicklingError: it is not one of the few that are allowed.
        """
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            # torch's own runs code that such a file names.
            return _load_storage
        if (module, name) not in _NUMPY | _TENSORS:
            raise pickle.UnpicklingError(
                f"{module}.{name} is not allowed in {self._path}: only arrays and tensors are "
                "made, because anything else could run code that the file names. If you trust the "
                "file, torch.save its weights alone, in a process without solo_family."
            )
        return super().find_class(module, name)


def load_checkpoint(path: str) -> dict[str, Any]:
    """Return the content of a checkpoint for detectron2's checkpointer.

    Args:
        path: of a file of `torch.save`, or a .safetensors, whose weights become `model`, and whose
            metadata says if names are matched heuristically.

    Raises:
        Exception: any error of `load_torch` or safetensors.
    """
    if not path.endswith(".safetensors"):
        return load_torch(path)
    with safe_open(path, framework="pt") as file:
        notes = file.metadata() or {}
    # Set for files of a backbone only, whose names detectron2 matches by their ends.
    heuristics = notes.get("matching_heuristics") == "True"
    return {"model": load_file(path), "matching_heuristics": heuristics}
