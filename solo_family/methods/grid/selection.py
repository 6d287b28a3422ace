"""Select instances from scored cells.

SOLOv2, arXiv 2003.10152, section 2.1.4 of the NeurIPS version ("Learning and Inference"), and
SOLO, arXiv 1912.04488, section 2.4 of the ECCV version ("Inference").

The official code filters by score and by area, multiplies the scores by the maskness, applies NMS
and filters by score again. `select_in_chunks` does this with as few decoded masks as possible. On a
GPU, where the host would have to wait to learn which masks are needed, selection_at_once.py selects
the same instances; in an exported graph, whose sizes are fixed, selection_traceable.py does. The
rules themselves are shared by all three: `Selector`.

C cells of all levels, K classes, L levels, N candidates (pairs of a cell and a class), M cells with
candidates, n instances, W words of a packed mask, h w size of the masks.
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
from ...ops.compact import SoftMasks
from ...ops.matrix_nms import matrix_nms_decay
from ...ops.packed_masks import WORD_BITS, unpack_masks
from .decoded_masks import DecodedMasks, Size, chunk_length, chunks
from .mask_decoder import Grid, GridOutputs, MaskDecoder

# Cells whose masks a GPU packs at a time, if the decoder needs no probability maps.
_CHUNK_PACKED = 1024


@dataclass(frozen=True)
class Selector:
    """Define which candidates become instances, for all ways of selecting.

    Attributes:
        score_threshold: a cell and a class are a candidate if their score is greater.
        mask_threshold: a pixel belongs to a mask if its probability is greater.
        area_filter: drop candidates whose mask has at most as many pixels as their level's stride.
        pre_nms: the maximum number of candidates that NMS receives, the best ones.
        post_nms: the maximum number of instances that NMS returns.
        update_threshold: the minimum score after NMS.
        nms_type: "matrix", "mask" (greedy), "soft" or "fast".
        nms_kernel: see `matrix_nms` and `soft_nms`.
        nms_sigma: see `matrix_nms` and `soft_nms`.
        nms_iou_threshold: see `mask_nms`, `soft_nms` and `fast_nms`.
        class_agnostic: let masks of different classes suppress one another too.
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
        """Build the selector from the keys of a method, for instance "MODEL.SOLOV2"."""
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
        """Return which scores make a candidate; `threshold` replaces `score_threshold`."""
        return scores > (self.score_threshold if threshold is None else threshold)

    def are_large(self, areas: Tensor, strides: Tensor) -> Tensor:
        """Return which masks are large enough.

        Args:
            areas: [n], the number of pixels of each mask.
            strides: [n], the stride of each mask's level.

        Returns:
            bool [n].
        """
        return areas > (strides if self.area_filter else 0)

    def best_first(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best `pre_nms` scores in descending order, and their indices in `scores`.

        Equal scores keep their order: by cell, then by class.
        """
        scores, order = scores.sort(descending=True, stable=True)
        return scores[: self.pre_nms], order[: self.pre_nms]

    def matrix_nms(
        self, masks: Tensor, classes: Tensor, scores: Tensor, decay: Any = matrix_nms_decay
    ) -> tuple[Tensor, Tensor]:
        """Return the indices of the candidates that matrix NMS returns, and their new scores.

        Args:
            masks: the masks of the candidates, the best first, in the form that `decay` takes.
            classes: int64 [N].
            scores: float32 [N], descending.
            decay: a function with the arguments and the result of `matrix_nms_decay`.

        Returns:
            Indices and scores, at most `post_nms` each, by descending score.
        """
        options = (self.nms_kernel, self.nms_sigma, self.class_agnostic)
        order, decayed = decay(masks, classes, scores, *options)
        return order[..., : self.post_nms], decayed[..., : self.post_nms]

    def are_kept(self, decayed: Tensor) -> Tensor:
        """Return which scores after NMS reach `update_threshold`."""
        return decayed >= self.update_threshold

    def nms(
        self, words: Tensor, size: Size, classes: Tensor, scores: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the indices of the candidates that NMS of the chosen type keeps, and their scores.

        Args:
            words: int32 [N, W], the packed masks of the candidates, the best first.
            size: (h, w).
            classes: int64 [N].
            scores: float32 [N], descending.
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
    """Hold everything that selecting needs beside the head's predictions.

    Attributes:
        selector: the rules.
        decoder: computes the masks of cells.
        grid: the cells of all levels.
    """

    selector: Selector
    decoder: MaskDecoder[Any]
    grid: Grid


class Selected(NamedTuple):
    """Hold the selected instances of one image.

    Attributes:
        scores: float32 [n], descending.
        classes: int64 [n].
        masks: float32 [n, h, w], probabilities; a slice of them is a tensor.
    """

    scores: Tensor
    classes: Tensor
    masks: SoftMasks


def select_in_chunks(
    selection: Selection, outputs: GridOutputs, cell_scores: Tensor, size: Size
) -> Selected:
    """Select the instances of one image, chunk by chunk.

    Masks are decoded in chunks, so that the soft masks of all candidates are never in memory
    together. A mask is decoded at most twice: once to measure it and to pack it for NMS, and again
    for the result if NMS keeps it, when it is asked for. A mask is not decoded at all if its score
    is too low for NMS, whatever its maskness.

    Args:
        selection: the rules, the decoder and the grid.
        outputs: the head's predictions for the image.
        cell_scores: float32 [C, K], probabilities after point NMS.
        size: (h, w).
    """
    selector, decoder = selection.selector, selection.decoder
    cells, classes = selector.are_candidates(cell_scores).nonzero(as_tuple=True)
    scores = cell_scores[cells, classes]
    # The candidates of one cell, which differ in their class, share a mask.
    unique_cells, mask_index = cells.unique(return_inverse=True)
    words, maskness = _measure_best(selection, outputs, size, unique_cells, scores, mask_index)
    large = maskness[mask_index] > 0
    cells, classes, mask_index = cells[large], classes[large], mask_index[large]
    scores, order = selector.best_first(scores[large] * maskness[mask_index])
    cells, classes = cells[order], classes[order]
    keep, scores = selector.nms(words[mask_index[order]], size, classes, scores)
    return Selected(scores, classes[keep], DecodedMasks(decoder, outputs, size, cells[keep]))


def _measure_best(
    selection: Selection,
    outputs: GridOutputs,
    size: Size,
    cells: Tensor,
    scores: Tensor,
    mask_index: Tensor,
) -> tuple[Tensor, Tensor]:
    """Pack masks by descending score, until no other mask can be among the best `pre_nms`.

    Maskness is at most 1, so that multiplying by it never raises a score.

    Args:
        selection: see `select_in_chunks`.
        outputs: see `select_in_chunks`.
        size: (h, w).
        cells: int64 [M].
        scores: float32 [N], the scores of the candidates.
        mask_index: int64 [N], the position in `cells` of each candidate's cell.

    Returns:
        words: int32 [M, W], packed masks; undefined for masks that were not measured.
        maskness: float32 [M], the mean probability inside each mask; 0 for masks that are too small
            or were not measured.
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
