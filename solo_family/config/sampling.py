"""Which of detectron2's samplers orders the training images, and the keys that each reads."""

from typing import Any

from detectron2.config import CfgNode

from ..errors import ConfigError
from .rules import as_lists, get_key

_REPEAT = ("DATALOADER.REPEAT_THRESHOLD", "DATALOADER.REPEAT_SQRT")
_SUBSET = ("DATALOADER.RANDOM_SUBSET_RATIO",)
_WEIGHTS = ("DATASETS.TRAIN_REPEAT_FACTOR",)
_REPEATING = "RepeatFactorTrainingSampler"
# What each reads beside the images.
SAMPLERS: dict[str, tuple[str, ...]] = {
    "TrainingSampler": (),
    "RandomSubsetTrainingSampler": _SUBSET,
    _REPEATING: _REPEAT,
    "WeightedTrainingSampler": _WEIGHTS,
    "WeightedCategoryTrainingSampler": (*_WEIGHTS, *_REPEAT),
}
# With these values the keys do nothing; they are the defaults.
NEUTRAL: dict[str, Any] = {
    "DATALOADER.REPEAT_THRESHOLD": 0.0,
    "DATALOADER.REPEAT_SQRT": True,
    "DATALOADER.RANDOM_SUBSET_RATIO": 1.0,
    "DATASETS.TRAIN_REPEAT_FACTOR": [],
}


def add_sampling_config(cfg: CfgNode) -> None:
    """Add the keys that detectron2's samplers read, but that it gives no defaults, in place.

    Version 0.6 of detectron2 has none for `REPEAT_SQRT`, either.
    """
    for key in NEUTRAL:
        section, name = key.split(".")
        cfg[section].setdefault(name, NEUTRAL[key])


def check_sampling(cfg: CfgNode) -> None:
    """Check `DATALOADER.SAMPLER_TRAIN` and its keys.

    Raises:
        ConfigError: the sampler is unknown, a key has a value that can't work, or that this sampler
            does not read.
    """
    sampler = cfg.DATALOADER.SAMPLER_TRAIN
    if sampler not in SAMPLERS:
        others = ", ".join(name for name in SAMPLERS if name != _REPEATING)
        raise ConfigError(
            f"DATALOADER.SAMPLER_TRAIN is {sampler!r}; allowed: {others}, and {_REPEATING} with "
            "DATALOADER.REPEAT_THRESHOLD above 0."
        )
    for key, neutral in NEUTRAL.items():
        value = get_key(cfg, key)
        if key not in SAMPLERS[sampler] and as_lists(value) != neutral:
            readers = [name for name, keys in SAMPLERS.items() if key in keys]
            raise ConfigError(
                f"{key} is {value!r}, but the sampler {sampler} does not read it. Set "
                f"DATALOADER.SAMPLER_TRAIN {' or '.join(readers)}, or leave {key} at {neutral!r}."
            )
    if sampler == _REPEATING and cfg.DATALOADER.REPEAT_THRESHOLD <= 0:
        raise ConfigError(
            f"DATALOADER.REPEAT_THRESHOLD is {cfg.DATALOADER.REPEAT_THRESHOLD}, with which "
            f"{_REPEATING} repeats no image. Set the share of images below which a "
            "class is rare, for instance 0.001, or DATALOADER.SAMPLER_TRAIN TrainingSampler."
        )
    if not 0 < cfg.DATALOADER.RANDOM_SUBSET_RATIO <= 1:
        raise ConfigError(
            f"DATALOADER.RANDOM_SUBSET_RATIO is {cfg.DATALOADER.RANDOM_SUBSET_RATIO}; it must be "
            "above 0 and at most 1."
        )
    _check_weights(cfg)


def _check_weights(cfg: CfgNode) -> None:
    given = cfg.DATASETS.TRAIN_REPEAT_FACTOR
    names = tuple(cfg.DATASETS.TRAIN)
    for pair in given:
        fits = isinstance(pair, list | tuple) and len(pair) == 2 and pair[0] in names
        if not fits or not isinstance(pair[1], int | float) or not 0 < pair[1] < float("inf"):
            raise ConfigError(
                f"DATASETS.TRAIN_REPEAT_FACTOR has {pair!r}; pairs of a name of DATASETS.TRAIN "
                f"({', '.join(names) or 'which is empty'}) and how often its images are seen, a "
                "number above 0, are needed: [('NAME', 2.0)]. Datasets that it leaves out have 1."
            )
