"""Lets detectron2's checkpointer read .safetensors too, and run no code that a file names."""

from pathlib import Path
from typing import IO, Any

from detectron2.checkpoint import DetectionCheckpointer, detection_checkpoint
from safetensors import safe_open
from safetensors.torch import load_file

from ..weight_files import ArrayUnpickler, load_torch, read_file


def read_safely_with_detectron2() -> None:
    """Changes detectron2's `DetectionCheckpointer`; calling it again changes nothing.

    It is done on the class, because `DefaultPredictor` makes one of its own.
    """
    original = DetectionCheckpointer._load_file
    if getattr(original, "is_safe", False):
        return

    def load_any(self: DetectionCheckpointer, path: str) -> Any:
        if path.endswith(".pyth"):  # pycls' are read by torch, of which old versions run code
            read_file(Path(path))
        return original(self, path)

    load_any.is_safe = True  # type: ignore[attr-defined]
    DetectionCheckpointer._load_file = load_any
    DetectionCheckpointer._torch_load = _torch_load
    # The name that its module uses to read .pkl, and for nothing else.
    detection_checkpoint.pickle = _ArrayPickle


class _ArrayPickle:
    """In the place of the module `pickle`."""

    @staticmethod
    def load(file: IO[bytes], encoding: str) -> Any:
        return ArrayUnpickler(file).load()


def _torch_load(self: DetectionCheckpointer, path: str) -> Any:
    if path.endswith(".safetensors"):
        return load_checkpoint(path)
    return load_torch(path)


def load_checkpoint(path: str) -> dict[str, Any]:
    """Returns what a .pth of the same weights would hold: `model`, and what is noted beside it."""
    with safe_open(path, framework="pt") as file:
        notes = file.metadata() or {}
    # Of a backbone alone, whose names are matched by their ends.
    heuristics = notes.get("matching_heuristics") == "True"
    return {"model": load_file(path), "matching_heuristics": heuristics}
