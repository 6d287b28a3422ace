"""Open an exported folder: its description, and a session of ONNX Runtime."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from ..errors import DataError, first_line

DESCRIPTION = "model.json"
LAYOUT = 1  # version of model.json


def read_description(folder: Path) -> dict[str, Any]:
    """Return the content of an exported folder's `model.json`.

    Raises:
        DataError: the file is missing, unreadable, or of another version.
    """
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{folder} is not an exported model: there is no {DESCRIPTION} to read "
            f"({error.strerror}). `python -m solo_family export` writes one."
        ) from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {first_line(error)}. Export again.") from error
    layout = description.get("layout") if isinstance(description, dict) else None
    if layout != LAYOUT:
        raise DataError(
            f"{path} has the layout {layout}, but this runtime reads {LAYOUT}. Export again, or "
            "use the version of solo_family that exported it."
        )
    return description


def open_session(
    folder: Path, description: dict[str, Any], providers: Sequence[str], threads: int
) -> onnxruntime.InferenceSession:
    """Return a session that runs an exported folder's graph.

    Args:
        folder: the exported folder.
        description: the content of its `model.json`.
        providers: execution providers of ONNX Runtime, in order of preference.
        threads: number of threads that one image may use; 0 leaves it to ONNX Runtime.

    Raises:
        DataError: this ONNX Runtime can't run the graph.
    """
    if description["format"] != "onnx":
        raise DataError(
            f"{folder} has a model in the format {description['format']}, which ONNX Runtime can't "
            "run. Export it with --format onnx."
        )
    least, here = description["onnxruntime"], onnxruntime.__version__
    if _version(here) < _version(least):
        raise DataError(
            f"{folder} has opset {description['opset']}, which needs ONNX Runtime {least}, but "
            f"this is {here}: pip install -U onnxruntime."
        )
    unknown = [name for name in providers if name not in onnxruntime.get_available_providers()]
    if unknown:
        raise DataError(
            f"This ONNX Runtime has no {', '.join(unknown)}; it has "
            f"{', '.join(onnxruntime.get_available_providers())}."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    path = folder / description["file"]
    if not path.is_file():
        raise DataError(f"{path}, which {DESCRIPTION} names, is missing: export again.")
    try:
        return onnxruntime.InferenceSession(path, options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise DataError(
            f"{path} can't be loaded by ONNX Runtime {here}: {first_line(error)}"
        ) from error


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])
