"""Read what an ONNX file says of itself, and store large weights beside it."""

from pathlib import Path
from typing import Any

import onnx
from onnx import external_data_helper

# Protocol buffers, and so an ONNX file, end at 2 GiB; a margin is left for the graph.
LARGEST_FILE = 2**31 - 2**26
# Weights of fewer bytes stay in the file, where tools that infer shapes look for them.
_LEAST_OUTSIDE = 1024


def describe_onnx(path: Path) -> dict[str, Any]:
    """Store the weights of a large model beside its file, and return the versions of the format.

    Args:
        path: an ONNX file; large weights of it may be in other files of its folder already.

    Returns:
        `ir_version` and `opset` of the file, and `weights_file`: the name of the file with the
        large weights, which has to be in the same folder, or None if there is none.
    """
    model = onnx.load(str(path), load_external_data=False)
    description = {
        "ir_version": model.ir_version,
        "opset": next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx")),
        "weights_file": None,
    }
    if sum(file.stat().st_size for file in _files(path, model)) > LARGEST_FILE:
        description["weights_file"] = _store_outside(path, model)
    return description


def _files(path: Path, model: onnx.ModelProto) -> set[Path]:
    """Return the file itself, and the files that the exporter has put large weights into."""
    names = {
        external_data_helper.ExternalDataInfo(tensor).location
        for tensor in model.graph.initializer
        if external_data_helper.uses_external_data(tensor)
    }
    return {path, *(path.parent / name for name in names)}


def _store_outside(path: Path, model: onnx.ModelProto) -> str:
    """Move all large weights to one file, and return its name."""
    before = _files(path, model) - {path}
    onnx.load_external_data_for_model(model, str(path.parent))
    name = f"{path.name}.data"
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=True,
        location=name,
        size_threshold=_LEAST_OUTSIDE,
    )
    for file in before:
        file.unlink()
    return name
