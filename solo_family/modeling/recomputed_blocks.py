"""Choose what `SOLVER.ACTIVATION_CHECKPOINTING` computes again: blocks, and parts of heads."""

from collections import Counter
from collections.abc import Iterator

import torch
from torch import nn

from ..errors import ConfigError
from .interface import MethodInterface
from .recompute import recompute, recompute_parts

_SEQUENCES = (nn.Sequential, nn.ModuleList)


def checkpoint_activations(model: nn.Module, heads: bool = True) -> None:
    """Let a model keep only the inputs of its backbone's blocks and of its heads, in place.

    A block has several layers with weights, and stands in a sequence, such as a residual or a
    transformer block; or else beside others of its class. Where a backbone has none, its plain
    sequences of layers are divided.

    Args:
        model: has a `backbone`.
        heads: whether to include the parts that `MethodInterface.recomputed_parts` names.

    Raises:
        ConfigError: the backbone has nothing of all that.
    """
    backbone = getattr(model, "backbone", None)
    blocks, sequences = _parts_of(backbone) if isinstance(backbone, nn.Module) else ([], [])
    if not blocks and not sequences:
        raise ConfigError(
            "SOLVER.ACTIVATION_CHECKPOINTING is True, but the backbone of this "
            f"{type(model).__name__} ({type(backbone).__name__}) has no sequence of blocks or "
            "layers whose activations could be computed again. Set it False; SOLVER.ACCUMULATE "
            "lowers the use of memory, too."
        )
    for block in blocks:
        recompute(block)
    for sequence in sequences:
        recompute_parts(sequence)
    if heads and isinstance(model, MethodInterface):
        for part in model.recomputed_parts:
            recompute(part, "forward_features" if hasattr(part, "forward_features") else "forward")


def _parts_of(backbone: nn.Module) -> tuple[list[nn.Module], list[nn.Sequential]]:
    """Return the blocks, or else the sequences to divide."""
    blocks = list(_in_sequence(backbone)) or list(_beside_others(backbone))
    return blocks, [] if blocks else list(_plain_sequences(backbone))


def _in_sequence(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost blocks that stand in a sequence."""
    in_sequence = isinstance(module, _SEQUENCES)
    for child in module.children():
        if in_sequence and _is_block(child):
            yield child
        else:
            yield from _in_sequence(child)


def _beside_others(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost blocks that have a sibling of their class."""
    classes = Counter(type(child) for child in module.children())
    for child in module.children():
        if classes[type(child)] > 1 and _is_block(child):
            yield child
        else:
            yield from _beside_others(child)


def _is_block(module: nn.Module) -> bool:
    return (
        _layers_with_weights(module) > 1
        and not isinstance(module, (*_SEQUENCES, torch.jit.ScriptModule))
        # A stage of timm's, which has its blocks in a sequence of this name.
        and not isinstance(getattr(module, "blocks", None), _SEQUENCES)
        and "forward" not in module.__dict__
    )


def _plain_sequences(module: nn.Module) -> Iterator[nn.Sequential]:
    """Yield the outermost sequences of at least four layers with weights."""
    if isinstance(module, nn.Sequential) and _layers_with_weights(module) > 3:
        yield module
        return
    for child in module.children():
        yield from _plain_sequences(child)


def _layers_with_weights(module: nn.Module) -> int:
    return sum(any(True for _ in part.parameters(recurse=False)) for part in module.modules())
