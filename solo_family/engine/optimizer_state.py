"""An optimizer's averages, taken over into an optimizer of other rates or other groups: by name.

Parameters are grouped by their rates, so that another WEIGHT_DECAY can be other groups in another
order; by position, as torch loads them, averages would come to other parameters.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

State = dict[str, Any]


def parameter_names(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[str]:
    """Return the names of an optimizer's parameters, in the order of its groups."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return [
        names.get(id(parameter), f"parameter {place}").removeprefix("module.")
        for place, parameter in enumerate(parameters)
    ]


def fitted(
    saved: State,
    saved_names: Sequence[str] | None,
    optimizer: torch.optim.Optimizer,
    names: list[str],
) -> State:
    """Return a saved state as one of this optimizer, whose rates it keeps.

    Args:
        saved: `state_dict` of an optimizer of the same class.
        saved_names: of its parameters; None where a checkpoint of an earlier version has none, and
            the order has to be the same.
        optimizer: that will load the result.
        names: of its parameters.

    Raises:
        ValueError: it is of other parameters, or of another class.
    """
    own = optimizer.state_dict()
    indices, own_indices = _indices(saved), _indices(own)
    if saved_names is None:
        if _sizes(saved) != _sizes(own):
            raise ValueError(
                f"its optimizer has groups of {_sizes(saved)} parameters, and the config's of "
                f"{_sizes(own)}."
            )
        saved_names = names
    other = sorted(set(saved_names) ^ set(names))
    if other:
        raise ValueError(
            f"it was written while other parameters were trained ({len(other)} differ, {other[0]} "
            "first)."
        )
    _check_class(saved, optimizer)
    place = dict(zip(names, own_indices))
    moved = {index: place[name] for index, name in zip(indices, saved_names)}
    state = {moved[index]: value for index, value in saved["state"].items()}
    return {"state": state, "param_groups": own["param_groups"]}


def _indices(state: State) -> list[int]:
    return [index for group in state["param_groups"] for index in group["params"]]


def _sizes(state: State) -> list[int]:
    return [len(group["params"]) for group in state["param_groups"]]


def _check_class(saved: State, optimizer: torch.optim.Optimizer) -> None:
    """Refuse the averages of Adam in SGD, and the other way round."""
    is_adam = any("exp_avg" in value for value in saved["state"].values())
    if saved["state"] and is_adam != ("betas" in optimizer.defaults):
        raise ValueError(
            f"its optimizer is not {type(optimizer).__name__}, whose averages are others."
        )
