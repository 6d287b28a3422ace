"""From scored cells to the masks that are kept (SOLOv2, arXiv 2003.10152, section 3.3).

C cells of all levels, K classes, N candidates (a cell and a class), M cells with candidates, h w of
the masks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...ops import fast_nms, mask_nms, matrix_nms, pack_masks, soft_nms, unpack_masks
from ...ops.packed_masks import WORD_BITS, PackedMasks

# Maps cells [n] to the probabilities of their masks, float32 [n, h, w].
Decode = Callable[[Tensor], Tensor]
# Maps cells [n] to their masks, packed, without soft masks in between.
Pack = Callable[[Tensor], PackedMasks]

# Bytes of the probability maps that are in memory at a time, whatever the number of candidates: on
# a CPU what its caches hold; fewer would leave a GPU waiting for the host.
_CHUNK_BYTES = 16 * 2**20
_CHUNK_BYTES_GPU = 256 * 2**20
# Cells that a GPU packs at a time where there are no probability maps.
_CHUNK_PACKED = 1024


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
        self,
        cell_scores: Tensor,
        strides: Tensor,
        decode: Decode,
        mask_size: tuple[int, int],
        pack: Pack | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Selects one image's instances.

        Masks are decoded in chunks, a candidate's at most twice: to measure it and pack its bits
        for NMS, and for the result if it is kept. So the soft masks of all candidates are never in
        memory together. None is decoded whose score is too low for NMS whatever its mask.

        Args:
            cell_scores: float32 [C, K], probabilities after point NMS.
            strides: int64 [C], the stride of every cell's level.
            decode: maps cells to probabilities.
            mask_size: (h, w).
            pack: does the same as `decode` and then `pack_masks`, in less memory.

        Returns:
            scores: float32 [n], descending.
            classes: int64 [n].
            masks: float32 [n, h, w], probabilities.
        """
        cells, classes = (cell_scores > self.score_threshold).nonzero(as_tuple=True)
        scores = cell_scores[cells, classes]
        # A cell that several classes claim has one mask.
        unique_cells, mask_index = cells.unique(return_inverse=True)
        smallest = strides[unique_cells] if self.area_filter else torch.zeros_like(unique_cells)
        step = _CHUNK_PACKED if pack and cells.is_cuda else chunk_length(mask_size, cells.device)
        pack = pack or (lambda cells: pack_masks(decode(cells), self.mask_threshold))
        num_words = -(-mask_size[0] * mask_size[1] // WORD_BITS)
        chunks = _chunks(len(unique_cells), step)
        words, maskness = self._measure(
            unique_cells, smallest, scores, mask_index, num_words, chunks, pack
        )
        large = maskness[mask_index] > 0
        cells, classes, mask_index = cells[large], classes[large], mask_index[large]
        scores = scores[large] * maskness[mask_index]

        order = scores.argsort(descending=True, stable=True)[: self.pre_nms]
        cells, classes, scores = cells[order], classes[order], scores[order]
        masks = words[mask_index[order]]
        if self.nms_type != "matrix":
            masks = unpack_masks(masks, mask_size)
        keep, scores = self._nms()(masks, classes, scores)
        cells, classes = cells[keep], classes[keep]
        soft = scores.new_empty((len(cells), *mask_size))
        for chunk in _chunks(len(cells), chunk_length(mask_size, cells.device)):
            soft[chunk] = decode(cells[chunk])
        return scores, classes, soft

    def _measure(
        self,
        cells: Tensor,
        smallest: Tensor,
        scores: Tensor,
        mask_index: Tensor,
        num_words: int,
        chunks: list[slice],
        pack: Pack,
    ) -> tuple[Tensor, Tensor]:
        """Packs masks by descending score, until no other one can be among the best for NMS.

        As maskness is at most 1, no candidate's score rises.

        Args:
            cells: int64 [M].
            smallest: int64 [M], the number of pixels that a mask must exceed.
            scores: float32 [N], of the candidates.
            mask_index: int64 [N], which of `cells` each is of.
            num_words: W, of a packed mask.
            chunks: how many to pack at a time.
            pack: see `__call__`.

        Returns:
            words: int32 [M, W], defined where a mask was measured.
            maskness: float32 [M], the mean probability inside; 0 for the small and the unmeasured.
        """
        maskness = scores.new_zeros(len(cells))
        words = cells.new_empty((len(cells), num_words), dtype=torch.int32)
        best = maskness.scatter_reduce(0, mask_index, scores, "amax")
        order = best.argsort(descending=True)
        for chunk in chunks:
            some = order[chunk]
            packed = pack(cells[some])
            words[some] = packed.words
            maskness[some] = torch.where(packed.areas > smallest[some], packed.maskness, 0)
            if chunk.stop < len(cells) and len(scores) > self.pre_nms:
                measured = scores * maskness[mask_index]
                if best[order[chunk.stop]] < measured.topk(self.pre_nms).values[-1]:
                    break
        return words, maskness

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


def _chunks(count: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def chunk_length(mask_size: tuple[int, int], device: torch.device) -> int:
    """Returns how many probability maps are to be in memory at a time."""
    chunk_bytes = _CHUNK_BYTES if device.type == "cpu" else _CHUNK_BYTES_GPU
    return max(1, chunk_bytes // (4 * mask_size[0] * mask_size[1]))
