"""Compute the losses of predictions matched with the objects of their images.

MaskFormer (arXiv 2107.06278) and SparseInst (arXiv 2203.12827) share this. Each provides the cost
of its matching and its losses of matched predictions.

L supervised decoder layers, B images, N predictions, K classes, P pairs of all images.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from detectron2.structures import Instances
from torch import Tensor

from ..ops.host_copy import HostCopy
from .layer_costs import Cost, layer_costs
from .matcher import Matches, hungarian_matching
from .normalizer import normalizer
from .set_predictions import LayeredPredictions, SetTargets

# Maps (predictions, targets, matches, number of objects) to losses [L] by name, not yet weighted.
Losses = Callable[[LayeredPredictions, SetTargets, Matches, Tensor], dict[str, Tensor]]


class SetCriterion:
    """Match the predictions of every decoder layer with objects, and weight their losses.

    The host waits once, for the costs of all layers and images. What calls `costs` and `losses_of`
    itself can queue other work between the two.

    Args:
        cost: function that returns the cost of the matching.
        losses: computes the losses of matched predictions; it divides by the number of objects that
            it is given, the mean over all processes, at least 1.
        weights: the weights of every loss by its name.
        count_key: the config key of N, which the warning about a crowded image names.
    """

    def __init__(
        self, *, cost: Cost, losses: Losses, weights: dict[str, float], count_key: str
    ) -> None:
        self.cost = cost
        self.losses = losses
        self.weights = weights
        self.count_key = count_key
        self._warned = False

    def __call__(self, predictions: LayeredPredictions, targets: SetTargets) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            predictions: the predictions of every supervised layer.
            targets: shared by the layers.

        Returns:
            Weighted scalars: `<name>` of the last layer, `<name>_<index>` of those before it.
        """
        self.warn_if_crowded(targets, predictions)
        return self.losses_of(predictions, targets, self.costs(predictions, targets))

    def costs(self, predictions: LayeredPredictions, targets: SetTargets) -> HostCopy:
        """Return the costs of all pairs, float32 [L, B, N, M], on their way to the host."""
        return HostCopy(layer_costs(self.cost, predictions, targets))

    def losses_of(
        self,
        predictions: LayeredPredictions,
        targets: SetTargets,
        costs: HostCopy,
        *,
        copies: int = 1,
        suffix: str = "",
    ) -> dict[str, Tensor]:
        """Match predictions by their costs, and compute the losses of the batch.

        Args:
            predictions: see `__call__`.
            targets: see `__call__`.
            costs: of these predictions and targets.
            copies: how many predictions each object is matched with; losses are divided by so many
                times the number of objects.
            suffix: is added to the losses' names, before the layer.

        Returns:
            See `__call__`.
        """
        num_layers = len(predictions.class_logits)
        # Filled on the device: copying a number from the host would wait for all queued work.
        count = torch.full((), copies * len(targets.classes), device=costs.device)
        num_objects = normalizer(count, globally=True)
        matches = hungarian_matching(costs, targets.counts, copies)
        losses = {
            name + suffix: (self.weights[name] * values).unbind()
            for name, values in self.losses(predictions, targets, matches, num_objects).items()
        }
        weighted: dict[str, Tensor] = {}
        for layer in range(num_layers):
            index = "" if layer == num_layers - 1 else f"_{layer}"
            weighted |= {name + index: values[layer] for name, values in losses.items()}
        return weighted

    def warn_if_crowded(self, targets: SetTargets, predictions: LayeredPredictions) -> None:
        """Warn once if an image has more objects than it has predictions."""
        num_objects, num_predictions = max(targets.counts), predictions.class_logits.shape[2]
        if num_objects > num_predictions and not self._warned:
            self._warned = True
            logging.getLogger("solo_family").warning(
                f"An image has {num_objects} objects, but the model predicts {num_predictions}: "
                f"not all of them can be learnt. Raise {self.count_key} for crowded images."
            )


def set_counts(gt_instances: Sequence[Instances], num_predictions: int) -> tuple[int, int]:
    """Return the number of objects of a batch, and that of their pairs with predictions, P."""
    counts = [len(gt) for gt in gt_instances]
    return sum(counts), sum(min(count, num_predictions) for count in counts)


def target_classes(
    targets: SetTargets, matches: Matches, num_predictions: int, background: int
) -> Tensor:
    """Return the target class of every prediction: its object's, or `background`.

    Args:
        targets: the targets of the batch.
        matches: the matches of the predictions with the targets.
        num_predictions: N.
        background: the class for predictions without an object.

    Returns:
        int64 [L, B * N].
    """
    shape = (len(matches.predictions), len(targets.counts) * num_predictions)
    labels = targets.classes.new_full(shape, background)
    return labels.scatter_(1, matches.predictions, targets.classes[matches.objects])
