"""Choose a thinner model and larger steps where the time suffices for few iterations only.

A model that is half as wide, with a part of its backbone frozen, takes half the time on a CPU. A
wider one could express more, but would have no time to learn it: docs/results.md has both after the
same minutes.
"""

from .choice import Choice
from .fingerprint import Fingerprint
from .levels import CROWDED
from .machine import Machine
from .sizes import InputSize, speed

# With fewer iterations of the full model, about, the thinner one learns more.
_FEW = 500
# The speed of a CPU with AVX2 alone, as a share of `speed`. Images keep their size there: smaller
# ones in more iterations were no better (docs/results.md).
_AVX2 = 0.5
# configs/benchmarks has 128 channels, configs/quickstart 96 and the grids.
_CHANNELS, _MASK_CHANNELS = 64, 32
_GRIDS = [32, 28, 20, 14, 10]
_SIGMA = 0.4
# Of EfficientNet-Lite0: layers at strides 2 and 4, whose features are those of any picture. To
# train them too takes a seventh of the time of a step.
_SHALLOW = ["conv_stem", "bn1", "blocks.0", "blocks.1"]
RATE = 1.5e-3  # that of configs/quickstart, for 4 images


def is_short(machine: Machine, size: InputSize, minutes: float) -> bool:
    """Return whether the time suffices for few iterations of the full model on this CPU.

    This is an estimate from the number of cores and their kind: what else the machine is doing at
    the moment must not change the model.

    Args:
        machine: what trains.
        size: of the input.
        minutes: of training.
    """
    if machine.gpu:
        return False
    pixels = minutes * 60 * speed(machine) * (_AVX2 if machine.avx2 else 1)
    return pixels < _FEW * size.pixels


def thin_choices(data: Fingerprint, prefix: str) -> list[Choice]:
    """Choose the width of a method with grids, its grids, and what is not trained.

    Args:
        data: the images.
        prefix: of the method's keys: "MODEL.SOLO" or "MODEL.SOLOV2".
    """
    why = "half as wide as the measured recipes: twice the iterations in the same time"
    choices = [
        Choice("MODEL.FPN.OUT_CHANNELS", _CHANNELS, why),
        Choice(f"{prefix}.INSTANCE_CHANNELS", _CHANNELS, why),
    ]
    if prefix == "MODEL.SOLOV2":
        keys = ("MASK_CHANNELS", "NUM_MASKS", "NUM_KERNELS")
        choices += [Choice(f"{prefix}.{key}", _MASK_CHANNELS, why) for key in keys]
    if data.objects_per_image.max() < CROWDED:
        why = "coarser than published, as in the quick start: fewer cells take less time"
        choices.append(Choice(f"{prefix}.NUM_GRIDS", _GRIDS, why))
    why = "more cells learn each object than published (0.2): there is little time"
    choices.append(Choice(f"{prefix}.SIGMA", _SIGMA, why))
    if data.channels == (3,):
        why = "the first layers stay as ImageNet has made them, which saves time"
        choices.append(Choice("MODEL.TIMM.FREEZE", _SHALLOW, why))
    return choices
