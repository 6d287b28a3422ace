"""From scored cells to the masks that are kept (SOLOv2, arXiv 2003.10152, section 3.3).

C cells of all levels, K classes, N candidates (a cell and a class), h w of the masks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...ops.fast_nms import fast_nms
from ...ops.mask_nms import mask_nms
from ...ops.matrix_nms import matrix_nms
from ...ops.soft_nms import soft_nms

# Maps cells [n] to the probabilities of their masks, float32 [n, h, w].
Decode = Callable[[Tensor], Tensor]

# Bytes of the probability maps that are in memory at a time, whatever the number of candidates.
_CHUNK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Selector:
    """The published order of operations: score, area, maskness, NMS, score.

    Attributes:
        score_threshold: candidates are the (cell, class) whose score is greater.
        mask_threshold: a mask's pixels are those whose probability is greater.
        area_filter: drop candidates whose mask has no more pixels than their level's stride.
        pre_nms, post_nms: the best so many go into NMS, and come out of it.
        update_threshold: the least score after NMS.
        nms_type: "matrix", "mask" (greedy), "soft" or "fast".
        nms_kernel, nms_sigma: see `matrix_nms` and `soft_nms`.
        nms_iou_threshold: see `mask_nms`, `soft_nms` and `fast_nms`.
        class_agnostic: masks of different classes suppress one another too.
    """

    score_threshold: float = 0.1
    mask_threshold: float = 0.5
    area_filter: bool = True
    pre_nms: int = 500
    post_nms: int = 100
    update_threshold: float = 0.05
    nms_type: str = "matrix"
    nms_kernel: str = "gaussian"
    nms_sigma: float = 2.0
    nms_iou_threshold: float = 0.5
    class_agnostic: bool = False

    @classmethod
    def from_config(cls, method: CfgNode) -> "Selector":
        """Reads a method's keys, for instance `cfg.MODEL.SOLOV2`."""
        return cls(
            score_threshold=method.SCORE_THR,
            mask_threshold=method.MASK_THR,
            area_filter=method.AREA_FILTER,
            pre_nms=method.NMS_PRE,
            post_nms=method.MAX_PER_IMG,
            update_threshold=method.UPDATE_THR,
            nms_type=method.NMS_TYPE,
            nms_kernel=method.NMS_KERNEL,
            nms_sigma=method.NMS_SIGMA,
            nms_iou_threshold=method.MASK_NMS_THR,
            class_agnostic=method.CLASS_AGNOSTIC_NMS,
        )

    def __call__(
        self, cell_scores: Tensor, strides: Tensor, decode: Decode, mask_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Selects one image's instances.

        Masks are decoded in chunks, a candidate's at most three times: to measure it, for NMS if
        it is among the best, and for the result if it is kept. So the soft masks of all candidates
        are never in memory together.

        Args:
            cell_scores: float32 [C, K], probabilities after point NMS.
            strides: int64 [C], the stride of every cell's level.
            decode: maps cells to probabilities.
            mask_size: (h, w).

        Returns:
            scores: float32 [n], descending.
            classes: int64 [n].
            masks: float32 [n, h, w], probabilities.
        """
        cells, classes = (cell_scores > self.score_threshold).nonzero(as_tuple=True)
        scores = cell_scores[cells, classes]
        # A cell that several classes claim has one mask.
        unique_cells, mask_index = cells.unique(return_inverse=True)
        area, maskness = self._measure(unique_cells, decode, mask_size)
        scores = scores * maskness[mask_index]
        large = area[mask_index] > (strides[cells] if self.area_filter else 0)
        cells, classes, scores = cells[large], classes[large], scores[large]

        order = scores.argsort(descending=True, stable=True)[: self.pre_nms]
        cells, classes, scores = cells[order], classes[order], scores[order]
        keep, scores = self._nms()(self._hard_masks(cells, decode, mask_size), classes, scores)
        cells, classes = cells[keep], classes[keep]
        masks = scores.new_empty((len(cells), *mask_size))
        for chunk in _chunks(len(cells), mask_size):
            masks[chunk] = decode(cells[chunk])
        return scores, classes, masks

    def _measure(
        self, cells: Tensor, decode: Decode, mask_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Returns the masks' areas, int64, and maskness: the mean probability inside, float32."""
        area = cells.new_zeros(len(cells))
        maskness = torch.zeros(len(cells), device=cells.device)
        for chunk in _chunks(len(cells), mask_size):
            probabilities = decode(cells[chunk]).flatten(1)
            inside = probabilities > self.mask_threshold
            area[chunk] = inside.sum(1)
            total = probabilities.mul_(inside).sum(1)
            maskness[chunk] = total / area[chunk].clamp(min=1)
        return area, maskness

    def _hard_masks(self, cells: Tensor, decode: Decode, mask_size: tuple[int, int]) -> Tensor:
        masks = torch.empty((len(cells), *mask_size), dtype=torch.bool, device=cells.device)
        for chunk in _chunks(len(cells), mask_size):
            masks[chunk] = decode(cells[chunk]) > self.mask_threshold
        return masks

    def _nms(self) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
        iou, kernel, sigma = self.nms_iou_threshold, self.nms_kernel, self.nms_sigma
        nms = {
            "matrix": partial(matrix_nms, kernel=kernel, sigma=sigma),
            "mask": partial(mask_nms, iou_threshold=iou),
            "soft": partial(soft_nms, kernel=kernel, sigma=sigma, iou_threshold=iou),
            "fast": partial(fast_nms, iou_threshold=iou),
        }
        return partial(
            nms[self.nms_type],
            pre_nms=self.pre_nms,
            post_nms=self.post_nms,
            threshold=self.update_threshold,
            class_agnostic=self.class_agnostic,
        )


def _chunks(count: int, mask_size: tuple[int, int]) -> list[slice]:
    step = max(1, _CHUNK_BYTES // (4 * mask_size[0] * mask_size[1]))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
