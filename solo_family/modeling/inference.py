"""Prepare a trained model for fast inference (`MODEL.INFERENCE`); training never sees such a model.

Norms become part of the convolutions before them, weights are laid out as the device wants them,
and may be of half precision; on a GPU the network may be a CUDA graph.
"""

from __future__ import annotations

import copy
import logging
from typing import Any, TypeVar

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from .base import MaskSegmentor
from .fast_group_norm import make_group_norms_fast
from .folding import fold_batch_norms, fold_observed_norms
from .fuse import fuse_convolutions
from .fused_conv import fusing_works
from .norm_pairs import is_norm
from .packed_conv import pack_convolutions, packing_works
from .precision import PrecisionCheck, why_not_bfloat16
from .trained_pairs import unfold_for_training

PRECISIONS = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}

Model = TypeVar("Model", bound=MaskSegmentor)

logger = logging.getLogger(__name__)


def inference_model(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """Return a model as `MODEL.INFERENCE` asks for it: the model itself if nothing has to change.

    Args:
        model: trained, in evaluation mode; a model of another package is returned as it is.
        cfg: its configuration.
    """
    if not isinstance(model, MaskSegmentor):
        return model
    inference = cfg.MODEL.INFERENCE
    precision, optimize = inference.PRECISION, inference.OPTIMIZE == "auto"
    if precision == "float32" and not optimize:
        model.graphs.enabled = inference.CUDA_GRAPH
        return model
    return prepare_for_inference(
        model, precision=precision, cuda_graph=inference.CUDA_GRAPH, optimize=optimize
    )


def prepare_for_inference(
    model: Model,
    *,
    precision: str = "float32",
    cuda_graph: bool = False,
    optimize: bool = False,
    channels_last: bool | None = None,
    fold_norms: bool | None = None,
) -> Model:
    """Return a copy of a model for inference; the model itself is not changed.

    With float32 and without anything else the results are the model's own; folded and optimised
    they are so up to rounding. In half precision pixels are normalised in float32 and rounded once;
    scores, selection and the norms' statistics are float32 in any precision. Unless it equals the
    model, the copy refuses to be trained or saved: its weights may be rounded, and its norms gone.

    Args:
        model: trained.
        precision: the precision of the weights, a name of `PRECISIONS`; or "auto", for bfloat16
            where the device is fast with it and the first image agrees, see `PrecisionCheck`. There
            is no autocast: every layer takes the dtype that the layer before it returns.
        cuda_graph: see `CudaGraphs`.
        optimize: fold norms; on a CPU pack the weights of convolutions, on a GPU convolve with what
            follows in one kernel; run the network in `torch.inference_mode`.
        channels_last: store the channels of a pixel together; by default where it is faster: with
            half precision on a GPU, as tensor cores prefer, and if optimised.
        fold_norms: multiply weights by the factors of the batch norms after them, in float32 before
            they are rounded; by default if the precision is not float32, or if optimised.

    Raises:
        ValueError: there is no such precision.
    """
    if precision == "auto":
        layout = {"channels_last": channels_last, "fold_norms": fold_norms}
        return _choosing(model, cuda_graph=cuda_graph, optimize=optimize, **layout)
    if precision not in PRECISIONS:
        raise ValueError(
            f"MODEL.INFERENCE.PRECISION is {precision!r}; allowed: {', '.join(PRECISIONS)}, auto."
        )
    half, dtype = precision != "float32", PRECISIONS[precision]
    model = copy.deepcopy(model).eval()
    unfold_for_training(model.backbone)
    packs = optimize and packing_works(dtype, model.device)
    fuses = optimize and fusing_works(dtype, model.device)
    if channels_last is None:
        channels_last = packs or fuses or (half and model.device.type == "cuda")
    if fold_norms is None:
        fold_norms = half or optimize
    if fold_norms:
        fold_batch_norms(model)
        fold_observed_norms(model.backbone, len(model.pixel_mean), model.size_divisibility)
    _convert(model, dtype, channels_last)
    if packs:
        pack_convolutions(model)
        make_group_norms_fast(model)
    if fuses:
        fuse_convolutions(model)
    if fold_norms or half or packs or fuses:
        model.refuse_training(dtype)
    model.inference_mode = optimize
    model.channels_last = channels_last
    model.graphs.enabled = cuda_graph
    return model


def _choosing(model: Model, **options: Any) -> Model:
    """Return a copy in float32 that becomes one in bfloat16 if the first image agrees."""
    plain = prepare_for_inference(model, **options)
    reason = why_not_bfloat16(model.device)
    if reason:
        logger.info("MODEL.INFERENCE.PRECISION auto is float32: %s.", reason)
    else:
        half = prepare_for_inference(model, precision="bfloat16", **options)
        # Without folded norms the copy in float32 could be trained; it may become the other.
        if plain._prepared is None:
            plain.refuse_training(torch.float32)
        plain.first_inference = PrecisionCheck(half)
    return plain


def _convert(model: nn.Module, dtype: torch.dtype, channels_last: bool) -> None:
    """Round all weights but those of batch norms, which are small and multiply everything."""

    def convert(tensor: Tensor) -> Tensor:
        tensor = tensor.to(dtype) if tensor.is_floating_point() else tensor
        last = channels_last and tensor.dim() == 4
        return tensor.contiguous(memory_format=torch.channels_last) if last else tensor

    for module in model.modules():
        if not is_norm(module):
            module._apply(convert, recurse=False)
