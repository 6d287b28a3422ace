"""Paste the objects of one mapped image on another (Ghiasi et al., arXiv 2012.07177, section 3).

Shape letters: H W height and width of the image that is pasted on, C its channels, G its objects,
P pasted objects.
"""

from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor

from ...modeling.gt_masks import with_bitmasks


def paste(
    data: dict[str, Any], taken: dict[str, Any], *, blend: float = 0.0, min_visible: float = 0.0
) -> dict[str, Any]:
    """Paste all objects of a mapped image on another.

    What is below a pasted object leaves the masks of the other objects, and the labels of pixels
    become the pasted object's. Objects that lie outside, because the images differ in size, are not
    pasted; nor are those of which the border leaves less than `min_visible`.

    Args:
        data: the image that is pasted on: `image`, uint8 [C, H, W], `instances` with `gt_classes`,
            `gt_masks` and perhaps `gt_boxes`, and of panoptic labels `sem_seg`, int64 [H, W]. It is
            not changed.
        taken: the image that objects are taken from, likewise, of any height and width. It lies at
            a random place where these are others.
        blend: standard deviation, in pixels, of the Gaussian that softens the borders of pasted
            objects in the image, not in the masks; 0 for none.
        min_visible: an object of which a smaller share of pixels is left is dropped; one without
            pixels always is.

    Returns:
        The dict, with other values under these four names.
    """
    image, masks, areas = _laid_over(data["image"], taken)
    left = masks.flatten(1).sum(1)
    inside = (left > 0) & (left >= min_visible * areas)
    masks, classes = masks[inside], taken["instances"].gt_classes[inside]
    if not len(masks):
        return data
    pasted = {
        **data,
        "image": _composed(data["image"], image, masks.any(0), blend),
        "instances": _joined(with_bitmasks(data["instances"]), masks, classes, min_visible),
    }
    if "sem_seg" in data:
        labels = data["sem_seg"].clone()
        for mask, label in zip(masks, classes):
            labels[mask] = label
        pasted["sem_seg"] = labels
    return pasted


def _laid_over(below: Tensor, taken: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Lay an image over another, [C, H, W], at a random place where their sizes differ.

    Returns:
        The upper image, with the lower one's pixels where it does not reach, [C, H, W]; the masks
        of its objects, bool [P, H, W]; and the areas that these had before, int64 [P].
    """
    image, masks = taken["image"], with_bitmasks(taken["instances"]).gt_masks.tensor
    here, there = [], []
    for side, length in zip(image.shape[1:], below.shape[1:]):
        room = length - side
        offset = int(np.random.randint(min(0, room), max(0, room) + 1))
        first, last = max(0, offset), min(length, offset + side)
        here.append(slice(first, last))
        there.append(slice(first - offset, last - offset))
    above = below.clone()
    above[:, here[0], here[1]] = image[:, there[0], there[1]]
    moved = masks.new_zeros((len(masks), *below.shape[1:]))
    moved[:, here[0], here[1]] = masks[:, there[0], there[1]]
    return above, moved, masks.flatten(1).sum(1)


def _composed(below: Tensor, above: Tensor, covered: Tensor, sigma: float) -> Tensor:
    """Return the upper image where `covered`, bool [H, W], else the lower: uint8 [C, H, W]."""
    if not sigma:
        return torch.where(covered, above, below)
    # It takes a tenth of a second to import, and few runs need it.
    from scipy.ndimage import gaussian_filter

    alpha = torch.from_numpy(gaussian_filter(covered.numpy().astype(np.float32), sigma))
    return (alpha * above + (1 - alpha) * below).round().to(below.dtype)


def _joined(given: Instances, masks: Tensor, classes: Tensor, min_visible: float) -> Instances:
    """Return the objects that are still visible, and after them the pasted ones.

    The boxes of the pasted ones and of those that are partly covered fit their masks.
    """
    before = given.gt_masks.tensor
    after = before & ~masks.any(0)
    area, left = before.flatten(1).sum(1), after.flatten(1).sum(1)
    # Masks that were empty before are there on purpose; see INPUT.EMPTY_SEGMENTS.
    kept = ((left > 0) & (left >= min_visible * area)) | (area == 0)
    joined = Instances(given.image_size)
    joined.gt_classes = torch.cat([given.gt_classes[kept], classes])
    joined.gt_masks = BitMasks(torch.cat([after[kept], masks]))
    if given.has("gt_boxes"):
        boxes = joined.gt_masks.get_bounding_boxes().tensor
        untouched = (left == area)[kept].nonzero()[:, 0]
        boxes[untouched] = given.gt_boxes.tensor[kept][untouched].to(boxes.dtype)
        joined.gt_boxes = Boxes(boxes)
    return joined
