"""Sample the windows that InstanceFCN is trained on, and their masks.

InstanceFCN, arXiv 1603.08678, "Training".

G ground-truth objects, W windows, P positive windows, m side of a window, H W cells of the map.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor

from .assemble import window_cells

# Side of DeepMask's window; its rule is stated in pixels of this window (arXiv 1506.06204).
_DEEPMASK_WINDOW = 224


@dataclass
class SampledWindows:
    """Windows of one image.

    Attributes:
        centers: int64 [W, 2], row and column; the first P are positive, the others negative.
        objects: int64 [P], the object of every positive window.
    """

    centers: Tensor
    objects: Tensor


@dataclass(frozen=True)
class WindowRule:
    """Define which windows are positive and negative: DeepMask's rule, in pixels of its window.

    A window is positive for an object if the centre of the object's box is within `positive_shift`
    of the window's on both axes, and its longer side within a factor 2^`positive_octaves` of
    `object_size`. A window is negative if every object is off by at least `negative_shift` on an
    axis, or by a factor of at least 2^`negative_octaves`. Other windows are not sampled.

    Attributes:
        object_size: length of the longer side, in pixels of a window of 224 x 224.
        positive_shift: a distance in the same pixels.
        positive_octaves: base-2 logarithm of a factor.
        negative_shift: a distance in the same pixels.
        negative_octaves: base-2 logarithm of a factor.
    """

    object_size: float = 128
    positive_shift: float = 16
    negative_shift: float = 32
    positive_octaves: float = 0.25
    negative_octaves: float = 1.0


_PUBLISHED_RULE = WindowRule()


class WindowSampler:
    """Sample positive and negative windows by a rule, which is scaled to this window.

    A window that is positive for several objects belongs to the nearest one, and to the first of
    equally near ones.

    Args:
        window_size: m.
        num_windows: the number of windows per image.
        positive_fraction: the maximum fraction of them that is positive.
        short_of_positives: what to do if there are some positives, but fewer than requested: take
            more "negatives", "repeat" positives, or take "fewer" windows, as many negatives as
            positives. Without positives all windows are negative.
        rule: defines positive and negative windows.
    """

    def __init__(
        self,
        *,
        window_size: int,
        num_windows: int = 256,
        positive_fraction: float = 0.5,
        short_of_positives: str = "negatives",
        rule: WindowRule = _PUBLISHED_RULE,
    ) -> None:
        self.window_size = window_size
        self.num_windows = num_windows
        self.positive_fraction = positive_fraction
        self.short_of_positives = short_of_positives
        self.rule = rule

    @classmethod
    def from_config(cls, method: CfgNode) -> "WindowSampler":
        """Read `cfg.MODEL.INSTANCE_FCN`."""
        return cls(
            window_size=method.WINDOW_SIZE,
            num_windows=method.WINDOWS_PER_IMAGE,
            positive_fraction=method.POSITIVE_FRACTION,
            short_of_positives=method.SHORT_OF_POSITIVES,
            rule=WindowRule(
                object_size=method.OBJECT_SIZE,
                positive_shift=method.POSITIVE_SHIFT,
                negative_shift=method.NEGATIVE_SHIFT,
                positive_octaves=method.POSITIVE_OCTAVES,
                negative_octaves=method.NEGATIVE_OCTAVES,
            ),
        )

    @torch.no_grad()
    def __call__(self, boxes: Tensor, map_size: tuple[int, int], stride: int) -> SampledWindows:
        """Sample windows of one image.

        Args:
            boxes: float32 [G, 4], x0 y0 x1 y1 in pixels of the network's input; those of objects
                without pixels have no size.
            map_size: (H, W), without padding.
            stride: the stride of the map.
        """
        owner, negative = self.assign(boxes, map_size, stride)
        wanted = int(self.num_windows * self.positive_fraction)
        positives = _draw(owner >= 0, wanted, repeat=self.short_of_positives == "repeat")
        rest = self.num_windows - len(positives)
        if self.short_of_positives == "fewer" and 0 < len(positives) < rest:
            rest = len(positives)
        negatives = _draw(negative, rest)
        objects = owner[positives[:, 0], positives[:, 1]]
        return SampledWindows(torch.cat([positives, negatives]), objects)

    def assign(
        self, boxes: Tensor, map_size: tuple[int, int], stride: int
    ) -> tuple[Tensor, Tensor]:
        """Label every window.

        Args:
            boxes: see `__call__`.
            map_size: see `__call__`.
            stride: see `__call__`.

        Returns:
            owner: int64 [H, W], the object that a window is positive for, or -1.
            negative: bool [H, W].
        """
        rule, scale = self.rule, self.window_size * stride / _DEEPMASK_WINDOW
        shift = _shifts(boxes, map_size, stride, self.window_size)
        sizes = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1)[:, None, None]
        # An object without pixels is infinitely small: all windows are negative for it, none is
        # positive.
        octaves = (sizes / (rule.object_size * scale)).log2().abs()

        near = (shift <= rule.positive_shift * scale) & (octaves <= rule.positive_octaves)
        far = (shift >= rule.negative_shift * scale) | (octaves >= rule.negative_octaves)
        # One more object, infinitely far away, because there may be none.
        distances = shift.masked_fill(~near, torch.inf)
        nearest, owner = F.pad(distances, (0, 0, 0, 0, 0, 1), value=torch.inf).min(dim=0)
        return owner.masked_fill(nearest.isinf(), -1), far.all(dim=0)


def _draw(candidates: Tensor, count: int, *, repeat: bool = False) -> Tensor:
    """Return up to `count` random cells [n, 2] of bool [H, W].

    Each is drawn once, unless `repeat` is set and there are too few.
    """
    cells = candidates.nonzero()
    if repeat and 0 < len(cells) < count:
        return cells[torch.randint(len(cells), (count,), device=cells.device)]
    return cells[torch.randperm(len(cells), device=cells.device)[:count]]


def _shifts(boxes: Tensor, map_size: tuple[int, int], stride: int, window_size: int) -> Tensor:
    """Return the distances of windows' centres from boxes', the greater of x and y: [G, H, W].

    They are in pixels, of which a cell has `stride` x `stride`.
    """
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    # The centre of the middle cell or, where m is even, its upper left corner.
    middle = window_size / 2 - window_size // 2
    rows, columns = (
        (torch.arange(side, device=boxes.device) + middle) * stride for side in map_size
    )
    dx = (columns - centers[:, :1]).abs()
    dy = (rows - centers[:, 1:]).abs()
    return torch.maximum(dy[:, :, None], dx[:, None, :])


def window_masks(masks: Tensor, objects: Tensor, centers: Tensor, window_size: int) -> Tensor:
    """Cut windows out of objects' masks: the masks that `assemble` should return for them.

    Args:
        masks: bool [G, H, W], at the resolution of the map.
        objects: int64 [W], the object of every window; -1 for none, whose mask is empty.
        centers: int64 [W, 2], see `assemble`.
        window_size: m.

    Returns:
        bool [W, m, m]; False outside the map.
    """
    cells, inside = window_cells(centers, window_size, (masks.shape[1], masks.shape[2]))
    # An empty mask at the end, which -1 selects.
    flat = F.pad(masks.flatten(1), (0, 0, 0, 1))
    return flat[objects[:, None, None], cells] & inside
