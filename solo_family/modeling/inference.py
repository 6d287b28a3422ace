"""Prepare a trained model for fast inference: half precision, folded norms, CUDA graphs.

O output channels, I input channels per group, k side of the kernel.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .base import MaskSegmentor
from .layers import ConvNormReLU
from .layers.deform_conv import DeformConv
from .layers.folded_norm import FoldingConv2d

PRECISIONS = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
_NORMS = (_BatchNorm, FrozenBatchNorm2d)

Model = TypeVar("Model", bound=MaskSegmentor)


def prepare_for_inference(
    model: Model,
    *,
    precision: str = "float32",
    cuda_graph: bool = False,
    channels_last: bool = False,
    fold_norms: bool | None = None,
) -> Model:
    """Return a copy of a model for inference; the model itself is not changed.

    With float32 and without folding the results are the model's own. Pixels are normalised in
    float32 and rounded once; scores, selection and the norms' statistics are float32 in any
    precision. The copy must not be trained or saved: its weights may be rounded, and its norms
    gone.

    Args:
        model: trained.
        precision: the precision of the weights, a name of `PRECISIONS`. There is no autocast: every
            layer takes the dtype that the layer before it returns.
        cuda_graph: see `CudaGraphs`.
        channels_last: store the channels of a pixel together, as tensor cores prefer.
        fold_norms: multiply weights by the factors of the batch norms after them, in float32 before
            they are rounded; by default if the precision is not float32.

    Raises:
        ValueError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"MODEL.INFERENCE.PRECISION is {precision!r}; allowed: {', '.join(PRECISIONS)}."
        )
    model = copy.deepcopy(model).eval()
    if precision != "float32" if fold_norms is None else fold_norms:
        fold_batch_norms(model)
    _convert(model, PRECISIONS[precision], channels_last)
    model.graphs.enabled = cuda_graph
    return model


def inference_model(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """Return a model as `MODEL.INFERENCE` asks for it: the model itself if nothing has to change.

    Args:
        model: trained, in evaluation mode; a model of another package is returned as it is.
        cfg: its configuration.
    """
    if not isinstance(model, MaskSegmentor):
        return model
    inference = cfg.MODEL.INFERENCE
    if inference.PRECISION == "float32":
        model.graphs.enabled = inference.CUDA_GRAPH
        return model
    return prepare_for_inference(
        model,
        precision=inference.PRECISION,
        cuda_graph=inference.CUDA_GRAPH,
        channels_last=model.device.type == "cuda",
    )


def fold_batch_norms(module: nn.Module) -> None:
    """Fold batch norms with fixed statistics into the convolutions before them, in place.

    This concerns detectron2's and this package's convolutions; others, for instance timm's, stay.

    Args:
        module: the module, in evaluation mode and float32.
    """
    for part in module.modules():
        if isinstance(part, Conv2d | DeformConv) and _is_fixed(part.norm):
            _fold(part, part.norm)
            part.norm = None
        elif isinstance(part, ConvNormReLU) and _is_fixed(part.norm):
            _fold(part.conv, part.norm)
            part.norm = None
        if isinstance(part, FoldingConv2d):
            part.__class__ = Conv2d  # type: ignore[assignment]
        # detectron2's own function handles warnings on every call, which takes longer than the
        # launch.
        if type(part) is Conv2d and part.norm is None and part.activation is None:
            part.__class__ = nn.Conv2d  # type: ignore[assignment]


def _is_fixed(norm: nn.Module | None) -> bool:
    return isinstance(norm, _NORMS) and norm.running_mean is not None


@torch.no_grad()
def _fold(conv: Any, norm: Any) -> None:
    """Change weights [O, I, k, k] and the bias, [O]."""
    factor = (norm.running_var + norm.eps).rsqrt()
    factor = factor if norm.weight is None else factor * norm.weight
    shift = -norm.running_mean * factor
    if norm.bias is not None:
        shift = shift + norm.bias
    if conv.bias is not None:
        shift = shift + conv.bias * factor
    conv.weight = nn.Parameter(conv.weight * factor[:, None, None, None], requires_grad=False)
    conv.bias = nn.Parameter(shift, requires_grad=False)


def _convert(model: nn.Module, dtype: torch.dtype, channels_last: bool) -> None:
    """Round all weights but those of batch norms, which are small and multiply everything."""

    def convert(tensor: Tensor) -> Tensor:
        tensor = tensor.to(dtype) if tensor.is_floating_point() else tensor
        last = channels_last and tensor.dim() == 4
        return tensor.contiguous(memory_format=torch.channels_last) if last else tensor

    for module in model.modules():
        if not isinstance(module, _NORMS):
            module._apply(convert, recurse=False)
