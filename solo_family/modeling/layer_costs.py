"""Compute the matching costs of all decoder layers and images of a batch.

L layers, B images, N predictions, K classes, M the greatest number of objects of an image, h w of
the predicted masks.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .matching_costs import nearest_masks
from .set_predictions import LayeredPredictions, SetTargets

# Maps (class_logits [B, N, K], mask_logits [B, N, h, w], classes [B, M], masks [B, M, h, w]) of
# images to costs [B, N, M].
Cost = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

# Size, in numbers, of the maps of masks that are compared at once: on a CPU they stay in its cache;
# elsewhere they keep the device busy, and are small beside what a training step keeps anyway.
_NUMBERS_AT_ONCE = {"cpu": 2**19}
_NUMBERS_AT_ONCE_ELSEWHERE = 2**24


@torch.no_grad()
def layer_costs(cost: Cost, predictions: LayeredPredictions, targets: SetTargets) -> Tensor:
    """Return the cost of every pair of a prediction and an object of its image.

    Masks are compared at the size of the predictions. As many images are processed together as
    bounded memory allows.

    Args:
        cost: function that returns the cost of a batch of images.
        predictions: the predictions of all layers.
        targets: shared by the layers.

    Returns:
        float32 [L, B, N, M]; for an image of fewer than M objects the last columns are arbitrary.
    """
    num_layers, num_images, num_predictions = predictions.class_logits.shape[:3]
    shape = (num_layers, num_images, num_predictions, max(targets.counts))
    costs = predictions.class_logits.new_zeros(shape, dtype=torch.float32)
    masks = nearest_masks(targets.masks, predictions.masks.size)
    at_once = _NUMBERS_AT_ONCE.get(costs.device.type, _NUMBERS_AT_ONCE_ELSEWHERE)
    numbers = max(shape[2:]) * predictions.masks.size[0] * predictions.masks.size[1]
    step = max(1, at_once // max(1, numbers))
    for first in range(0, num_images, step):
        images = slice(first, first + step)
        most = max(targets.counts[images])
        if not most:
            continue
        slots = targets.slots[images, :most]
        true = targets.classes[slots], masks[slots]
        for layer in range(num_layers):
            logits = predictions.masks.of_layer(layer, images)
            costs[layer, images, :, :most] = cost(
                predictions.class_logits[layer, images], logits, *true
            )
    return costs
