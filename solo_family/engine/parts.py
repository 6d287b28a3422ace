"""Divide a batch into parts whose losses, weighted, add up to those of the batch."""

import re
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import ConfigError, TrainingError

Batch = list[dict[str, Any]]
# What deep supervision adds to the name of a loss.
_LAYER = re.compile(r"_\d+$")


def check_parts(model: nn.Module, count: int) -> None:
    """Check that a model's batches can be divided into parts.

    Args:
        model: without a DDP wrapper.
        count: `SOLVER.ACCUMULATE`.

    Raises:
        ConfigError: the model can't say what the losses of a batch are divided by.
    """
    if count > 1 and not getattr(model, "counts_losses", False):
        raise ConfigError(
            f"SOLVER.ACCUMULATE is {count}, but this {type(model).__name__} can't say beforehand "
            "what the losses of a batch are divided by, so that the gradients of its parts would "
            "not add up to its own. Set SOLVER.ACCUMULATE 1, and SOLVER.IMS_PER_BATCH to as many "
            "images as fit the memory."
        )


def divide(batch: Batch, count: int) -> list[Batch]:
    """Divide a batch into so many parts, as equal as possible; none of them is empty.

    Every image is padded as in the whole batch, because grids divide the padded image.
    """
    if count == 1:
        return [batch]
    sides = zip(*(item["image"].shape[-2:] for item in batch))
    pad_to = tuple(max(lengths) for lengths in sides)
    padded = [{**item, "pad_to": pad_to} for item in batch]
    size = -(-len(batch) // count)
    return [padded[first : first + size] for first in range(0, len(batch), size)]


def part_weights(model: nn.Module, parts: Sequence[Batch]) -> list[dict[str, Tensor]]:
    """Return by what each loss of a part is multiplied, so that the sum is that of the batch.

    A loss is a sum over items, divided by their number. A part divides by the number of its own
    items, which this replaces by the number of the whole batch. Nothing is predicted for that.

    Args:
        model: with or without a DDP wrapper; see `MaskSegmentor.count_losses`.
        parts: of `divide`.
    """
    raw: Any = model.module if isinstance(model, DistributedDataParallel) else model
    counts = [raw.count_losses(part) for part in parts]
    whole = {name: reduce(add, (part[name] for part in counts)).divisor() for name in counts[0]}
    return [
        {name: count.divisor() / whole[name] for name, count in part.items()} for part in counts
    ]


def weighted(losses: dict[str, Tensor], weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the losses of a part, times their weights.

    Raises:
        TrainingError: the model has not said what one of them is divided by.
    """
    names = {name: name if name in weights else _LAYER.sub("", name) for name in losses}
    unknown = [name for name, known in names.items() if known not in weights]
    if unknown:
        raise TrainingError(
            f"SOLVER.ACCUMULATE: the model does not say what its {', '.join(unknown)} is divided "
            "by, so that parts of a batch don't add up to it. Set SOLVER.ACCUMULATE 1, turn this "
            "loss off, or add it to the model's `loss_counts`, as docs/extending.md shows."
        )
    return {name: loss * weights[names[name]] for name, loss in losses.items()}
