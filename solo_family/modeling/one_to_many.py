"""Match each object with several auxiliary predictions in training (hybrid matching, H-DETR).

Jia et al., arXiv 2207.13080, section 3.2, "Hybrid branch scheme": the model has further queries,
which share all other weights with its own. In training they are matched, too, with every object
repeated K times, so that far more predictions learn from each object; at inference they are left
out. With K = 1 it is the group matching of Chen et al. (arXiv 2207.13085) with two groups.

L decoder layers, B images, N predictions of the model itself, T auxiliary ones, K copies.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from .set_criterion import SetCriterion
from .set_predictions import LayeredPredictions, SetTargets

_SUFFIX = "_one_to_many"
_MARK = "is_for_training_only"
_M = TypeVar("_M", bound=nn.Module)


class HybridCriterion:
    """Add the losses of auxiliary predictions to those of the model's own.

    The host waits for both matchings at once: their costs are queued together.

    Args:
        criterion: computes the losses of either.
        num_predictions: N.
        copies: K.
        weight: of the auxiliary losses.
    """

    def __init__(
        self, criterion: SetCriterion, *, num_predictions: int, copies: int, weight: float
    ) -> None:
        self.criterion = criterion
        self.num_predictions = num_predictions
        self.copies = copies
        self.weight = weight

    def __call__(self, predictions: LayeredPredictions, targets: SetTargets) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            predictions: N + T of an image, the auxiliary ones last; or N, as the model predicts in
                evaluation mode, whose losses have no auxiliary part.
            targets: see `SetCriterion`.

        Returns:
            The losses of `SetCriterion`; and those of the auxiliary predictions, divided by K times
            the number of objects, times their weight, as `<name>_one_to_many`.
        """
        own, auxiliary = predictions.split(self.num_predictions)
        if auxiliary is None:
            return self.criterion(own, targets)
        self.criterion.warn_if_crowded(targets, own)
        costs = self.criterion.costs(own, targets)
        auxiliary_costs = self.criterion.costs(auxiliary, targets)
        losses = self.criterion.losses_of(own, targets, costs)
        many = self.criterion.losses_of(
            auxiliary, targets, auxiliary_costs, copies=self.copies, suffix=_SUFFIX
        )
        return losses | {name: self.weight * value for name, value in many.items()}


def with_one_to_many(
    criterion: SetCriterion, *, num_predictions: int, copies: int, weight: float
) -> SetCriterion | HybridCriterion:
    """Return a `HybridCriterion`, or the criterion as it is if `copies` is 0."""
    if not copies:
        return criterion
    return HybridCriterion(criterion, num_predictions=num_predictions, copies=copies, weight=weight)


def for_training_only(make: Callable[[], _M]) -> _M:
    """Make a module that inference does not need.

    All other weights of the model begin as they would without it: its random numbers are of a
    stream of their own, which follows from the seed. A checkpoint without it is complete.

    Args:
        make: makes and initialises the module on the CPU.
    """
    with _own_stream():
        module = make()
    setattr(module, _MARK, True)
    return module


def names_for_training_only(model: nn.Module) -> set[str]:
    """Return the names of the weights that inference does not need."""
    return {
        f"{path}.{name}" if path else name
        for path, module in model.named_modules()
        if getattr(module, _MARK, False)
        for name in module.state_dict()
    }


@contextmanager
def _own_stream() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed the GPUs' generators, too.
        torch.default_generator.manual_seed((torch.initial_seed() + 1) % 2**63)
        yield
