"""Select proposals from score maps: slide windows densely, apply NMS, keep the best N.

InstanceFCN, arXiv 1603.08678, "Inference".

B images, N windows, k relative positions per axis, m side of a window, C channels, h w cells of a
map, H W of the output.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor
from torchvision.ops import nms

from ...modeling import order
from ...modeling.instances import make_instances
from ...ops import mask_boxes
from ...ops.host_copy import HostCopy
from ...ops.matrix_nms import matrix_nms_decay
from ...ops.run_masks import RunMasks
from ...ops.take import take_rows
from ...ops.window_boxes import window_boxes
from .assemble import assemble, every_center, soft_masks
from .head import MaskPooledClassifier, WindowPredictions
from .paste import paste_windows, windows_for_nms
from .windows import DenseMaps, FixedWindows, Windows, in_pixels

# Matrix NMS compares masks at a quarter of the output's resolution.
NMS_STRIDE = 4
# The number of windows that an exported graph keeps where the selector keeps all, whose number
# depends on the size of the image.
FIXED_WINDOWS = 500


class Ranked(NamedTuple):
    """The windows of several images.

    Attributes:
        windows: those of each image, the best first.
        counts: int64 [B], how many of each have a mask and take part.
    """

    windows: list[Windows]
    counts: Tensor


@dataclass(frozen=True)
class ProposalSelector:
    """Slide windows densely over the maps of every scale, and keep the best masks.

    Attributes:
        window_size: m.
        mask_threshold: the probability of a mask's cells, exclusive.
        score: "objectness", or "product": times the mean probability inside the mask.
        pre_nms: the number of best windows that go into NMS; 0 for all.
        nms_type: "box", on the masks' tight boxes, or "matrix", on the masks.
        nms_threshold: the IoU of boxes above which the lower-scored one is dropped.
        nms_kernel, nms_sigma: see `matrix_nms`.
        max_proposals: the greatest number of windows to keep.
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
        """Read `cfg.MODEL.INSTANCE_FCN`."""
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
        """Select one image's windows, the best first.

        Args:
            maps: the network's outputs at every scale.
            output_size: (H, W).
        """
        ranked, counts = self.rank([maps])
        (count,) = HostCopy(counts).wait().tolist()
        return self.suppress(ranked[0][:count], maps, output_size)

    def rank(self, images: Sequence[list[DenseMaps]]) -> Ranked:
        """Score and sort the windows of several images, without making the host wait.

        Args:
            images: the maps of every scale of each.
        """
        ranked, counts = [], []
        for maps in images:
            windows = Windows.cat([self.slide(scale, index) for index, scale in enumerate(maps)])
            counts.append((windows.scores != -math.inf).sum())
            best = windows.scores.argsort(descending=True, stable=True)
            ranked.append(windows[best[: self.pre_nms or None]])
        return Ranked(ranked, torch.stack(counts))

    def suppress(
        self, windows: Windows, maps: list[DenseMaps], output_size: tuple[int, int]
    ) -> Windows:
        """Drop windows that resemble better ones of the same image.

        Args:
            windows: the windows that have a mask, the best first.
            maps: the network's outputs at every scale.
            output_size: (H, W).
        """
        if self.nms_type == "box":
            # Boxes are multiples of cells, so that an IoU often equals the threshold. The threshold
            # is rounded to float32, because 0.8 is more in float32 than in float64, with which
            # torchvision compares on a CPU.
            threshold = float(np.float32(self.nms_threshold))
            keep = _best_boxes(windows, threshold, self.max_proposals)
            return windows[keep]
        height, width = (-(-side // NMS_STRIDE) for side in output_size)
        m, threshold = self.window_size, self.mask_threshold
        masks = windows_for_nms(windows, maps, m, (height, width), threshold, 1 / NMS_STRIDE)
        labels = torch.zeros_like(windows.scales)
        # No score falls below 0, so that the host need not wait for the outcome of a threshold.
        keep, scores = matrix_nms_decay(
            masks, labels, windows.scores, self.nms_kernel, self.nms_sigma, class_agnostic=False
        )
        windows = windows[keep[: self.max_proposals]]
        windows.scores = scores[: self.max_proposals]
        return windows

    def slide(self, maps: DenseMaps, index: int) -> Windows:
        """Score every window of one scale, and compute the box of its mask.

        Args:
            maps: the network's outputs at one scale.
            index: the index of the scale.
        """
        height, width = maps.objectness_logits.shape
        found = window_boxes(
            maps.score_maps,
            self.window_size,
            self.mask_threshold,
            maskness=self.score == "product",
        )
        scores = maps.objectness_logits.sigmoid().flatten()
        if found.maskness is not None:
            scores = scores * found.maskness
        scores = torch.where(found.filled, scores, -math.inf)
        centers = every_center((height, width), scores.device)
        scales = torch.full_like(centers[:, 0], index)
        return Windows(scores, in_pixels(found.boxes, maps.cell_size), centers, scales)

    def paste(
        self, windows: Windows, maps: list[DenseMaps], output_size: tuple[int, int]
    ) -> tuple[Tensor | RunMasks, Tensor]:
        """Return the windows' masks, bools or runs, and their boxes; see `paste_windows`."""
        return paste_windows(windows, maps, self.window_size, output_size, self.mask_threshold)

    def slide_fixed(
        self,
        predictions: WindowPredictions,
        map_sizes: Tensor,
        classifier: MaskPooledClassifier | None,
        score_threshold: float | Tensor | None = None,
    ) -> FixedWindows:
        """Score every window as `slide` does, and return a fixed number of the best.

        It is traceable, because no size depends on what the image shows.

        Args:
            predictions: those for the batch, with its padding.
            map_sizes: int64 [B, 2], rows and columns of every image's map that are not padding.
            classifier: None for class-agnostic proposals.
            score_threshold: the lowest score of windows, exclusive; None for 0.
        """
        m = self.window_size
        size = map_sizes[:, 0, None, None], map_sizes[:, 1, None, None]
        score_maps = predictions.score_maps.float()
        height, width = predictions.objectness_logits.shape[-2:]
        centers = every_center((height, width), score_maps.device)[None]
        soft = soft_masks(score_maps, centers, m, size)
        hard = (soft > self.mask_threshold).float()
        area = hard.sum((-2, -1))
        scores = predictions.objectness_logits.float().sigmoid().flatten(1)
        if self.score == "product":
            scores = scores * (soft * hard).sum((-2, -1)) / area.clamp(min=1)
        on_map = (centers < map_sizes[:, None]).all(dim=-1)
        threshold = 0.0 if score_threshold is None else score_threshold
        above = on_map & (area > 0) & (scores > threshold)
        count = self.pre_nms or FIXED_WINDOWS
        # Small maps have fewer windows; enough windows that score 0 are added.
        scores = F.pad(torch.where(above, scores, 0), (0, count))
        scores, best = scores.topk(count)
        best = best.clamp(max=height * width - 1)
        centers = centers[0][best]
        corners = (centers - m // 2).flip(-1).repeat(1, 1, 2)
        boxes = mask_boxes(take_rows(hard, best).to(torch.int32).flatten(0, 1))
        boxes = boxes.unflatten(0, best.shape) + corners
        classes, class_scores = torch.zeros_like(best), torch.ones_like(scores)
        if classifier is not None:
            class_scores, classes = classifier.best_fixed(
                predictions.features, centers, take_rows(soft, best)
            )
        masks = assemble(score_maps, centers, m, size).logits.sigmoid()
        return FixedWindows(scores, classes, class_scores, centers, boxes, masks, above.sum(1))


def _best_boxes(windows: Windows, threshold: float, count: int) -> Tensor:
    """Return the first `count` indices that box NMS keeps of windows, the best first: int64 [n]."""
    # Which windows are kept depends on better ones only: a few times as many as are asked for are
    # enough mostly, and time and memory grow with the square of their number.
    total, considered = len(windows.scores), 4 * count
    while True:
        keep = nms(windows.boxes[:considered], windows.scores[:considered], threshold)
        if len(keep) >= count or considered >= total:
            return keep[:count]
        # Each time the host waits for a GPU, so that there are no more than two.
        considered = total if order.waits(windows.scores) else 4 * considered


def propose(
    selector: ProposalSelector,
    classifier: MaskPooledClassifier | None,
    images: Sequence[list[DenseMaps]],
    ranked: Ranked,
    output_sizes: Sequence[tuple[int, int]],
) -> list[dict[str, Any]]:
    """Return the results of images, in detectron2's form.

    The host waits for the number of windows of all images; and for NMS, image by image.

    Args:
        selector: selects the windows.
        classifier: None for class-agnostic proposals.
        images: the maps of every scale of each.
        ranked: the windows of these; see `ProposalSelector.rank`.
        output_sizes: (H, W) of each.
    """
    results = []
    counts = HostCopy(ranked.counts).wait().tolist()
    for windows, count, maps, size in zip(ranked.windows, counts, images, output_sizes):
        kept = selector.suppress(windows[:count], maps, size)
        scores, classes = kept.scores, torch.zeros_like(kept.scales)
        if classifier is not None:
            probabilities, classes = classifier.best(maps, kept, selector.window_size)
            scores = scores * probabilities
        masks, boxes = selector.paste(kept, maps, size)
        results.append({"instances": make_instances(masks, scores, classes, boxes)})
    return results
