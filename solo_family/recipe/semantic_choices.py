"""Choose a recipe for semantic segmentation: pure functions of the data, the machine, the time."""

from math import ceil

import numpy as np

from ..engine.eta import evaluation_seconds
from ..registry import METHODS
from .bases import Base
from .choice import Choice
from .choices import Request, metric_of
from .crop_size import crop_size
from .label_fingerprint import LabelFingerprint
from .machine import Machine
from .schedule import (
    cache_choices,
    is_mixed,
    learning_rate,
    precision_choices,
    solver_choices,
    worker_choice,
)
from .sizes import BATCH

# configs/benchmarks/Base-CamVid.yaml. So many classes at most have a query each.
_QUERIES = 30
_CLIP = 1.0
# The metrics of a picture of CamVid, 360 x 480, take 0.09 s of a core.
_SCORING_SECONDS = 0.09 / (360 * 480)
# Label pictures of more classes have 16 bits, and 255 is a class.
_BYTE = 255


def choose_semantic(
    data: LabelFingerprint, machine: Machine, request: Request, base: Base, seconds: float
) -> list[Choice]:
    """Choose every line of the recipe.

    Args:
        data: the training images and their labels.
        machine: what trains.
        request: what the user asks for.
        base: the config that the recipe inherits from, and the weights.
        seconds: per iteration.

    Returns:
        The lines, each key once.
    """
    size = crop_size(data, machine, request.minutes)
    count = len(data.pixels_of_class)
    key = METHODS[request.method].num_classes_key
    choices = [
        *base.choices,
        Choice(key, 0, f"from the dataset, which has {count}"),
        Choice("DATASETS.TRAIN", [request.train], f"{data.num_images} images"),
        Choice("DATASETS.TEST", [request.val] if request.val else [], f"{request.num_val} images"),
        *size.choices,
        *([] if base.is_trained else _model_choices(data)),
        Choice("INPUT.RANDOM_FLIP", "horizontal", "as in the measured recipe"),
        *solver_choices(
            data,
            BATCH,
            request.minutes,
            seconds,
            num_val=ceil(request.num_val * (size.evaluated + _scored(data, machine, seconds))),
            clip=_CLIP,
            rate=learning_rate(base.is_trained),
            mixed=is_mixed(machine),
        ),
        *precision_choices(machine),
        Choice("TEST.BEST_METRIC", metric_of(request), "its best checkpoint is kept"),
        worker_choice(machine),
        # Of windows the files are read, each time.
        *([] if size.window else cache_choices(data, machine)),
        Choice("OUTPUT_DIR", request.output_dir, "the log, the checkpoints and the results"),
    ]
    if count > _BYTE:
        why = f"label 255 is one of {count} classes"
        choices.append(Choice("MODEL.SEM_SEG_HEAD.IGNORE_VALUE", 65535, why))
    # A later line about a key replaces an earlier one, at its place.
    return list({choice.key: choice for choice in choices}.values())


def _scored(data: LabelFingerprint, machine: Machine, seconds: float) -> float:
    """Return in the inference of how many crops' time the metrics of the median image are computed.

    Args:
        data: what the images are like.
        machine: what trains.
        seconds: of an iteration.
    """
    inference = evaluation_seconds(1, BATCH, seconds, mixed=is_mixed(machine))
    pixels = float(np.median([height * width for height, width in data.image_sizes]))
    return pixels * _SCORING_SECONDS / inference


def _model_choices(data: LabelFingerprint) -> list[Choice]:
    """Choose what weights of a whole model have decided already: queries and colours."""
    colours = Choice("INPUT.COLOR_AUG_SSD", True, "random colours, as in the measured recipe")
    return [*_query_choices(data), colours]


def _query_choices(data: LabelFingerprint) -> list[Choice]:
    """Choose what the queries learn: each one class (arXiv 2107.06278, section 4.4), or any."""
    prefix = "MODEL.MASK_FORMER"
    count = len(data.pixels_of_class)
    if count <= _QUERIES:
        why = "query k learns class k, for which fewer iterations suffice (docs/results.md)"
        return [
            Choice(f"{prefix}.MATCHING", "fixed", why),
            Choice(f"{prefix}.NUM_OBJECT_QUERIES", count, "one for each class"),
            Choice(f"{prefix}.DICE_WEIGHT", 5.0, "small regions count for more, and CamVid gains"),
        ]
    most = int(data.objects_per_image.max())
    count = max(_QUERIES, ceil(1.5 * most / 10) * 10)
    why = f"each finds one class, and an image has up to {most}"
    return [Choice(f"{prefix}.NUM_OBJECT_QUERIES", count, why)]
