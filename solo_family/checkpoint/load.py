"""Load weights, and explain what is wrong with a file instead of continuing without it."""

import os
import pickle
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fvcore.common.checkpoint import Checkpointer
from torch import Tensor, nn

from ..errors import DataError, first_line
from ..fetch.addresses import fetch_address, is_address
from ..fetch.names import ZOO, is_name, weights_file
from ..modeling.one_to_many import names_for_training_only
from ..modeling.stem import adapt_stem, first_convolution, tell_adapted
from ..weight_files import read_weights, reason, refused
from .foreign import advice_on_names
from .published import converting

_REMOTE = "://"
# torch, pickle and detectron2 raise these for files that are broken or hold something else.
_LOADING_ERRORS = (
    *(AssertionError, AttributeError, EOFError, KeyError, OSError, RuntimeError),
    *(TypeError, ValueError, pickle.UnpicklingError),
)


def check_weights_file(path: str) -> None:
    """Refuse a path of a local checkpoint that does not exist; download what is on the network.

    Raises:
        DataError: names `MODEL.WEIGHTS`, or what can't be downloaded.
    """
    if is_name(path):
        weights_file(path)
        return
    if is_address(path):
        fetch_address(path)
        return
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
        path: a file, a name of one (see `fetch.names`), or an address that detectron2 resolves;
            "" loads nothing. Weights of the zoo get our names.
        complete: the file must hold every weight that inference requires. If False,
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
    rest, incompatible = _load(checkpointer, path)
    if not complete:
        incompatible = _load_stem(checkpointer, path, incompatible, colours)
    _check_fit(path, checkpointer.model, incompatible, complete)
    _check_finite(path, checkpointer.model)
    return rest


def _load(
    checkpointer: Checkpointer, path: str, *, quiet: bool = False
) -> tuple[dict[str, Any], Any]:
    """Load the weights that fit, and log those that don't unless it is to be quiet.

    Returns:
        What the checkpoint holds beside them; and fvcore's record of those that don't fit, or None.
    """
    recorder = _Recorder(checkpointer, quiet)
    try:
        file = str(weights_file(path)) if is_name(path) else path
        with converting(checkpointer) if path.startswith(ZOO) else nullcontext():
            return checkpointer.load(file, checkpointables=[]), recorder.incompatible
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


def _load_stem(
    checkpointer: Checkpointer, path: str, before: Any, colours: Sequence[int] | None
) -> Any:
    """Load a first convolution of three colours into a model of other channels.

    A second time, into a convolution of three, because the file may have other names.

    Args:
        checkpointer: fvcore's checkpointer of the model.
        path: of the checkpoint.
        before: fvcore's record of what did not fit at first, or None.
        colours: see `load_weights`.

    Returns:
        The record of what does not fit now.
    """
    pixel_mean = getattr(checkpointer.model, "pixel_mean", None)
    channels = 3 if pixel_mean is None else len(pixel_mean)
    found = None if channels == 3 else first_convolution(checkpointer.model, channels)
    if found is None or before is None or f"{found[0]}.weight" not in _absent(before):
        return before
    key, weight = f"{found[0]}.weight", found[1].weight
    own = weight.data
    weight.data = own.new_zeros((len(own), 3, *own.shape[2:]))
    try:
        _, again = _load(checkpointer, path, quiet=True)
        if key in _absent(again):
            return before
        own = adapt_stem(weight.data, channels, colours)
    finally:
        weight.data = own
    tell_adapted(key, channels)
    return again


def _absent(incompatible: Any) -> set[str]:
    """Return the names of the weights that a file lacks, or has in another shape."""
    return {*incompatible.missing_keys, *(name for name, *_ in incompatible.incorrect_shapes)}


def not_finite(weights: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Return the names of the weights that contain a NaN or an infinite value."""
    return [
        name
        for name, tensor in weights
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]


def what_is_wrong(path: Path) -> str:
    """Return why the weights of a file can't be used, in a sentence; "" where they can."""
    try:
        bad = not_finite(read_weights(path).items())
    except DataError as error:
        return first_line(error)
    return f"{path}: {len(bad)} weights are not finite, {bad[0]} first." if bad else ""


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
    rest, incompatible = _load(checkpointer, path, quiet=True)
    mismatch = _first_mismatch(checkpointer.model, incompatible)
    if mismatch:
        raise DataError(
            f"--resume can't go on from {path}, which is of another model than the config's: "
            f"{mismatch}. Go on with the config of the stopped run (its number of classes, too), "
            "or start over: without --resume, which moves these checkpoints aside, or in another "
            "OUTPUT_DIR."
        )
    _check_finite(path, checkpointer.model)
    try:
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

    def __init__(self, checkpointer: Checkpointer, quiet: bool) -> None:
        self.incompatible: Any = None
        self._quiet = quiet
        self._checkpointer = checkpointer
        self._original = checkpointer._log_incompatible_keys
        checkpointer._log_incompatible_keys = self._record

    def _record(self, incompatible: Any) -> None:
        self.incompatible = incompatible
        if not self._quiet:
            self._original(incompatible)

    def stop(self) -> None:
        del self._checkpointer._log_incompatible_keys


def _first_mismatch(model: nn.Module, incompatible: Any) -> str:
    """Return the first weight in which a checkpoint and the model differ, or "" if none does."""
    if incompatible is None:
        return ""
    for key, theirs, ours in incompatible.incorrect_shapes:
        return f"{key} is {tuple(theirs)} in the file, and {tuple(ours)} in the model"
    parameters = dict(model.named_parameters())
    for key in (key for key in incompatible.missing_keys if key in parameters):
        return f"it lacks {key}"
    for key in incompatible.unexpected_keys:
        return f"it holds {key}, which the model has not"
    return ""


def _check_fit(path: str, model: nn.Module, incompatible: Any, complete: bool) -> None:
    if incompatible is None:
        return
    optional = names_for_training_only(model)
    parameters = {key for key, _ in model.named_parameters()} - optional
    missing = [key for key in incompatible.missing_keys if key in parameters]
    shapes = [entry for entry in incompatible.incorrect_shapes if entry[0] not in optional]
    misshapen = [key for key, *_ in shapes]
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
    if complete and shapes:
        key, theirs, ours = shapes[0]
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
