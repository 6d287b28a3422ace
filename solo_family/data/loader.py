"""detectron2's training loader, with an order that a resumed run can go on in."""

from typing import Any

from detectron2.config import CfgNode
from detectron2.data import build_detection_train_loader, get_detection_dataset_dicts
from detectron2.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from detectron2.utils import comm
from torch.utils.data import Sampler

from ..errors import ConfigError
from .dataset_mapper import MaskDatasetMapper
from .register import register_in_place
from .sampler import GroupedSampler


def build_train_loader(cfg: CfgNode) -> tuple[Any, GroupedSampler]:
    """Builds the loader of `DATASETS.TRAIN` and the sampler in it, whose place can be set.

    Raises:
        ConfigError: `IMS_PER_BATCH` can't be shared out, or `SAMPLER_TRAIN` is unknown.
    """
    batch_size, rest = divmod(cfg.SOLVER.IMS_PER_BATCH, comm.get_world_size())
    if rest or not batch_size:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}; it must be a multiple of the "
            f"number of processes, {comm.get_world_size()}."
        )
    register_in_place(cfg.DATASETS.TRAIN)
    dataset = get_detection_dataset_dicts(
        cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    )
    sampler = GroupedSampler(
        lambda seed: _stream(cfg, dataset, seed),
        dataset,
        batch_size,
        seed=cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed(),
        grouped=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
    )
    loader = build_detection_train_loader(
        dataset,
        mapper=MaskDatasetMapper(cfg, is_train=True),
        sampler=sampler,
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=False,  # the sampler does it
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    return loader, sampler


def _stream(cfg: CfgNode, dataset: list[dict[str, Any]], seed: int) -> Sampler[int]:
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name == "TrainingSampler":
        return TrainingSampler(len(dataset), seed=seed)
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            dataset, cfg.DATALOADER.REPEAT_THRESHOLD
        )
        return RepeatFactorTrainingSampler(factors, seed=seed)
    if name == "RandomSubsetTrainingSampler":
        return RandomSubsetTrainingSampler(
            len(dataset), cfg.DATALOADER.RANDOM_SUBSET_RATIO, seed_shuffle=seed, seed_subset=seed
        )
    raise ConfigError(
        f"DATALOADER.SAMPLER_TRAIN is {name!r}; allowed: TrainingSampler, "
        "RepeatFactorTrainingSampler, RandomSubsetTrainingSampler."
    )
