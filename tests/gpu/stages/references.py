"""What kernels are compared with: float64, on the device of the inputs, all at once.

Shape letters: N masks; E mask features; h w of the masks; H W of an image, or of a map; k positions
along each axis and m cells of a window's side.
"""

from __future__ import annotations

import math

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


def window_boxes(soft: Tensor, m: int, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes, int64 [H W, 4], areas and sums of probabilities, of every cell's window.

    Args:
        soft: probabilities [k^2, H, W]; bin (i, j) of a window is copied from map i k + j.
        m: side of a window.
        threshold: cells above it are inside.
    """
    k, (height, width) = math.isqrt(len(soft)), soft.shape[1:]
    edges = [math.floor(i * m / k + 0.5) for i in range(k + 1)]
    bins = [i for i in range(k) for _ in range(edges[i], edges[i + 1])]
    padded = F.pad(soft, (m, m, m, m))
    empty = torch.full((height, width), 2**40, device=soft.device)
    starts, stops = [empty, empty], [-empty, -empty]
    areas, totals = torch.zeros_like(empty), torch.zeros_like(empty, dtype=torch.float64)
    for u in range(m):
        for v in range(m):
            top, left = m + u - m // 2, m + v - m // 2
            cell = padded[bins[u] * k + bins[v], top : top + height, left : left + width]
            inside = cell > threshold
            areas, totals = areas + inside, totals + torch.where(inside, cell.double(), 0)
            for axis, place in enumerate((v, u)):
                here = torch.where(inside, place, empty)
                starts[axis] = torch.minimum(starts[axis], here)
                stops[axis] = torch.maximum(stops[axis], torch.where(inside, place + 1, -empty))
    x, y = (torch.arange(side, device=soft.device) - m // 2 for side in (width, height))
    first = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)] * 2, dim=2)
    return (
        (torch.stack([*starts, *stops], dim=2) + first).flatten(0, 1),
        areas.flatten(),
        totals.flatten(),
    )


def paste(mask: Tensor, box: Tensor, size: Size) -> Tensor:
    """Return a mask [m, m] pasted into a box x0, y0, x1, y1 of an image, float64 [H, W]."""
    shares = []
    for side, start, stop in zip(size, box.double()[[1, 0]], box.double()[[3, 2]]):
        pixels = torch.arange(side, dtype=torch.float64, device=mask.device) + 0.5
        cells = (pixels - start) / (stop - start) * len(mask) - 0.5
        distance = (cells[:, None] - torch.arange(len(mask), device=mask.device)).abs()
        shares.append((1 - distance).clamp(min=0))
    return shares[0] @ mask.double() @ shares[1].T


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
