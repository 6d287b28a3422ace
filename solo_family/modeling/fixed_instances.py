"""Select instances with sizes that do not depend on the image, for exported graphs.

N candidates, n instances, h w of the masks.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..ops.matrix_nms_torch import matrix_nms_plain


class MaskNMS(Protocol):
    """The parameters of matrix NMS that a selector has."""

    @property
    def mask_threshold(self) -> float:
        """Probability above which a pixel is in a mask."""
        ...

    @property
    def nms_kernel(self) -> str:
        """The kernel; see `matrix_nms`."""
        ...

    @property
    def nms_sigma(self) -> float:
        """Strength of the Gaussian kernel; see `matrix_nms`."""
        ...

    @property
    def class_agnostic(self) -> bool:
        """Whether masks of different classes decay each other, too."""
        ...


class FixedInstances(NamedTuple):
    """The best n instances of one image; if there are fewer, the last ones have the score 0.

    Attributes:
        scores: float32 [n], descending.
        classes: int64 [n].
        masks: float32 [n, h, w], probabilities.
        candidates: int64 [], how many were above the threshold. If they are more than N, those that
            scored less were not considered.
    """

    scores: Tensor
    classes: Tensor
    masks: Tensor
    candidates: Tensor


def stack_fixed(images: Sequence[tuple[Tensor, ...]], names: Sequence[str]) -> dict[str, Tensor]:
    """Stack the outputs of several images by name, with the images as first dimension."""
    return {name: torch.stack(parts) for name, parts in zip(names, zip(*images))}


def measure_fixed(masks: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return areas and maskness, the mean probability inside: float32 [N] of masks [N, h, w]."""
    inside = (masks > threshold).float()
    area = inside.sum((1, 2))
    return area, (masks * inside).sum((1, 2)) / area.clamp(min=1)


def decay_fixed(
    selector: MaskNMS, masks: Tensor, classes: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the order after matrix NMS and the decayed scores, of N masks; see `matrix_nms`."""
    return matrix_nms_plain(
        masks > selector.mask_threshold,
        classes,
        scores,
        selector.nms_kernel,
        selector.nms_sigma,
        selector.class_agnostic,
    )
