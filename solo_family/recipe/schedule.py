"""Choose batch, learning rate, iterations, sampler and evaluation."""

from math import ceil

import numpy as np

from ..engine.eta import evaluation_seconds
from .choice import Choice
from .fingerprint import Fingerprint
from .machine import Machine
from .thin import RATE as THIN_RATE

# configs/benchmarks: AdamW for 4 images per iteration, from ImageNet weights.
_LR = 5e-4
_LR_TRAINED = 1e-4  # weights of a whole model change less
_EVALUATIONS = 4
_CHECKPOINTS = 4
# Keys of limits of their own, and their defaults.
_LIMITS = {"InstanceFCN": ("MODEL.INSTANCE_FCN.MAX_PER_IMG", 1000)}
_CHECKPOINT_PERIOD = 5000  # detectron2's, at most
_START_SECONDS = 20.0
# A class is rare that so many times fewer images have than the median class, or than one image in a
# hundred.
_RARE = 4.0
_FREQUENT = 0.01
# So many times each image has to be seen for copy-paste, which gained with 14.7 (docs/results.md).
_OFTEN = 14
# The largest part of the machine's memory that decoded images may take.
_CACHED = 1 / 16


def solver_choices(
    data: Fingerprint,
    batch: int,
    minutes: float,
    seconds: float,
    *,
    num_val: int,
    clip: float,
    rate: tuple[float, str],
    mixed: bool,
) -> list[Choice]:
    """Choose the keys of `SOLVER`, and when to evaluate.

    Args:
        data: the images.
        batch: images per iteration.
        minutes: of training with its evaluations.
        seconds: per iteration.
        num_val: images of an evaluation; 0 for none.
        clip: the greatest norm of the gradients, the measured recipe's.
        rate: result of `learning_rate`.
        mixed: whether the seconds are of iterations in mixed precision.
    """
    evaluation = evaluation_seconds(num_val, batch, seconds, mixed=mixed)
    iterations, evaluations = _iterations(minutes, seconds, evaluation)
    passes = iterations * batch / data.num_images
    warmup = min(100, iterations // 7)
    choices = [
        Choice("SOLVER.IMS_PER_BATCH", batch, "images of an iteration, as the time allows"),
        Choice("SOLVER.OPTIMIZER", "AdamW", "as in the measured recipes"),
        Choice("SOLVER.BASE_LR", rate[0] * batch / 4, f"{rate[1]}, for {batch} images"),
        Choice("SOLVER.BACKBONE_MULTIPLIER", 0.2, "the backbone is pretrained"),
        Choice("SOLVER.WEIGHT_DECAY", 0.05, "as in the measured recipes"),
        *_clipping(clip),
        Choice(
            "SOLVER.MAX_ITER",
            iterations,
            f"{minutes:g} minutes of {seconds:g} s per iteration; {passes:.0f} times each image",
        ),
        Choice("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "half a cosine, down to 0"),
        Choice("SOLVER.WARMUP_ITERS", warmup, "100, or a seventh of a short training"),
        Choice(
            "SOLVER.EMA.ENABLED", False, "evaluation would take twice as long; try it in long runs"
        ),
    ]
    period = ceil(iterations / evaluations) if num_val else 0
    why = f"{evaluations} evaluations" if num_val else "there are no validation images"
    return [
        *choices,
        Choice(
            "SOLVER.CHECKPOINT_PERIOD",
            min(_CHECKPOINT_PERIOD, ceil(iterations / _CHECKPOINTS)),
            "what is lost at most if the machine fails: --resume goes on from the newest",
        ),
        Choice("TEST.EVAL_PERIOD", period, why),
    ]


def learning_rate(is_trained: bool, is_thin: bool = False) -> tuple[float, str]:
    """Return the learning rate for 4 images, and the reason for it.

    Args:
        is_trained: whether weights of a whole model are given.
        is_thin: whether the model is the thinner one for few iterations.
    """
    if is_trained:
        return _LR_TRAINED, "the weights are trained already"
    if is_thin:
        return THIN_RATE, "the quick start's rate: few iterations"
    return _LR, "the measured recipes' rate"


def _clipping(value: float) -> list[Choice]:
    key = "SOLVER.CLIP_GRADIENTS"
    return [
        Choice(f"{key}.ENABLED", True, "no single batch may spoil the weights"),
        Choice(f"{key}.CLIP_TYPE", "full_model", "the norm of all gradients"),
        Choice(f"{key}.CLIP_VALUE", value, "as in the measured recipes"),
    ]


def _iterations(minutes: float, seconds: float, evaluation: float) -> tuple[int, int]:
    """Return how many iterations and evaluations the time suffices for.

    Evaluations may take a fifth of the time; there is always one if there are images for it.
    """
    available = max(60 * minutes / 2, 60 * minutes - _START_SECONDS)
    evaluations = 1
    if evaluation:
        evaluations = max(1, min(_EVALUATIONS, int(available / 5 / evaluation)))
    rest = max(available / 2, available - evaluations * evaluation)
    iterations = max(10, int(rest / seconds))
    return iterations, min(evaluations, iterations)


def is_mixed(machine: Machine) -> bool:
    """Return whether a recipe is in mixed precision: on CPUs for which that is faster."""
    return machine.bfloat16 and not machine.gpu


def precision_choices(machine: Machine) -> list[Choice]:
    """Choose what a CPU computes in, and in which order; a GPU keeps what is published."""
    if machine.gpu:
        return []
    order = Choice("SOLVER.CHANNELS_LAST", True, "the order in which a CPU convolves faster")
    if not is_mixed(machine):
        return [order]
    why = "this CPU multiplies faster in bfloat16; weights and losses stay in float32"
    return [
        Choice("SOLVER.AMP.ENABLED", True, why),
        Choice("SOLVER.AMP.PRECISION", "bfloat16", "as above"),
        order,
    ]


def loader_choices(data: Fingerprint, machine: Machine) -> list[Choice]:
    """Choose the sampler, and how images are loaded."""
    choices = [worker_choice(machine), *sampler_choices(data)]
    empty = int((data.objects_per_image == 0).sum())
    if empty and 2 * empty <= data.num_images:
        why = f"{empty} images without objects show what is none"
        choices.append(Choice("DATALOADER.FILTER_EMPTY_ANNOTATIONS", False, why))
    return choices


def worker_choice(machine: Machine) -> Choice:
    """Choose how many processes load images."""
    workers = min(8 if machine.gpu else 2, machine.cores)
    return Choice("DATALOADER.NUM_WORKERS", workers, "processes that load images, from the cores")


def cache_choices(data: Fingerprint, machine: Machine) -> list[Choice]:
    """Keep decoded images in memory if all of them take a small part of it."""
    pixels = sum(height * width for height, width in data.image_sizes)
    # Grey images are read as colours.
    megabytes = -(-pixels * max(3, *data.channels) // 10**6)
    if megabytes * 10**6 > _CACHED * machine.memory * 2**30:
        return []
    why = f"all images, decoded once, fit in {megabytes} MB of memory"
    return [Choice("DATALOADER.CACHE_BYTES", megabytes * 10**6, why)]


def sampler_choices(data: Fingerprint) -> list[Choice]:
    """Repeat the images of rare classes (LVIS, arXiv 1908.03195) if there are any."""
    counts = np.array([count for count in data.images_of_class.values() if count], np.float64)
    usual = max(float(np.median(counts)), _FREQUENT * data.num_images)
    rare = int((counts * _RARE <= usual).sum())
    if not rare:
        return []
    threshold = round(usual / data.num_images, 6)
    return [
        Choice(
            "DATALOADER.SAMPLER_TRAIN",
            "RepeatFactorTrainingSampler",
            f"{rare} classes have at most a quarter of the usual number of images",
        ),
        Choice(
            "DATALOADER.REPEAT_THRESHOLD",
            threshold,
            "below this share of the images",
        ),
    ]


def copy_paste_choices(data: Fingerprint, iterations: int, batch: int) -> list[Choice]:
    """Paste objects of other images (arXiv 2012.07177) where each image is seen often.

    Args:
        data: the images.
        iterations: of the training.
        batch: images per iteration.
    """
    passes = iterations * batch / data.num_images
    if passes < _OFTEN or data.num_images == 1:
        return []
    why = f"each image is seen {passes:.0f} times; PennFudan gains by it (docs/results.md)"
    return [
        Choice("INPUT.COPY_PASTE.ENABLED", True, why),
        Choice("INPUT.COPY_PASTE.PROB", 0.5, "the other half of the images stay as they are"),
    ]


def detection_choices(most: int, method: str) -> list[Choice]:
    """Choose how many instances an image may have in results.

    Args:
        most: the most objects of an image, of training or validation.
        method: the name in `MODEL.META_ARCHITECTURE`.
    """
    key, usual = _LIMITS.get(method, ("TEST.DETECTIONS_PER_IMAGE", 100))
    count = max(usual, ceil(1.5 * most / 100) * 100)
    return [Choice(key, count, f"an image has up to {most} objects")]
