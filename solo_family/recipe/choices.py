"""Choose a recipe: pure functions of the data, the machine, and the time."""

from dataclasses import dataclass

from ..config import get_cfg
from ..config.rules import get_key
from ..registry import METHODS
from .bases import Base
from .choice import Choice, value_of
from .fingerprint import Fingerprint
from .levels import grid_choices, slot_choices, window_choices
from .machine import Machine
from .schedule import (
    cache_choices,
    copy_paste_choices,
    detection_choices,
    is_mixed,
    learning_rate,
    loader_choices,
    precision_choices,
    solver_choices,
    worker_choice,
)
from .sizes import InputSize, input_size
from .thin import is_short, thin_choices

# The length in pixels of the input of one pixel of the masks.
_MASK_STRIDE = {"SparseInst": 8, "InstanceFCN": 8}
_USUAL_STRIDE = 4
# Keys of the numbers of maps or queries, and the measured recipes' values.
_SLOTS = {
    "SparseInst": ("MODEL.SPARSE_INST.DECODER.NUM_MASKS", 50),
    "MaskFormer": ("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 30),
}
_GRIDS = ("SOLO", "DecoupledSOLO", "SOLOv2")
_CLIP = {"MaskFormer": 1.0}
_USUAL_CLIP = 10.0


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    Attributes:
        method: the name in `MODEL.META_ARCHITECTURE`.
        train, val: names of datasets; `val` may be "".
        num_val: number of validation images.
        minutes: of training.
        output_dir: of the run.
        task: of the labels: "instance", "semantic" or "panoptic".
        most_val: the most objects of a validation image, which the model must be able to return.
    """

    method: str
    train: str
    val: str
    num_val: int
    minutes: float
    output_dir: str
    task: str = "instance"
    most_val: int = 0


def size_of(data: Fingerprint, machine: Machine, request: Request) -> InputSize:
    """Choose the input's size, which the time per iteration depends on."""
    stride = _MASK_STRIDE.get(request.method, _USUAL_STRIDE)
    return input_size(data, machine, request.minutes, stride)


def choose(
    data: Fingerprint, machine: Machine, request: Request, base: Base, seconds: float
) -> list[Choice]:
    """Choose every line of the recipe.

    Args:
        data: the training images and objects.
        machine: what trains.
        request: what the user asks for.
        base: the config that the recipe inherits from, and the weights.
        seconds: per iteration, at the size that `size_of` chooses.

    Returns:
        The lines, each key once.
    """
    size = size_of(data, machine, request)
    classes = METHODS[request.method].num_classes_key
    is_thin = (
        request.method in _GRIDS
        and not base.is_trained
        and is_short(machine, size, request.minutes)
    )
    solver = solver_choices(
        data,
        size.batch,
        request.minutes,
        seconds,
        num_val=request.num_val * size.tiles,
        clip=_CLIP.get(request.method, _USUAL_CLIP),
        rate=learning_rate(base.is_trained, is_thin),
        mixed=is_mixed(machine),
    )
    most = max(int(data.objects_per_image.max()), request.most_val)
    iterations = value_of("SOLVER.MAX_ITER", solver)
    choices = [
        *base.choices,
        Choice(classes, 0, f"from the dataset, which has {len(data.images_of_class)}"),
        Choice("DATASETS.TRAIN", [request.train], f"{data.num_images} images"),
        Choice("DATASETS.TEST", [request.val] if request.val else [], f"{request.num_val} images"),
        *size.choices,
        *_of_method(data, most, size, request.method, base.is_trained, is_thin),
        Choice("INPUT.RANDOM_FLIP", "horizontal", "as in the measured recipes"),
        *copy_paste_choices(data, iterations, size.batch),
        *solver,
        *precision_choices(machine),
        *detection_choices(most, request.method),
        Choice("TEST.BEST_METRIC", metric_of(request), "its best checkpoint is kept"),
        *_loading(data, machine, request.task),
        # Of windows the files are read, each time.
        *([] if _reads_windows(size) else cache_choices(data, machine)),
        Choice("OUTPUT_DIR", request.output_dir, "the log, the checkpoints and the results"),
    ]
    # A later line about a key replaces an earlier one, at its place.
    return list({choice.key: choice for choice in choices}.values())


def _loading(data: Fingerprint, machine: Machine, task: str) -> list[Choice]:
    """Choose how images are loaded; no sampler counts the classes of label pictures."""
    return loader_choices(data, machine) if task == "instance" else [worker_choice(machine)]


def _of_method(
    data: Fingerprint, most: int, size: InputSize, method: str, is_trained: bool, is_thin: bool
) -> list[Choice]:
    prefix = METHODS[method].num_classes_key.rpartition(".")[0]
    if "NUM_GRIDS" in get_key(get_cfg(), prefix):
        thin = thin_choices(data, prefix) if is_thin else []
        return [*thin, *grid_choices(data, most, size, prefix, is_trained=is_trained)]
    if method in _SLOTS:
        key, usual = _SLOTS[method]
        return slot_choices(most, key, usual, is_trained=is_trained)
    if method == "InstanceFCN":
        return window_choices(data, size, is_trained=is_trained)
    return []  # of another's method nothing was measured


def _reads_windows(size: InputSize) -> bool:
    return any(choice.key == "INPUT.CROP.AROUND_OBJECTS" for choice in size.choices)


def metric_of(request: Request) -> str:
    """Return the metric of the best checkpoint; "" without validation images."""
    if not request.val:
        return ""
    if request.method == "InstanceFCN":
        return "proposals/AR@100"
    metrics = {"semantic": "sem_seg/mIoU", "panoptic": "panoptic_seg/PQ"}
    return metrics.get(request.task, "segm/AP")
