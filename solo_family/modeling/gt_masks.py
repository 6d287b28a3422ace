"""Downsample ground-truth masks to the resolution of the predictions.

G ground-truth masks, h w of the image, H W of the network's padded input.
"""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.structures import BitMasks, Instances
from torch import Tensor

from ..errors import DataError

_PIXELS_AT_ONCE = 2**22


def downsample_masks(images: Sequence[Tensor], padded_size: tuple[int, int], stride: int) -> Tensor:
    """Reduce masks as SOLO's official code does: with `cv2.resize`, bilinear, on uint8.

    At an exact even ratio that samples the central 2x2 pixels of every block of `stride` x `stride`
    and, by rounding, sets the result where at least two of the four are set.

    Args:
        images: the masks of each image, bool [g, h, w]; beyond (h, w) is padding, which is empty.
        padded_size: (H, W), multiples of `stride`.
        stride: even.

    Returns:
        bool [G, H / stride, W / stride], those of all images one after another.
    """
    return _count_central(images, padded_size, stride) >= 2


def downsample_soft_masks(
    images: Sequence[Tensor], padded_size: tuple[int, int], stride: int
) -> Tensor:
    """Reduce masks as SparseInst's official code does: bilinear, without rounding.

    Args:
        images: see `downsample_masks`.
        padded_size: see `downsample_masks`.
        stride: see `downsample_masks`.

    Returns:
        float32 [G, H / stride, W / stride]: 0, 0.25, 0.5, 0.75 or 1.
    """
    return _count_central(images, padded_size, stride).float() / 4


def _count_central(images: Sequence[Tensor], padded_size: tuple[int, int], stride: int) -> Tensor:
    """Count the pixels set among the central four of every block: uint8, 0 to 4."""
    shape = (sum(map(len, images)), padded_size[0] // stride, padded_size[1] // stride)
    counts = images[0].new_zeros(shape, dtype=torch.uint8)
    for count, masks in zip(counts.split([len(masks) for masks in images]), images):
        for dy in (stride // 2 - 1, stride // 2):
            for dx in (stride // 2 - 1, stride // 2):
                samples = masks[:, dy::stride, dx::stride]
                count[:, : samples.shape[1], : samples.shape[2]].add_(samples)
    return counts


def mask_centers(images: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the area and the centre of mass of every mask.

    Args:
        images: the masks of each image, bool [g, h, w].

    Returns:
        area: int64 [G], in pixels, those of all images one after another.
        center_y, center_x: float32 [G], in pixels, 0 being the centre of the first pixel. 0 for a
            mask without pixels.
    """
    rows, columns = (_sums(images, axis) for axis in (1, 2))
    area = rows.sum(1)
    # Integer sums are exact for any size, whatever the order; one division rounds once.
    divisor = area.clamp(min=1).double()
    center_y, center_x = (
        (sums * torch.arange(sums.shape[1], device=sums.device)).sum(1) / divisor
        for sums in (rows, columns)
    )
    return area, center_y.float(), center_x.float()


def _sums(images: Sequence[Tensor], axis: int) -> Tensor:
    """Return how many pixels each mask has in every row (axis 1) or column (2): int64 [G, ...]."""
    shape = (sum(map(len, images)), max(masks.shape[axis] for masks in images))
    sums = images[0].new_zeros(shape, dtype=torch.int64)
    for part, masks in zip(sums.split([len(masks) for masks in images]), images):
        # On a CPU a sum of bools copies them to int64, so that crowded images are processed in
        # parts.
        some = _PIXELS_AT_ONCE // max(1, masks[:1].numel()) if masks.device.type == "cpu" else 2**30
        for sums_of_some, some_masks in zip(part.split(max(1, some)), masks.split(max(1, some))):
            sums_of_some[:, : masks.shape[axis]] = some_masks.sum(3 - axis)
    return sums


def truth_of(item: dict[str, Any]) -> Instances:
    """Return the ground truth of a training input.

    Raises:
        DataError: there is none.
    """
    if "instances" not in item:
        raise DataError(
            f"A training input has {', '.join(item)}, but no 'instances', which the model needs in "
            "training mode. To predict, call model.eval() first. detectron2's own mapper makes "
            "none of semantic or panoptic labels: to train, give the loader the mapper of "
            "solo_family.data.loading.mappers.build_train_mapper(cfg, dataset)."
        )
    return item["instances"]


def boxes_of(instances: Instances) -> Tensor:
    """Return the boxes of objects, [G, 4], x0 y0 x1 y1; without `gt_boxes` those of the masks."""
    if instances.has("gt_boxes"):
        return instances.gt_boxes.tensor
    return instances.gt_masks.get_bounding_boxes().tensor.to(instances.gt_masks.device)


def with_bitmasks(instances: Instances) -> Instances:
    """Return instances whose `gt_masks` are BitMasks, and which have `gt_classes`.

    They are made from polygons, or a tensor [G, h, w] as the official MaskFormer's mappers give, or
    empty without objects.

    Raises:
        DataError: there are objects without masks or classes.
    """
    if not instances.has("gt_classes"):
        instances = _classed(instances)
    masks = getattr(instances, "gt_masks", None)
    if isinstance(masks, BitMasks):
        return instances
    height, width = instances.image_size
    if masks is None:
        if len(instances):
            raise DataError(
                "A training image has objects without masks: every object needs a 'segmentation'. "
                "If it has one, the mapper has left it out: detectron2's own needs MODEL.MASK_ON "
                "True and, for RLE, INPUT.MASK_FORMAT bitmask."
            )
        masks = BitMasks(torch.zeros((0, height, width), dtype=torch.bool))
    elif isinstance(masks, Tensor):
        masks = BitMasks(masks.bool())
    else:
        masks = BitMasks.from_polygon_masks(masks, height, width)
    result = Instances((height, width), **instances.get_fields())
    result.set("gt_masks", masks)
    return result


def _classed(instances: Instances) -> Instances:
    fields = instances.get_fields()
    if fields and len(instances):  # without any field the length is unknown
        raise DataError(
            f"The instances of a training image have {', '.join(fields)}, but no gt_classes. Set "
            "gt_classes, a class for each object, int64, counted from 0."
        )
    result = Instances(instances.image_size, **fields)
    result.set("gt_classes", torch.zeros(0, dtype=torch.int64))
    return result
