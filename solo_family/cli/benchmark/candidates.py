"""Time the network, and its post-processing of a given number of candidates.

This is for SOLO, DecoupledSOLO and SOLOv2: the network's time does not depend on what is in the
image; that of post-processing depends on how many cells predict an object.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn

from ...errors import ConfigError
from ...methods.grid.instances import select_images
from ...methods.grid.model import GridSegmentor
from ...progress import Progress
from .timing import median_seconds


@torch.no_grad()
def candidates_table(
    model: nn.Module, image: Tensor, counts: Sequence[int], *, repeats: int
) -> str:
    """Return a table: candidates, instances, milliseconds of network and post-processing.

    Candidates are cells and classes drawn at random, with random scores above the threshold; their
    masks are the model's own.

    Args:
        model: the model, in evaluation mode.
        image: [C, H, W], 0 to 255.
        counts: numbers of candidates.
        repeats: timed runs of each.

    Raises:
        ConfigError: the model has no grid, or fewer pairs of cell and class than candidates.
    """
    if not isinstance(model, GridSegmentor):
        raise ConfigError(
            f"--candidates: {type(model).__name__} has no grid. It works with SOLO, DecoupledSOLO "
            "and SOLOv2; leave it out."
        )
    images = model.preprocess([image])
    height, width = images.tensor.shape[-2:]
    padded = (height, width)
    sizes = (model.mask_size(padded), padded, images.image_sizes, images.image_sizes)

    def network() -> Any:
        return model.run_head(model.backbone(images.tensor), padded)

    outputs = network()
    cells = sum(level.shape[-1] * level.shape[-2] for level in outputs.category_logits)
    classes = outputs.category_logits[0].shape[1]
    if max(counts) > cells * classes or min(counts) < 0:
        raise ConfigError(
            f"--candidates has {min(counts)} to {max(counts)}; allowed: 0 to {cells * classes}, "
            f"the model's {cells} cells times {classes} classes."
        )
    rows = []
    for count in Progress(counts, leave=False):
        scores = candidate_scores(cells, classes, count, model.selector.score_threshold)
        scores = scores.to(model.device)[None]

        def select(scores: Tensor = scores) -> Any:
            return next(select_images(model.selection(padded), outputs, scores, *sizes))

        found = len(select())
        both: dict[str, Callable[[], Any]] = {"network": network, "select": select}
        seconds = median_seconds(both, model.device, repeats=repeats, warm_up=0)
        rows.append((count, found, 1000 * seconds["network"], 1000 * seconds["select"]))
    return tabulate(
        rows, ("candidates", "instances", "network, ms", "post-processing, ms"), floatfmt=".1f"
    )


def candidate_scores(cells: int, classes: int, count: int, threshold: float) -> Tensor:
    """Return scores, float32 [cells, classes], exactly `count` of which are above a threshold."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.zeros(cells * classes)
    chosen = torch.randperm(cells * classes, generator=generator)[:count]
    scores[chosen] = threshold + (1 - threshold) * (
        0.1 + 0.9 * torch.rand(count, generator=generator)
    )
    return scores.view(cells, classes)
