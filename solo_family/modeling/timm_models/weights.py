"""Load checkpoints with timm's names into the networks that give features."""

import importlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...fetch.names import is_name
from ...files import expand_path
from ...weight_files import read_weights
from ..stem import adapt_state
from .network import build_whole, named_by_timm


def load_file(
    network: nn.Module,
    path: str,
    *,
    name: str,
    options: Mapping[str, Any],
    colours: Sequence[int] | None,
) -> None:
    """Load a checkpoint, which may have or lack what the whole model has beside the features.

    Position embeddings and biases of another image or window size are resized as timm resizes them.

    Args:
        network: the network.
        path: of the checkpoint, or its name; see `fetch.names`.
        name: timm's name of the model.
        options: timm's arguments.
        colours: the places of the checkpoint's three colours among the channels.

    Raises:
        ConfigError: the checkpoint is missing or belongs to another model.
        DataError: the checkpoint can't be read.
    """
    path = expand_path(path)
    if not is_name(path) and not os.path.isfile(path):
        raise ConfigError(f"MODEL.TIMM.WEIGHTS {path}: there is no such file.")
    state = read_weights(path)
    whole = build_whole(name, options)
    expected = whole.state_dict()
    if any(
        key not in expected or value.shape != expected[key].shape for key, value in state.items()
    ):
        state = _converted(state, whole)
    load_state(network, path, state, expected, options["in_chans"], colours)


def load_state(
    network: nn.Module,
    path: str,
    state: dict[str, Tensor],
    whole: Mapping[str, Tensor],
    channels: int,
    colours: Sequence[int] | None,
) -> None:
    """Load weights into a network.

    Args:
        network: the network.
        path: where they are from, for errors.
        state: the weights, with timm's names.
        whole: those that the whole model has beside the network's.
        channels: of the network's input.
        colours: see `load_file`.

    Raises:
        ConfigError: they belong to another model.
    """
    part = named_by_timm(network)
    own = part.state_dict()
    # timm renames layers of some models that return features only: stages.0 becomes stages_0.
    names = {key.replace(".", "_"): key for key in own}
    state = {names.get(key.replace(".", "_"), key): value for key, value in state.items()}
    state = adapt_state(state, part, channels, colours)
    wrong = [
        key
        for key, value in state.items()
        if (value.shape != own[key].shape if key in own else key not in whole)
    ]
    if wrong:
        raise ConfigError(
            f"MODEL.TIMM.WEIGHTS {path} has {len(wrong)} weights that do not fit the model, "
            f"{wrong[0]} first: it belongs to a model other than MODEL.TIMM.NAME."
        )
    missing, unexpected = part.load_state_dict(state, strict=False)
    if missing:
        raise ConfigError(
            f"MODEL.TIMM.WEIGHTS {path} lacks {len(missing)} of the model's weights, "
            f"{missing[0]} first: it belongs to a model other than MODEL.TIMM.NAME."
        )
    logging.getLogger("solo_family").info(
        f"Backbone weights from {path}; {len(unexpected)} of the classifier were not needed."
    )


def _converted(state: dict[str, Tensor], whole: nn.Module) -> dict[str, Tensor]:
    """Return weights as timm converts those of other sizes, or of the authors' own names.

    Those that timm can't convert are returned as they are.
    """
    module = importlib.import_module(type(whole).__module__)
    convert: Callable[..., dict[str, Tensor]] | None = getattr(module, "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        with torch.no_grad():
            return dict(convert(dict(state), whole))
    except Exception:  # made for checkpoints of this family; another's is refused by its names
        return state
