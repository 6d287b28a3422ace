"""Run the graph of an exported folder with ONNX Runtime or with OpenVINO."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import ConfigError, DataError, SoloFamilyError, first_line
from .folder import DESCRIPTION

DEFAULT_ENGINE = "onnxruntime"
# The names of all inputs that graphs have.
GRAPH_INPUTS = ("images", "score_threshold", "image_sizes")


class Engine(Protocol):
    """A loaded graph, which several threads may run at once.

    Attributes:
        inputs: the names of the graph's inputs.
    """

    inputs: list[str]

    def run(self, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Return the outputs in the graph's order.

        Args:
            given: all inputs by name.
        """


def open_engine(
    name: str,
    folder: Path,
    description: dict[str, Any],
    providers: Sequence[str] | None = None,
    threads: int = 0,
) -> Engine:
    """Load the graph of an exported folder.

    Args:
        name: the engine, a key of `ENGINES`.
        folder: the exported folder.
        description: the content of its `model.json`.
        providers: execution providers of ONNX Runtime, in order of preference; None for the CPU.
        threads: number of threads that one image may use; 0 leaves it to the engine.

    Raises:
        ConfigError: there is no such engine, or it has no providers.
        DataError: the engine can't run the graph.
        SoloFamilyError: the engine is not installed.
    """
    if name not in ENGINES:
        raise ConfigError(f"engine is {name!r}; it can be {' or '.join(ENGINES)}.")
    if providers is not None and name != DEFAULT_ENGINE:
        raise ConfigError(f"providers are ONNX Runtime's; with the engine {name}, leave them out.")
    title, load = ENGINES[name]
    if description["format"] != "onnx":
        raise DataError(
            f"{folder} has a model in the format {description['format']}, which {title} can't "
            "run. Export it with --format onnx."
        )
    path = folder / description["file"]
    if not path.is_file():
        raise DataError(f"{path}, which {DESCRIPTION} names, is missing: export again.")
    try:
        return load(path, description, providers, threads)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise SoloFamilyError(f"The engine {name} is not installed: pip install {name}") from error


class OnnxRuntime:
    """A session of ONNX Runtime.

    Args:
        path: the ONNX file.
        description: see `open_engine`.
        providers: see `open_engine`.
        threads: see `open_engine`.
    """

    def __init__(
        self,
        path: Path,
        description: dict[str, Any],
        providers: Sequence[str] | None,
        threads: int,
    ) -> None:
        import onnxruntime

        least, here = description["onnxruntime"], onnxruntime.__version__
        if _version(here) < _version(least):
            raise DataError(
                f"{path.parent} has opset {description['opset']}, which needs ONNX Runtime "
                f"{least}, but this is {here}: pip install -U onnxruntime."
            )
        chosen, known = providers or ["CPUExecutionProvider"], onnxruntime.get_available_providers()
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise DataError(
                f"This ONNX Runtime has no {', '.join(unknown)}; it has {', '.join(known)}."
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        if description.get("precision") == "float16":
            # The extended fusions end the process on MaskFormer's graph, by a segmentation fault.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=list(chosen))
        except Exception as error:  # ONNX Runtime's errors have no common class
            raise DataError(
                f"{path} can't be loaded by ONNX Runtime {here}: {first_line(error)}"
            ) from error
        self.inputs = [given.name for given in self._session.get_inputs()]

    def run(self, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Return the outputs; see `Engine`."""
        return self._session.run(None, given)


class OpenVino:
    """A graph that OpenVINO has compiled for the CPU, in float32.

    By default OpenVINO computes in bfloat16 where the CPU can, which changes what is found.

    Args:
        path: the ONNX file.
        description: see `open_engine`.
        providers: None.
        threads: see `open_engine`.
    """

    def __init__(
        self,
        path: Path,
        description: dict[str, Any],
        providers: Sequence[str] | None,
        threads: int,
    ) -> None:
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        try:
            self.compiled = openvino.Core().compile_model(path, "CPU", settings)
        except RuntimeError as error:
            here = openvino.__version__.split("-")[0]
            raise DataError(
                f"{path} can't be loaded by OpenVINO {here}: {first_line(error)}"
            ) from error
        # OpenVINO gives a tensor names of its own, too.
        names = set[str]().union(*(tensor.names for tensor in self.compiled.inputs))
        self.inputs = [name for name in GRAPH_INPUTS if name in names]
        self._idle: list[openvino.InferRequest] = []

    def run(self, given: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Return the outputs; see `Engine`."""
        try:
            request = self._idle.pop()
        except IndexError:  # as many threads as never before
            request = self.compiled.create_infer_request()
        outputs = request.infer(given, share_inputs=True)
        self._idle.append(request)
        return [outputs[index] for index in range(len(outputs))]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


Load = Callable[[Path, dict[str, Any], Sequence[str] | None, int], Engine]
# The engines by the name of their package, with the name that people know.
ENGINES: dict[str, tuple[str, Load]] = {
    DEFAULT_ENGINE: ("ONNX Runtime", OnnxRuntime),
    "openvino": ("OpenVINO", OpenVino),
}
