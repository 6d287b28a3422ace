"""From score maps to proposals: dense sliding windows, NMS, the best N (arXiv 1603.08678, 4).

N windows, k relative positions per axis, m side of a window, h w cells of a map, H W of the output.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor
from torchvision.ops import nms

from ...ops import mask_boxes
from ...ops.host_copy import HostCopy
from ...ops.matrix_nms import matrix_nms_decay
from ...ops.packed_masks import measure_inside
from .assemble import assemble, every_center, soft_masks_of_rows
from .paste import paste_masks

# Bytes of the assembled windows that are in memory at a time, whatever the size of the map; and of
# one of their cells: its probability and whether it is inside.
_CHUNK_BYTES = 16 * 2**20
_GPU_CHUNK_BYTES = 256 * 2**20
_CELL_BYTES = 5
# Matrix NMS compares masks at a fourth of the output's resolution.
_NMS_STRIDE = 4


@dataclass
class DenseMaps:
    """What the network gives for one image at one scale.

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
        scores: float32 [N]; -inf of a window without a mask.
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
        names = [field.name for field in fields(Windows)]
        return Windows(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class ProposalSelector:
    """Slides windows densely over the maps of every scale, and keeps the best masks.

    Attributes:
        window_size: m.
        mask_threshold: a mask's cells are those whose probability is greater.
        score: "objectness", or "product": times the mean probability inside the mask.
        pre_nms: the best so many go into NMS; 0 for all.
        nms_type: "box", on the masks' tight boxes, or "matrix", on the masks.
        nms_threshold: the IoU of boxes above which the lower-scored one is dropped.
        nms_kernel, nms_sigma: see `matrix_nms`.
        max_proposals: how many are kept at most.
    """

    window_size: int = 21
    mask_threshold: float = 0.5
    score: str = "objectness"
    pre_nms: int = 0
    nms_type: str = "box"
    nms_threshold: float = 0.8
    nms_kernel: str = "gaussian"
    nms_sigma: float = 2.0
    max_proposals: int = 1000

    @classmethod
    def from_config(cls, method: CfgNode) -> "ProposalSelector":
        """Reads `cfg.MODEL.INSTANCE_FCN`."""
        return cls(
            window_size=method.WINDOW_SIZE,
            mask_threshold=method.MASK_THR,
            score=method.SCORE,
            pre_nms=method.NMS_PRE,
            nms_type=method.NMS_TYPE,
            nms_threshold=method.NMS_THR,
            nms_kernel=method.NMS_KERNEL,
            nms_sigma=method.NMS_SIGMA,
            max_proposals=method.MAX_PER_IMG,
        )

    def __call__(self, maps: list[DenseMaps], output_size: tuple[int, int]) -> Windows:
        """Selects one image's windows, the best first.

        Args:
            maps: of every scale.
            output_size: (H, W).
        """
        windows, counts = self.rank([maps])
        return self.suppress(windows[0][: counts.wait().tolist()[0]], maps, output_size)

    def rank(self, images: Sequence[list[DenseMaps]]) -> tuple[list[Windows], HostCopy]:
        """Scores and orders the windows of several images; the host waits for nothing.

        Args:
            images: the maps of every scale of each.

        Returns:
            The windows of each image, the best first, and how many of them take part.
        """
        ranked, counts = [], []
        for maps in images:
            windows = Windows.cat([self.slide(scale, index) for index, scale in enumerate(maps)])
            counts.append((windows.scores != -math.inf).sum())
            best = windows.scores.argsort(descending=True, stable=True)
            ranked.append(windows[best[: self.pre_nms or None]])
        return ranked, HostCopy(torch.stack(counts))

    def suppress(
        self, windows: Windows, maps: list[DenseMaps], output_size: tuple[int, int]
    ) -> Windows:
        """Leaves out windows that are much like better ones of the same image.

        Args:
            windows: with a mask, the best first.
            maps: of every scale.
            output_size: (H, W).
        """
        if self.nms_type == "box":
            # Boxes are multiples of cells, so that an IoU often equals the threshold. It is
            # float32, where 0.8 is more than in float64, with which torchvision compares on a CPU.
            threshold = float(np.float32(self.nms_threshold))
            keep = nms(windows.boxes, windows.scores, threshold)
            return windows[keep[: self.max_proposals]]
        size = tuple(-(-side // _NMS_STRIDE) for side in output_size)
        masks = self.paste(windows, maps, (size[0], size[1]), 1 / _NMS_STRIDE)
        labels = torch.zeros_like(windows.scales)
        # No score falls below 0, so that there is no threshold whose outcome to wait for.
        keep, scores = matrix_nms_decay(
            masks, labels, windows.scores, self.nms_kernel, self.nms_sigma, class_agnostic=False
        )
        windows = windows[keep[: self.max_proposals]]
        windows.scores = scores[: self.max_proposals]
        return windows

    def slide(self, maps: DenseMaps, index: int) -> Windows:
        """Scores every window of one scale, and boxes its mask.

        Args:
            maps: of one scale.
            index: of the scale.
        """
        height, width = maps.objectness_logits.shape
        device = maps.score_maps.device
        centers = every_center((height, width), device).unflatten(0, (height, -1))
        objectness = maps.objectness_logits.sigmoid()
        at_once = _GPU_CHUNK_BYTES if device.type == "cuda" else _CHUNK_BYTES
        step = max(1, at_once // (_CELL_BYTES * width * self.window_size**2))
        parts = []
        for start in range(0, height, step):
            rows = range(start, min(start + step, height))
            probabilities = soft_masks_of_rows(maps.score_maps, self.window_size, rows)
            probabilities = probabilities.flatten(0, 1)
            hard = probabilities > self.mask_threshold
            scores = objectness[start : rows.stop].flatten()
            if self.score == "product":
                scores = scores * measure_inside(probabilities, hard, self.mask_threshold)[1]
            some = centers[start : rows.stop].flatten(0, 1)
            corner = (some - self.window_size // 2).flip(1).repeat(1, 2)
            boxes = mask_boxes(hard)
            # The box of a mask without cells ends at 0.
            scores = torch.where(boxes[:, 2] > 0, scores, -math.inf)
            boxes = in_pixels(boxes + corner, maps.cell_size)
            parts.append(Windows(scores, boxes, some, torch.full_like(some[:, 0], index)))
        return Windows.cat(parts)

    def paste(
        self,
        windows: Windows,
        maps: list[DenseMaps],
        output_size: tuple[int, int],
        zoom: float = 1.0,
    ) -> Tensor:
        """Enlarges the windows' masks, bilinearly as probabilities, and thresholds the result.

        Args:
            windows: of one image.
            maps: of every scale.
            output_size: (H, W) of the masks.
            zoom: the masks' pixels per pixel of the output that `cell_size` is about.

        Returns:
            bool [N, H, W].
        """
        m, centers = self.window_size, windows.centers
        corner = (centers - m // 2).flip(1)
        corners = torch.cat([corner, corner + m], dim=1)
        soft, boxes = corners.new_empty(0), corners.new_empty(0)
        for index, scale in enumerate(maps):
            # Cells outside the map repeat those at its border, so that masks reach up to it.
            its_soft = assemble(scale.score_maps, centers, m)[0].sigmoid()
            its_boxes = in_pixels(corners, scale.cell_size) * zoom
            if index:
                # Of all windows, as sizes that depend on their number would have to be waited for.
                here = windows.scales == index
                its_soft = torch.where(here[:, None, None], its_soft, soft)
                its_boxes = torch.where(here[:, None], its_boxes, boxes)
            soft, boxes = its_soft, its_boxes
        sides = [side * m * zoom for scale in maps for side in scale.cell_size]
        return paste_masks(soft, boxes, output_size, self.mask_threshold, max(sides))


def in_pixels(boxes: Tensor, cell_size: tuple[float, float]) -> Tensor:
    """Returns boxes in cells, [N, 4], in pixels of the output, float32 [N, 4].

    Args:
        boxes: x0, y0, x1, y1.
        cell_size: (height, width) of a cell.
    """
    # By numbers, which travel with the launch: a tensor of them would have to be waited for.
    xs, ys = boxes[:, 0::2].float() * cell_size[1], boxes[:, 1::2].float() * cell_size[0]
    return torch.stack([xs, ys], dim=2).flatten(1)


def by_scale(scales: Tensor, count: int) -> tuple[Tensor, list[int]]:
    """Sorts windows by their scale.

    Args:
        scales: int64 [N].
        count: of the scales.

    Returns:
        order: int64 [N], the windows of the first scale first.
        counts: how many windows each scale has; the host waits for them if there are several.
    """
    if count == 1:
        return torch.arange(len(scales), device=scales.device), [len(scales)]
    each = scales[:, None] == torch.arange(count, device=scales.device)
    return scales.argsort(stable=True), HostCopy(each.sum(0)).wait().tolist()
