"""Select instances with sizes that do not depend on the image, for exported graphs.

B images, N candidates, n instances, h w of the masks.
"""

from typing import NamedTuple, Protocol

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
    """The best n instances of every image; if there are fewer, the last ones have the score 0.

    Attributes:
        scores: float32 [B, n], descending.
        classes: int64 [B, n].
        masks: float32 [B, n, h, w], probabilities.
        candidates: int64 [B], how many were above the threshold. If they are more than N, those
            that scored less were not considered.
    """

    scores: Tensor
    classes: Tensor
    masks: Tensor
    candidates: Tensor


def measure_fixed(masks: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return areas, and mean probabilities inside: float32 [..., N] of masks [..., N, h, w]."""
    inside = (masks > threshold).float()
    area = inside.sum((-2, -1))
    return area, (masks * inside).sum((-2, -1)) / area.clamp(min=1)


def decay_fixed(
    selector: MaskNMS, masks: Tensor, classes: Tensor, scores: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the order after matrix NMS and the decayed scores; see `matrix_nms_plain`."""
    return matrix_nms_plain(
        masks > selector.mask_threshold,
        classes,
        scores,
        selector.nms_kernel,
        selector.nms_sigma,
        selector.class_agnostic,
    )
