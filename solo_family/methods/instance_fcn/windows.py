"""Hold windows over maps of several scales (InstanceFCN, arXiv 1603.08678).

B images, N windows, k relative positions per axis, m side of a window, C channels, h w cells of a
map.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.host_copy import HostCopy


@dataclass
class DenseMaps:
    """The network's outputs for one image at one scale.

    Attributes:
        score_maps: logits [k^2, h, w], without padding.
        objectness_logits: [h, w].
        features: [C, h, w], for a classifier.
        cell_size: (height, width) of a cell in pixels of the output.
    """

    score_maps: Tensor
    objectness_logits: Tensor
    features: Tensor
    cell_size: tuple[float, float]


@dataclass
class Windows:
    """Windows of one image.

    Attributes:
        scores: float32 [N]; -inf for a window without a mask.
        boxes: float32 [N, 4], tight around the masks, x0 y0 x1 y1 in pixels of the output.
        centers: int64 [N, 2], row and column in their map.
        scales: int64 [N], the index of their map.
    """

    scores: Tensor
    boxes: Tensor
    centers: Tensor
    scales: Tensor

    def __getitem__(self, index: Tensor | slice) -> "Windows":
        return Windows(*(getattr(self, field.name)[index] for field in fields(self)))

    @staticmethod
    def cat(parts: list["Windows"]) -> "Windows":
        """Return the windows of several groups as one group."""
        names = [field.name for field in fields(Windows)]
        return Windows(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


class FixedWindows(NamedTuple):
    """Every image's best N windows before NMS; if there are fewer, the last ones score 0.

    Attributes:
        scores: float32 [B, N], descending.
        classes: int64 [B, N]; 0 without a classifier.
        class_scores: float32 [B, N], the probability of that class; 1 without a classifier.
        centers: int64 [B, N, 2], row and column on the map.
        boxes: float32 [B, N, 4], tight around the masks, x0 y0 x1 y1 in cells of the map.
        masks: float32 [B, N, m, m], probabilities, which outside the map repeat its border.
        candidates: int64 [B], how many windows there are. If they are more than N, those that
            scored less are missing.
    """

    scores: Tensor
    classes: Tensor
    class_scores: Tensor
    centers: Tensor
    boxes: Tensor
    masks: Tensor
    candidates: Tensor


def in_pixels(boxes: Tensor, cell_size: tuple[float, float]) -> Tensor:
    """Return boxes given in cells, [N, 4], in pixels of the output, float32 [N, 4].

    Args:
        boxes: x0, y0, x1, y1.
        cell_size: (height, width) of a cell.
    """
    # Scaled by Python numbers, which are passed with the launch: a tensor of them would make the
    # host wait.
    xs, ys = boxes[:, 0::2].float() * cell_size[1], boxes[:, 1::2].float() * cell_size[0]
    return torch.stack([xs, ys], dim=2).flatten(1)


def by_scale(scales: Tensor, count: int) -> tuple[Tensor, list[int]]:
    """Sort windows by their scale.

    Args:
        scales: int64 [N].
        count: number of scales.

    Returns:
        order: int64 [N], the windows of the first scale first.
        counts: the number of windows of each scale; the host waits for it if there are several
            scales.
    """
    if count == 1:
        return torch.arange(len(scales), device=scales.device), [len(scales)]
    each = scales[:, None] == torch.arange(count, device=scales.device)
    return scales.argsort(stable=True), HostCopy(each.sum(0)).wait().tolist()
