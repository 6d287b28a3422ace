"""Lets detectron2's checkpointer read .safetensors as it reads .pth."""

from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from safetensors import safe_open
from safetensors.torch import load_file

_SUFFIX = ".safetensors"


def read_with_detectron2() -> None:
    """Adds the format to detectron2's `DetectionCheckpointer`; calling it again changes nothing.

    It is done on the class, because `DefaultPredictor` makes one of its own.
    """
    original = DetectionCheckpointer._torch_load
    if getattr(original, "reads_safetensors", False):
        return

    def torch_load(self: DetectionCheckpointer, path: str) -> Any:
        return load_checkpoint(path) if path.endswith(_SUFFIX) else original(self, path)

    torch_load.reads_safetensors = True  # type: ignore[attr-defined]
    DetectionCheckpointer._torch_load = torch_load


def load_checkpoint(path: str) -> dict[str, Any]:
    """Returns what a .pth of the same weights would hold: `model`, and what is noted beside it."""
    with safe_open(path, framework="pt") as file:
        notes = file.metadata() or {}
    # Of a backbone alone, whose names are matched by their ends.
    heuristics = notes.get("matching_heuristics") == "True"
    return {"model": load_file(path), "matching_heuristics": heuristics}
