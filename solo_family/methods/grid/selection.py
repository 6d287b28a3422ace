"""From scored cells to the masks that are kept (SOLOv2, arXiv 2003.10152, section 2.1.4).

The published order of operations is score, area, maskness, NMS, score. This way of it decodes as
few masks as it can. On a GPU, where to ask which are needed would be a wait, selection_at_once.py
gives the same; in an exported graph, whose sizes are fixed, selection_traceable.py does. What a
candidate needs to stay is said once for all three, in `Selector`.

C cells of all levels, K classes, L levels, N candidates (a cell and a class), M cells with
candidates, W words of a packed mask, h w of the masks.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...config.caps import instances_per_image
from ...config.rules import get_key
from ...ops import fast_nms, mask_nms, soft_nms
from ...ops.matrix_nms import matrix_nms_decay
from ...ops.packed_masks import WORD_BITS, unpack_masks
from .mask_decoder import Grid, GridOutputs, MaskDecoder

Size = tuple[int, int]

# Bytes of the probability maps that are in memory at a time, whatever the number of candidates: on
# a CPU what its caches hold; fewer would leave a GPU waiting for the host.
_CHUNK_BYTES = 16 * 2**20
_CHUNK_BYTES_GPU = 256 * 2**20
# Cells that a GPU packs at a time where there are no probability maps.
_CHUNK_PACKED = 1024


@dataclass(frozen=True)
class Selector:
    """What stays of the candidates, whichever way they are looked at.

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
    def from_config(cls, cfg: CfgNode, key: str) -> "Selector":
        """Read a method's keys, for instance of "MODEL.SOLOV2"."""
        method = get_key(cfg, key)
        return cls(
            score_threshold=method.SCORE_THR,
            mask_threshold=method.MASK_THR,
            area_filter=method.AREA_FILTER,
            pre_nms=method.NMS_PRE,
            post_nms=instances_per_image(cfg, f"{key}.MAX_PER_IMG"),
            update_threshold=method.UPDATE_THR,
            nms_type=method.NMS_TYPE,
            nms_kernel=method.NMS_KERNEL,
            nms_sigma=method.NMS_SIGMA,
            nms_iou_threshold=method.MASK_NMS_THR,
            class_agnostic=method.CLASS_AGNOSTIC_NMS,
        )

    def are_candidates(self, scores: Tensor, threshold: float | Tensor | None = None) -> Tensor:
        """Return which cells and classes score enough; `threshold` replaces the configured one."""
        return scores > (self.score_threshold if threshold is None else threshold)

    def are_large(self, areas: Tensor, strides: Tensor) -> Tensor:
        """Return which masks have pixels enough, of areas and their levels' strides, [n] each."""
        return areas > (strides if self.area_filter else 0)

    def best_first(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores, [<= pre_nms], that go into NMS, and where they were in `scores`.

        Equal scores keep their order, which is that of cells, and then of classes.
        """
        scores, order = scores.sort(descending=True, stable=True)
        return scores[: self.pre_nms], order[: self.pre_nms]

    def matrix_nms(
        self, masks: Tensor, classes: Tensor, scores: Tensor, decay: Any = matrix_nms_decay
    ) -> tuple[Tensor, Tensor]:
        """Return which candidates come out of matrix NMS, [<= post_nms], and their scores.

        Args:
            masks, classes, scores: of the candidates, the best first.
            decay: does what `matrix_nms_decay` does.
        """
        options = (self.nms_kernel, self.nms_sigma, self.class_agnostic)
        order, decayed = decay(masks, classes, scores, *options)
        return order[: self.post_nms], decayed[: self.post_nms]

    def are_kept(self, decayed: Tensor) -> Tensor:
        """Return which scores are still high enough after NMS."""
        return decayed >= self.update_threshold

    def nms(
        self, words: Tensor, size: Size, classes: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return which candidates NMS of any type keeps, and their scores.

        Args:
            words: int32 [N, W], packed masks of `size`.
            classes, scores: [N], the best first.
        """
        if self.nms_type == "matrix":
            order, decayed = self.matrix_nms(words, classes, scores)
            (kept,) = self.are_kept(decayed).nonzero(as_tuple=True)
            return order[kept], decayed[kept]
        soft = partial(soft_nms, kernel=self.nms_kernel, sigma=self.nms_sigma)
        others: dict[str, Any] = {"mask": mask_nms, "soft": soft, "fast": fast_nms}
        return others[self.nms_type](
            unpack_masks(words, size),
            classes,
            scores,
            iou_threshold=self.nms_iou_threshold,
            pre_nms=self.pre_nms,
            post_nms=self.post_nms,
            threshold=self.update_threshold,
            class_agnostic=self.class_agnostic,
        )


@dataclass(frozen=True)
class Selection:
    """Says what stays, what masks are, and where the cells are: all but what a head predicts."""

    selector: Selector
    decoder: MaskDecoder[Any]
    grid: Grid


class Selected(NamedTuple):
    """One image's instances.

    Attributes:
        scores: float32 [n], descending.
        classes: int64 [n].
        masks: float32 [n, h, w], probabilities.
    """

    scores: Tensor
    classes: Tensor
    masks: Tensor


def select_in_chunks(
    selection: Selection, outputs: GridOutputs, cell_scores: Tensor, size: Size
) -> Selected:
    """Select one image's instances, in as many steps as its candidates need.

    Masks are decoded in chunks, a candidate's at most twice: to measure it and pack its bits for
    NMS, and for the result if it is kept. So the soft masks of all candidates are never in memory
    together. None is decoded whose score is too low for NMS whatever its mask.

    Args:
        selection: says how.
        outputs: what the head predicts of the image.
        cell_scores: float32 [C, K], probabilities after point NMS.
        size: (h, w).
    """
    selector, decoder = selection.selector, selection.decoder
    cells, classes = selector.are_candidates(cell_scores).nonzero(as_tuple=True)
    scores = cell_scores[cells, classes]
    # A cell that several classes claim has one mask.
    unique_cells, mask_index = cells.unique(return_inverse=True)
    words, maskness = _measure_best(selection, outputs, size, unique_cells, scores, mask_index)
    large = maskness[mask_index] > 0
    cells, classes, mask_index = cells[large], classes[large], mask_index[large]
    scores, order = selector.best_first(scores[large] * maskness[mask_index])
    cells, classes = cells[order], classes[order]
    keep, scores = selector.nms(words[mask_index[order]], size, classes, scores)
    cells, classes = cells[keep], classes[keep]
    soft = scores.new_empty((len(cells), *size))
    for chunk in chunks(len(cells), chunk_length(size, cells.device)):
        soft[chunk] = decoder.soft(outputs, size, cells[chunk])
    return Selected(scores, classes, soft)


def _measure_best(
    selection: Selection,
    outputs: GridOutputs,
    size: Size,
    cells: Tensor,
    scores: Tensor,
    mask_index: Tensor,
) -> tuple[Tensor, Tensor]:
    """Pack masks by descending score, until no other one can be among the best for NMS.

    As maskness is at most 1, no candidate's score rises.

    Args:
        selection, outputs, size: see `select_in_chunks`.
        cells: int64 [M].
        scores: float32 [N], of the candidates.
        mask_index: int64 [N], which of `cells` each is of.

    Returns:
        words: int32 [M, W], defined where a mask was measured.
        maskness: float32 [M], the mean probability inside; 0 for the small and the unmeasured.
    """
    selector, decoder, strides = selection.selector, selection.decoder, selection.grid.strides
    maskness = scores.new_zeros(len(cells))
    words = cells.new_empty((len(cells), -(-size[0] * size[1] // WORD_BITS)), dtype=torch.int32)
    best = maskness.scatter_reduce(0, mask_index, scores, "amax")
    order = best.argsort(descending=True)
    directly = decoder.packs_directly and cells.is_cuda
    length = _CHUNK_PACKED if directly else chunk_length(size, cells.device)
    for chunk in chunks(len(cells), length):
        some = order[chunk]
        packed = decoder.packed(outputs, size, cells[some], selector.mask_threshold)
        large = selector.are_large(packed.areas, strides[cells[some]])
        words[some], maskness[some] = packed.words, torch.where(large, packed.maskness, 0)
        if chunk.stop < len(cells) and len(scores) > selector.pre_nms:
            measured = scores * maskness[mask_index]
            if best[order[chunk.stop]] < measured.topk(selector.pre_nms).values[-1]:
                break
    return words, maskness


def chunks(count: int, step: int) -> list[slice]:
    """Return slices of at most `step` that make up `count`."""
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def chunk_length(size: Size, device: torch.device) -> int:
    """Return how many probability maps are to be in memory at a time."""
    chunk_bytes = _CHUNK_BYTES if device.type == "cpu" else _CHUNK_BYTES_GPU
    return max(1, chunk_bytes // (4 * size[0] * size[1]))
