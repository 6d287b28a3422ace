"""Fold the fixed batch norms of other packages' backbones, such as timm's, in training on a CPU."""

from __future__ import annotations

import weakref
from functools import cache
from typing import Any

import torch
from detectron2.layers import Conv2d
from torch import Tensor, nn

from .derived_class import derived
from .layers.folded_norm import KEPT, fold, forget_moving, is_fixed
from .norm_pairs import has_statistics, observed_pairs

# Names in the modules' dictionaries. A convolution knows its norm, and the module and the name
# under which it was found; a norm knows the outputs that include it.
_NORM, _PLACE, _OUTPUTS, _PLAIN = "included_norm", "norms_place", "normed_outputs", "plain_class"
# torch's and timm's norms: others may compute something else besides.
_KNOWN = ("BatchNorm2d", "BatchNormAct2d")


def fold_for_training(backbone: nn.Module, channels: int, size_divisibility: int) -> None:
    """Let convolutions include the norms after them while both train on a CPU, in place.

    The norm's factor is multiplied with the weights, as in `FoldingConv2d`: results and gradients
    are the same, up to rounding, and the outputs of convolutions are not kept. On a GPU norms stay,
    because a norm is one launch there and its folding several. Names and values of parameters do
    not change. Where a hook comes between them, a convolution leaves the norm to the norm.

    Args:
        backbone: norms of detectron2's convolutions, which `fold_fixed_norms` folds, are left out;
            others are folded in every step in which they are in evaluation mode.
        channels: channels of its input.
        size_divisibility: the sides of its inputs are multiples of this.
    """
    unfold_for_training(backbone)
    joined = {id(part.norm) for part in backbone.modules() if isinstance(part, Conv2d)}
    if all(id(part) in joined for part in backbone.modules() if has_statistics(part)):
        return
    modes = {part: part.training for part in backbone.modules()}
    try:
        pairs = observed_pairs(backbone.eval(), channels, size_divisibility)
    finally:
        for part, mode in modes.items():
            part.training = mode
    places = {
        id(child): (parent, name)
        for parent in backbone.modules()
        for name, child in parent.named_children()
    }
    for conv, norm in pairs:
        if conv.bias is None and type(norm).__name__ in _KNOWN:
            conv.__dict__.update({_NORM: norm, _PLACE: places[id(norm)], _PLAIN: type(conv)})
            norm.__dict__.update({_OUTPUTS: [], _PLAIN: type(norm)})
            conv.__class__, norm.__class__ = _folding_conv(type(conv)), _folded_norm(type(norm))


def unfold_for_training(backbone: nn.Module) -> None:
    """Undo `fold_for_training`, in place."""
    for part in backbone.modules():
        if _PLAIN in part.__dict__:
            part.__class__ = part.__dict__[_PLAIN]
            for name in (_NORM, _PLACE, _OUTPUTS, _PLAIN, KEPT):
                part.__dict__.pop(name, None)


def _folds(conv: Any, x: Tensor) -> bool:
    """Return whether a convolution includes its norm, which somebody may have replaced since."""
    parent, name = conv.norms_place
    norm = conv.included_norm
    trains = conv.training and torch.is_grad_enabled() and parent._modules.get(name) is norm
    return trains and x.device.type == "cpu" and is_fixed(norm) and not _are_parted(conv, norm)


def _are_parted(conv: Any, norm: Any) -> bool:
    """Return whether a hook may pass the norm another tensor, which would be normed twice.

    torch does so itself for hooks of the backward pass.
    """
    hooks = (conv._forward_hooks, conv._backward_hooks, conv._backward_pre_hooks)
    return any((*hooks, norm._forward_pre_hooks, norm._backward_hooks, norm._backward_pre_hooks))


@cache
def _folding_conv(cls: Any) -> Any:
    """Return the class of a convolution that includes its norm."""

    def forward(self: Any, x: Tensor) -> Tensor:
        if not _folds(self, x):
            forget_moving(self, self.included_norm)
            return cls.forward(self, x)
        weight, bias = fold(self, self.included_norm)
        if cls is nn.Conv2d:
            output = self._conv_forward(x, weight, bias)
        else:
            from timm.layers.conv2d_same import conv2d_same

            shape = (self.stride, self.padding, self.dilation, self.groups)
            output = conv2d_same(x, weight, bias, *shape)
        outputs = self.included_norm.normed_outputs
        outputs[:] = [one for one in outputs if one() is not None]
        outputs.append(weakref.ref(output))
        return output

    return derived(cls, _folding_conv, {"forward": forward, "__getstate__": _state})


@cache
def _folded_norm(cls: Any) -> Any:
    """Return the class of a norm of which the rest is left, where its input includes it."""

    def forward(self: Any, x: Tensor) -> Tensor:
        if not any(one() is x for one in self.normed_outputs):
            return cls.forward(self, x)
        for name in ("drop", "act"):  # in timm's order
            part = self._modules.get(name)
            x = x if part is None else part(x)
        return x

    return derived(cls, _folded_norm, {"forward": forward, "__getstate__": _state})


def _state(self: nn.Module) -> dict[str, Any]:
    """Return what is copied and pickled: not what belongs to this object's last step."""
    state = {name: value for name, value in self.__dict__.items() if name != KEPT}
    return state | {_OUTPUTS: []} if _OUTPUTS in state else state
