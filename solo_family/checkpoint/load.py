"""Load weights, and explain what is wrong with a file instead of continuing without it."""

import os
import pickle
from collections.abc import Iterable, Sequence
from typing import Any

from fvcore.common.checkpoint import Checkpointer
from torch import Tensor, nn

from ..errors import DataError, first_line
from ..modeling.stem import adapt_stem, first_convolution, tell_adapted
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


def load_weights(
    checkpointer: Checkpointer,
    path: str,
    *,
    complete: bool,
    colours: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Load the weights of `path`, but not its optimizer or schedule.

    Args:
        checkpointer: fvcore's checkpointer of the model.
        path: a file, or an address that detectron2 resolves; "" loads nothing.
        complete: the file must hold every weight of the model, as inference requires. If False,
            some of them suffice, as when training starts from a pretrained backbone; a first
            convolution of three colours is then adapted to the model's channels.
        colours: the places of these colours among the channels; see `adapt_stem`.

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
        if not complete:
            _load_stem(checkpointer, path, recorder, colours)
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


def _load_stem(
    checkpointer: Checkpointer, path: str, recorder: "_Recorder", colours: Sequence[int] | None
) -> None:
    """Load a first convolution of three colours into a model of other channels.

    A second time, into a convolution of three, because the file may have other names.
    """
    pixel_mean = getattr(checkpointer.model, "pixel_mean", None)
    channels = 3 if pixel_mean is None else len(pixel_mean)
    found = None if channels == 3 else first_convolution(checkpointer.model, channels)
    if found is None:
        return
    key, weight = f"{found[0]}.weight", found[1].weight
    before = recorder.incompatible
    if key not in {*before.missing_keys, *(name for name, *_ in before.incorrect_shapes)}:
        return
    own = weight.data
    weight.data = own.new_zeros((len(own), 3, *own.shape[2:]))
    try:
        checkpointer.load(path, checkpointables=[])
        again = recorder.incompatible
        recorder.incompatible = before
        if key not in {*again.missing_keys, *(name for name, *_ in again.incorrect_shapes)}:
            own = adapt_stem(weight.data, channels, colours)
            recorder.incompatible = again
            tell_adapted(key, channels)
    finally:
        weight.data = own


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
