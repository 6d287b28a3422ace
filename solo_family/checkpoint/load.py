"""Load weights, and explain what is wrong with a file instead of continuing without it."""

import os
import pickle
from collections.abc import Iterable
from typing import Any

from fvcore.common.checkpoint import Checkpointer
from torch import Tensor, nn

from ..errors import DataError, first_line
from ..weight_files import reason, refused
from .foreign import advice_on_names

_REMOTE = "://"
# torch, pickle and detectron2 raise these for files that are broken or hold something else.
_LOADING_ERRORS = (
    *(AssertionError, AttributeError, EOFError, KeyError, OSError, RuntimeError),
    *(TypeError, ValueError, pickle.UnpicklingError),
)


def check_weights_file(path: str) -> None:
    """Refuse a path of a local checkpoint that does not exist.

    Raises:
        DataError: names `MODEL.WEIGHTS`.
    """
    if path and _REMOTE not in path and not os.path.isfile(path):
        raise DataError(
            f"MODEL.WEIGHTS {path}: there is no such file. Give the path of a checkpoint "
            "(.pth, .pkl), or MODEL.WEIGHTS '' to start from random weights."
        )


def load_weights(checkpointer: Checkpointer, path: str, *, complete: bool) -> dict[str, Any]:
    """Load the weights of `path`, but not its optimizer or schedule.

    Args:
        checkpointer: fvcore's checkpointer of the model.
        path: a file, or an address that detectron2 resolves; "" loads nothing.
        complete: the file must hold every weight of the model, as inference requires. If False,
            some of them suffice, as when training starts from a pretrained backbone.

    Returns:
        The content of the checkpoint besides the weights.

    Raises:
        DataError: the file is missing, can't be read, belongs to another model, or has weights that
            are not finite.
    """
    check_weights_file(path)
    if not path:
        return {}
    model = checkpointer.model
    recorder = _Recorder(checkpointer)
    try:
        rest = checkpointer.load(path, checkpointables=[])
    except _LOADING_ERRORS as error:
        if refused(error):
            raise DataError(
                f"MODEL.WEIGHTS {path} can't be read safely: besides weights it has "
                f"{refused(error)}, and reading that would run code that the file names. Give a "
                "file that has only weights."
            ) from error
        raise DataError(
            f"MODEL.WEIGHTS {path} can't be read as a checkpoint: {reason(error)}. "
            "Check that it is complete, and that it is a .pth or .pkl file of weights."
        ) from error
    finally:
        recorder.stop()
    _check_fit(path, model, recorder.incompatible, complete)
    _check_finite(path, model)
    return rest


def not_finite(weights: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Return the names of the weights that contain a NaN or an infinite value."""
    return [
        name
        for name, tensor in weights
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]


def _check_finite(path: str, model: nn.Module) -> None:
    bad = not_finite(model.state_dict().items())
    if bad:
        values = model.state_dict()[bad[0]]
        count = int((~values.isfinite()).sum())
        raise DataError(
            f"MODEL.WEIGHTS {path}: {len(bad)} weights are not finite, the first is {bad[0]} "
            f"({count} of its {values.numel()} values are NaN or infinite). Use an earlier "
            "checkpoint."
        )


def load_last(checkpointer: Checkpointer, path: str) -> None:
    """Load a checkpoint of the output folder, with all state that a run resumes from.

    Args:
        checkpointer: fvcore's checkpointer of the run.
        path: of the checkpoint.

    Raises:
        DataError: it is missing, can't be read, or belongs to another model or optimizer.
    """
    try:
        rest = load_weights(checkpointer, path, complete=True)
        for key, part in checkpointer.checkpointables.items():
            if key in rest:
                part.load_state_dict(rest[key])
    except (DataError, *_LOADING_ERRORS) as error:
        raise DataError(
            f"--resume can't go on from {path}: {first_line(error)} Write the name of an earlier "
            f"checkpoint into {os.path.join(checkpointer.save_dir, 'last_checkpoint')}, use the "
            "config of the stopped run, or start a new run in another OUTPUT_DIR."
        ) from error


class _Recorder:
    """Record of the weights that did not fit, which fvcore's checkpointer only logs."""

    def __init__(self, checkpointer: Checkpointer) -> None:
        self.incompatible: Any = None
        self._checkpointer = checkpointer
        self._original = checkpointer._log_incompatible_keys
        checkpointer._log_incompatible_keys = self._record

    def _record(self, incompatible: Any) -> None:
        self.incompatible = incompatible
        self._original(incompatible)

    def stop(self) -> None:
        del self._checkpointer._log_incompatible_keys


def _check_fit(path: str, model: nn.Module, incompatible: Any, complete: bool) -> None:
    if incompatible is None:
        return
    parameters = dict(model.named_parameters())
    missing = [key for key in incompatible.missing_keys if key in parameters]
    misshapen = [key for key, *_ in incompatible.incorrect_shapes]
    absent = sorted({*missing, *misshapen})
    present = {*incompatible.unexpected_keys, *model.state_dict()} - {*missing}
    advice = advice_on_names(path, absent, incompatible.unexpected_keys, present)
    if advice:
        raise DataError(advice)
    if len(absent) == len(parameters):
        raise DataError(
            f"MODEL.WEIGHTS {path} has none of the model's {len(parameters)} weights: it "
            "belongs to another model. Use the config.yaml that was saved beside the weights."
        )
    if complete and incompatible.incorrect_shapes:
        key, theirs, ours = incompatible.incorrect_shapes[0]
        raise DataError(
            f"MODEL.WEIGHTS {path}: {len(misshapen)} weights differ in shape from the config's "
            f"model, the first is {key}: {tuple(theirs)} in the file, {tuple(ours)} in the model. "
            "Use the config.yaml that was saved beside the weights."
        )
    if complete and missing:
        raise DataError(
            f"MODEL.WEIGHTS {path} lacks {len(missing)} of the model's {len(parameters)} weights, "
            f"the first is {missing[0]}: it belongs to another model, or has only a backbone. Use "
            "the config.yaml that was saved beside the weights."
        )
