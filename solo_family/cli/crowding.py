"""How crowded a dataset is for a model: objects per image, in one cell, or of hardly a pixel.

G objects, I images.
"""

from collections import Counter
from collections.abc import Iterator

import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from torch import Tensor

from ..config.caps import too_many_objects
from ..config.setup import get_cfg
from ..data.checks.dataset_check import DatasetCheck
from ..methods.grid.assigner import GridAssigner
from ..methods.grid.config import grid_keys
from ..registry import METHODS
from .object_sizes import training_sizes

# Of every published config: masks are predicted at this stride.
_MASK_STRIDE = 4
_DIVISIBILITY = 32
# How much finer grids are tried, and the share of objects that may still share a cell.
_FINER = (1.5, 2, 3, 4)
_FEW = 0.01
# How much longer images may be at inference than in training without a word on tiles.
_LONGER = 1.5


def describe_crowding(check: DatasetCheck, cfg: CfgNode | None) -> str:
    """Return lines on how crowded a dataset is, and on the keys to change.

    Args:
        check: of a dataset with objects.
        cfg: of a model; None for the objects per image alone, and the limit that any config has.
    """
    counts = Counter(check.images)
    lines = [_per_image(counts, check.num_images)]
    if cfg is None:
        lines.append(_beyond_default(counts))
    else:
        lines += _small(check, cfg)
        has_grid = grid_keys(cfg, cfg.MODEL.META_ARCHITECTURE) is not None
        if has_grid and not cfg.INPUT.CROP.AROUND_OBJECTS:  # windows lie anywhere on the cells
            lines += _shared(check, cfg)
        lines.append(too_many_objects(cfg, counts.items()))
        lines += _larger_than_trained(check, cfg)
    return "\n".join(line for line in lines if line)


def _per_image(counts: Counter[str], num_images: int) -> str:
    empty = [0] * (num_images - len(counts))
    per_image = torch.tensor([*empty, *counts.values()]).sort().values
    # The least number that so many percent of the images don't exceed.
    median, most_have = (per_image[-(-len(per_image) * share // 100) - 1] for share in (50, 99))
    return f"objects per image: median {median}, 99 % {most_have}, most {per_image[-1]}"


def _beyond_default(counts: Counter[str]) -> str:
    """Return a line on images with more objects than models return by default, or ""."""
    most = get_cfg().TEST.DETECTIONS_PER_IMAGE
    beyond = sum(count > most for count in counts.values())
    if not beyond:
        return ""
    return (
        f"images with more than {most} objects: {beyond}. A model returns no more of an image "
        "until TEST.DETECTIONS_PER_IMAGE is raised. init raises it, and check-data --config-file "
        "FILE names all keys that limit a model."
    )


def _small(check: DatasetCheck, cfg: CfgNode) -> Iterator[str]:
    """Yield how many objects are less than a pixel of the masks, and what enlarges them."""
    areas = torch.tensor(check.areas, dtype=torch.float32)
    given = torch.tensor(check.image_sizes, dtype=torch.float32).reshape(-1, 2)
    for title, sizes in training_sizes(cfg, check.image_sizes).items():
        sides = (areas * (sizes / given).prod(1)).sqrt()
        count = int((sides < _MASK_STRIDE).sum())
        yield f"{title}: {count} objects are smaller than the mask stride, {_MASK_STRIDE} pixels"
    if count:  # at the largest size
        edges = [2 * max(cfg.INPUT.MIN_SIZE_TRAIN), 2 * cfg.INPUT.MAX_SIZE_TRAIN]
        if edges[0]:
            yield (
                "  Enlarge them: with INPUT.MIN_SIZE_TRAIN and MIN_SIZE_TEST "
                f"{edges[0]}, MAX_SIZE_TRAIN and MAX_SIZE_TEST {edges[1]} "
                f"{int((2 * sides < _MASK_STRIDE).sum())} are."
            )
    yield from _filtered(cfg, sides)


def _larger_than_trained(check: DatasetCheck, cfg: CfgNode) -> Iterator[str]:
    """Yield how many images are much larger at inference than any in training, and tiles for them.

    A model has not learnt what is far from all borders; what it finds there was measured to be
    next to nothing (docs/crowds.md).
    """
    sizes = dict(zip(check.images, check.image_sizes))
    if cfg.TEST.TILE.SIZE or cfg.INPUT.LSJ.ENABLED or not sizes:
        return
    edge, longest = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    tested = [
        max(ResizeShortestEdge.get_output_shape(*size, edge, longest) if edge else size)
        for size in sizes.values()
    ]
    window = tuple(cfg.INPUT.CROP.AROUND_OBJECTS)
    seen = training_sizes(cfg, [window] if window else list(sizes.values()))
    trained = int(max(sizes.max() for sizes in seen.values()))
    count = sum(side > _LONGER * trained for side in tested)
    if count:
        boxes = torch.tensor(check.boxes).reshape(-1, 4)
        lengths = (boxes[:, 2:] - boxes[:, :2]).amax(1)
        shrunk = max(max(size) / side for size, side in zip(sizes.values(), tested))
        tile = max(64, max(window) if window else round(trained * shrunk))
        overlap = min(tile // 2, round(float(lengths.quantile(0.99))))
        yield (
            f"{count} images have {max(tested)} pixels on their longer side at inference, those of "
            f"training {trained}: predict by tiles, TEST.TILE.SIZE {tile} and TEST.TILE.OVERLAP "
            f"{overlap}"
        )


def _filtered(cfg: CfgNode, sides: Tensor) -> Iterator[str]:
    """Yield how many objects a grid's area filter may drop: those of few pixels of a mask."""
    keys = grid_keys(cfg, cfg.MODEL.META_ARCHITECTURE)
    if keys is None or not keys.AREA_FILTER:
        return
    pixels = min(keys.FPN_INSTANCE_STRIDES)
    count = int(((sides / _MASK_STRIDE) ** 2 <= pixels).sum())
    if count:
        key = f"{_prefix(cfg)}.AREA_FILTER"
        yield f"  {key} drops masks of {pixels} pixels or fewer, {count} of these: set it False."


def _shared(check: DatasetCheck, cfg: CfgNode) -> Iterator[str]:
    """Yield how many objects have no cell for themselves, and grids in which fewer do."""
    keys = grid_keys(cfg, cfg.MODEL.META_ARCHITECTURE)
    assert keys is not None
    (title, sizes) = list(training_sizes(cfg, check.image_sizes).items())[-1]
    count = count_shared(check, sizes, keys, keys.NUM_GRIDS)
    yield (
        f"{title}: {count} objects share the cell of their centre with another one on every level "
        "that they are learnt on: those can't all be learnt"
    )
    if count <= _FEW * len(check.boxes):
        return
    for factor in _FINER:
        grids = [round(factor * side) for side in keys.NUM_GRIDS]
        fewer = count_shared(check, sizes, keys, grids)
        if fewer <= _FEW * len(check.boxes):
            break
    yield f"  Finer grids: with {_prefix(cfg)}.NUM_GRIDS {grids} {fewer} do."


def count_shared(check: DatasetCheck, sizes: Tensor, keys: CfgNode, grids: list[int]) -> int:
    """Return how many objects share their cell on all their levels, by their boxes' centres.

    Args:
        check: of the dataset.
        sizes: float32 [G, 2], the size of each object's image in training.
        keys: of the method's grid.
        grids: S of each level.
    """
    given = torch.tensor(check.image_sizes, dtype=torch.float32).reshape(-1, 2)
    boxes = torch.tensor(check.boxes, dtype=torch.float32).reshape(-1, 4)
    boxes = boxes * (sizes / given).flip(1).repeat(1, 2)
    centres = (boxes[:, :2] + boxes[:, 2:]).flip(1) / 2
    padded = (sizes / _DIVISIBILITY).ceil() * _DIVISIBILITY
    reference = keys.get("GRID_REFERENCE_SIZE", ())
    spans = torch.tensor(reference).expand_as(padded) if reference else padded
    numbers = {name: number for number, name in enumerate(dict.fromkeys(check.images))}
    images = torch.tensor([numbers[name] for name in check.images])
    on_level = GridAssigner.from_config(keys, num_classes=0).in_scale_range(boxes)
    alone = torch.zeros(len(boxes), dtype=torch.bool)
    for here, side in zip(on_level, grids):
        places = torch.cat([images[:, None], (centres / spans * side).long()], 1)[here]
        _, cells, counts = places.unique(dim=0, return_inverse=True, return_counts=True)
        alone[here] |= counts[cells] == 1
    return int((on_level.any(0) & ~alone).sum())


def _prefix(cfg: CfgNode) -> str:
    """Return the node of the method's keys, for instance "MODEL.SOLOV2"."""
    return METHODS[cfg.MODEL.META_ARCHITECTURE].num_classes_key.rpartition(".")[0]
