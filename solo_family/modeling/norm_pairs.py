"""Find the batch norms of a backbone of another package, and the convolutions before them."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# torchvision's and timm's frozen norms, which have the same buffers, go by their names: importing
# timm takes longer than the rest of a small model's preparation.
_FROZEN = ("FrozenBatchNorm2d", "FrozenBatchNormAct2d")
# The side of the picture on which a backbone's order of operations is observed.
_OBSERVED_SIDE = 64


def is_norm(module: nn.Module | None) -> bool:
    """Return whether a module is a batch norm, of any kind."""
    if isinstance(module, _BatchNorm | FrozenBatchNorm2d):
        return True
    return type(module).__name__ in _FROZEN


def has_statistics(norm: nn.Module | None) -> bool:
    """Return whether a module is a batch norm that keeps its statistics."""
    return is_norm(norm) and getattr(norm, "running_mean", None) is not None


def observed_pairs(
    backbone: nn.Module, channels: int, size_divisibility: int
) -> list[tuple[nn.Module, nn.Module]]:
    """Return pairs of a convolution and the norm that alone reads its outputs.

    Which convolution a norm follows is observed while the backbone computes a small picture. All
    inputs of the norm are outputs of the convolution.

    Args:
        backbone: the backbone, in evaluation mode.
        channels: channels of its input.
        size_divisibility: the sides of its inputs are multiples of this.
    """
    if not any(has_statistics(part) for part in backbone.modules()):
        return []
    parameter = next(backbone.parameters())
    side = -(-_OBSERVED_SIDE // max(1, size_divisibility)) * max(1, size_divisibility)
    try:
        return _observe(backbone, parameter.new_zeros(1, channels, side, side))
    except Exception:  # a backbone of another package may raise anything at a size that it lacks
        return []


def _observe(module: nn.Module, image: Tensor) -> list[tuple[nn.Module, nn.Module]]:
    reads = _Reads()
    made_by: dict[int, nn.Module] = {}
    outputs: list[Tensor] = []  # kept, so that no other tensor gets the id of one of these
    # Per norm, the tensors that it was given, and the convolutions that made them.
    inputs: dict[nn.Module, list[tuple[int, nn.Module | None]]] = defaultdict(list)

    def after_conv(conv: nn.Module, _: Any, output: Tensor) -> None:
        outputs.append(output)
        made_by[id(output)] = conv
        reads.counts[id(output)] = 0  # that of a tensor with the same id, which is gone

    def before_norm(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        inputs[norm].append((id(given[0]), made_by.get(id(given[0]))))

    handles = []
    for part in module.modules():
        if _computes_plainly(part):
            handles.append(part.register_forward_hook(after_conv))
        elif has_statistics(part):
            handles.append(part.register_forward_pre_hook(before_norm))
    try:
        with torch.no_grad(), reads:
            results = module(image)
    finally:
        for handle in handles:
            handle.remove()
    reads.counts.update(id(leaf) for leaf in tree_leaves(results))
    calls = Counter(map(id, made_by.values()))
    pairs = []
    for norm, given in inputs.items():
        read, makers = zip(*given)
        convs = set(makers)
        conv: Any = convs.pop()
        if conv is None or convs or len(read) != calls[id(conv)]:
            continue
        once = all(reads.counts[tensor] == 1 for tensor in read)
        # A weight that is read elsewhere, too, has to stay as it is.
        if once and reads.counts[id(conv.weight)] == calls[id(conv)]:
            pairs.append((conv, norm))
    return pairs


class _Reads(TorchDispatchMode):
    """Count how often operators read each tensor, by its id."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = tree_leaves((args, kwargs or {}))
        self.counts.update(id(leaf) for leaf in leaves if isinstance(leaf, Tensor))
        return func(*args, **(kwargs or {}))


def _computes_plainly(conv: nn.Module) -> bool:
    """Return whether a convolution computes with its weight as it is, not with a changed copy."""
    # timm's Conv2dSame pads its input, as TensorFlow does, and computes plainly otherwise.
    known = type(conv) is nn.Conv2d or type(conv).__name__ == "Conv2dSame"
    hooked = conv._forward_pre_hooks or conv._forward_hooks or hasattr(conv, "parametrizations")
    return known and not hooked
