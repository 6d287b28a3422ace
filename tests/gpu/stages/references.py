"""What kernels are compared with: float64, on the device of the inputs, all at once.

Shape letters: N masks; E mask features; h w of the masks; H W of an image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]


def matrix_nms(masks: Tensor, labels: Tensor, scores: Tensor, kernel: str) -> Tensor:
    """Return the decayed scores in the masks' own order, float64 [N] (arXiv 2003.10152, 3.3).

    Args:
        masks: bool [N, h, w].
        labels: int64 [N].
        scores: [N].
        kernel: "gaussian", with a sigma of 2, or "linear".
    """
    order = scores.double().argsort(descending=True, stable=True)
    flat = masks[order].flatten(1).double()
    common, areas = flat @ flat.T, flat.sum(1)
    iou = common / (areas[:, None] + areas - common).clamp(min=1)
    same = labels[order][:, None] == labels[order]
    better = torch.ones_like(same).triu(1) & same
    iou = iou * better
    held = iou.amax(0)[:, None]
    if kernel == "gaussian":
        ratios = torch.exp(-2 * iou**2) / torch.exp(-2 * held**2)
    else:
        # A mask that repeats a better one decays nothing: 0 / 0 has no value.
        ratios = torch.where(held < 1, (1 - iou) / (1 - held), 1.0)
    factors = torch.where(better, ratios, 1.0).amin(0).clamp(max=1)
    decayed = torch.empty_like(factors)
    decayed[order] = scores[order].double() * factors
    return decayed


def logits(kernels: Tensor, features: Tensor) -> Tensor:
    """Return the products of kernels [N, E] and features [E, h, w], float64 [N, h, w]."""
    return (kernels.double() @ features.double().flatten(1)).unflatten(1, features.shape[1:])


def maskness(soft: Tensor, inside: Tensor) -> Tensor:
    """Return the mean of each mask's values [N, h, w] where it is inside, float64 [N], or 0."""
    return (soft.double() * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)


def resize(soft: Tensor, padded: Size, image: Size, output: Size) -> Tensor:
    """Return soft masks [N, h, w] resized to the padded input, cut, resized: float64 [N, H, W]."""
    full = F.interpolate(soft.double()[None], padded, mode="bilinear")
    return F.interpolate(full[:, :, : image[0], : image[1]], output, mode="bilinear")[0]


def boxes(masks: Tensor) -> Tensor:
    """Return x0, y0, x1, y1 of each mask, int64 [N, 4]; zeros for one without pixels."""
    result = []
    for axis in (1, 2):  # over y, for x; over x, for y
        line = masks.any(axis)
        places = torch.arange(line.shape[1], device=masks.device)
        first = torch.where(line, places, line.shape[1]).amin(1)
        result.append((first, torch.where(line, places + 1, 0).amax(1)))
    (x0, x1), (y0, y1) = result
    return torch.stack([x0, y0, x1, y1], 1) * masks.any(2).any(1)[:, None]
