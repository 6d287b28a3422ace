"""The loss of a set of predictions that is matched with the set of objects, image by image.

What MaskFormer (arXiv 2107.06278) and SparseInst (arXiv 2203.12827) share. Each gives the cost of
its matching and its losses of matched predictions.

B images, N predictions, K classes, G objects of an image, P pairs of all images, h w of the masks.
"""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..matching.hungarian import Match, hungarian_matching
from .normalizer import normalizer


class SetPredictions(NamedTuple):
    """What one decoder layer predicts.

    Attributes:
        class_logits: [B, N, K], or K + 1 with "no object" last.
        mask_logits: [B, N, h, w].
        objectness_logits: [B, N], or None for methods without.
    """

    class_logits: Tensor
    mask_logits: Tensor
    objectness_logits: Tensor | None = None


class SetTargets(NamedTuple):
    """The objects of a batch.

    Attributes:
        classes: B x int64 [G].
        masks: B x [G, H, W], bool or 0 to 1, at the one resolution that the method wants.
    """

    classes: list[Tensor]
    masks: list[Tensor]


# (class_logits [N, K], mask_logits [N, h, w], classes [G], masks [G, H, W]) of an image to [N, G].
Cost = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
# (predictions, targets, matches, number of objects) to scalars by name, not yet weighted.
Losses = Callable[[SetPredictions, SetTargets, list[Match], Tensor], dict[str, Tensor]]


class SetCriterion:
    """Matches the predictions of every decoder layer with the objects; weights their losses.

    Args:
        cost: of the matching.
        losses: of matched predictions; they are given the number of objects per process, over all
            processes, at least 1, to divide by.
        weights: of every loss by its name.
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

    def __call__(self, layers: Sequence[SetPredictions], targets: SetTargets) -> dict[str, Tensor]:
        """Computes the losses of a batch.

        Args:
            layers: the predictions of every supervised layer, the last layer last.
            targets: shared by the layers.

        Returns:
            Weighted scalars: `<name>` of the last layer, `<name>_<index>` of those before it.
        """
        counts = [len(classes) for classes in targets.classes]
        self._warn_if_crowded(max(counts), layers[-1].mask_logits.shape[1])
        # The costs of all layers go to the host together.
        matches = hungarian_matching(
            [self.cost(*image) for layer in layers for image in zip(*layer[:2], *targets)]
        )
        count = torch.as_tensor(sum(counts), device=layers[-1].mask_logits.device)
        num_objects = normalizer(count, globally=True)
        weighted = {}
        for index, layer in enumerate(layers):
            suffix = "" if index == len(layers) - 1 else f"_{index}"
            layer_matches = matches[index * len(counts) : (index + 1) * len(counts)]
            for name, loss in self.losses(layer, targets, layer_matches, num_objects).items():
                weighted[name + suffix] = self.weights[name] * loss
        return weighted

    def _warn_if_crowded(self, num_objects: int, num_predictions: int) -> None:
        if num_objects > num_predictions and not self._warned:
            self._warned = True
            logging.getLogger("solo_family").warning(
                f"An image has {num_objects} objects, but the model predicts {num_predictions}: "
                f"not all of them can be learnt. Raise {self.count_key} for crowded images."
            )


def matched_predictions(predictions: Tensor, matches: Sequence[Match]) -> Tensor:
    """Returns of predictions [B, N, ...] those of the pairs, [P, ...]."""
    return torch.cat([image[chosen] for image, (chosen, _) in zip(predictions, matches)])


def matched_targets(targets: Sequence[Tensor], matches: Sequence[Match]) -> Tensor:
    """Returns of the objects, B x [G, ...], those of the pairs, [P, ...]."""
    return torch.cat([image[found] for image, (_, found) in zip(targets, matches)])


def target_classes(
    targets: SetTargets, matches: Sequence[Match], num_predictions: int, background: int
) -> Tensor:
    """Returns the class that every prediction is to learn: its object's, or `background`.

    Returns:
        int64 [B, N].
    """
    labels = targets.classes[0].new_full((len(matches), num_predictions), background)
    for image, classes, (chosen, found) in zip(labels, targets.classes, matches):
        image[chosen] = classes[found]
    return labels
