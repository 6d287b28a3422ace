"""detectron2's samplers as endless streams of image indices, each a function of one seed.

What these samplers give when they are iterated is one process's share of such a stream.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from torch import Tensor

from ...config.sampling import check_sampling
from ...errors import ConfigError

Records = Sequence[dict[str, Any]]
Stream = Callable[[int], Iterable[int]]


def stream_maker(cfg: CfgNode, datasets: Mapping[str, Records]) -> Stream:
    """Return what makes the stream of a seed: `DATALOADER.SAMPLER_TRAIN` with its keys.

    Args:
        cfg: the configuration.
        datasets: detectron2's dicts, by the names of `DATASETS.TRAIN`; indices count through them.

    Raises:
        ConfigError: see `check_sampling`; or the images don't suffice for the keys.
    """
    check_sampling(cfg)
    name = cfg.DATALOADER.SAMPLER_TRAIN
    size = sum(map(len, datasets.values()))
    if name == "TrainingSampler":
        return partial(_shuffled, size)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.RANDOM_SUBSET_RATIO
        if int(size * ratio) < 1:
            raise ConfigError(
                f"DATALOADER.RANDOM_SUBSET_RATIO is {ratio}, which of {size} images leaves none. "
                f"Set at least {1 / size:.2g}."
            )
        return partial(_subset, size, ratio)
    if name == "RepeatFactorTrainingSampler":
        return partial(_repeated, _by_rarity(cfg, [r for rs in datasets.values() for r in rs]))
    factors = _by_dataset(cfg, datasets)
    if name == "WeightedCategoryTrainingSampler":
        factors = factors * torch.cat([_by_rarity(cfg, records) for records in datasets.values()])
        factors = factors / factors.min()
    elif factors.sum() < 1:
        raise ConfigError(
            f"DATASETS.TRAIN_REPEAT_FACTOR leaves less than one image of {size} for a pass over "
            "the data. Set larger numbers: what counts is their ratio."
        )
    return partial(_repeated, factors)


def _by_dataset(cfg: CfgNode, datasets: Mapping[str, Records]) -> Tensor:
    """Return how often each image is seen, float32, by `DATASETS.TRAIN_REPEAT_FACTOR`."""
    weights = {name: float(weight) for name, weight in cfg.DATASETS.TRAIN_REPEAT_FACTOR}
    return torch.tensor([weights.get(name, 1.0) for name, rs in datasets.items() for _ in rs])


def _by_rarity(cfg: CfgNode, records: Records) -> Tensor:
    """Return how often each image is seen, float32, by its rarest class (LVIS, appendix B.2)."""
    if records and "annotations" not in records[0]:
        raise ConfigError(
            f"DATALOADER.SAMPLER_TRAIN is {cfg.DATALOADER.SAMPLER_TRAIN}, which counts the classes "
            "of instances, but these labels are pictures. Set DATALOADER.SAMPLER_TRAIN "
            "TrainingSampler, and DATALOADER.REPEAT_THRESHOLD 0.0."
        )
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
    if cfg.DATALOADER.REPEAT_SQRT:
        return factors(records, cfg.DATALOADER.REPEAT_THRESHOLD)
    if "sqrt" not in signature(factors).parameters:
        raise ConfigError(
            "DATALOADER.REPEAT_SQRT is False, which this version of detectron2 can't do. Leave it "
            "at True, or install a version after 0.6."
        )
    return factors(records, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=False)


def _shuffled(size: int, seed: int) -> Iterable[int]:
    return TrainingSampler(size, seed=seed)._infinite_indices()


def _subset(size: int, ratio: float, seed: int) -> Iterable[int]:
    sampler = RandomSubsetTrainingSampler(size, ratio, seed_shuffle=seed, seed_subset=seed)
    return sampler._infinite_indices()


def _repeated(factors: Tensor, seed: int) -> Iterable[int]:
    return RepeatFactorTrainingSampler(factors, seed=seed)._infinite_indices()
