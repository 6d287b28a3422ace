"""Define InstanceFCN's head, and a classifier of its masks.

InstanceFCN, arXiv 1603.08678, "Network architecture"; the classifier is not in the paper.

B images, C channels, K classes, N windows, k relative positions per axis, m side of a window.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...modeling import order
from ...modeling.layers import ConvNormReLU
from .assemble import cells_of_scales, gather_cells, soft_masks, window_cells
from .windows import DenseMaps, Windows, by_scale

# The number of windows whose masks are placed on a whole map at a time; on a GPU, where they are on
# those of all scales, the bytes of these.
_WINDOWS_AT_ONCE = 128
_CHUNK_BYTES = 128 * 2**20


class WindowPredictions(NamedTuple):
    """The head's predictions for the windows that are centred at the cells of a map.

    Attributes:
        score_maps: logits [B, k^2, H, W]; map i k + j is that of the position in row i, column j.
        objectness_logits: [B, H, W], of the window with its centre at each cell.
        features: [B, C, H, W], from which both were predicted, for a classifier.
    """

    score_maps: Tensor
    objectness_logits: Tensor
    features: Tensor

    def of_image(self, index: int, size: tuple[int, int]) -> "WindowPredictions":
        """Return the predictions of one image, without B, cropped to the size of its map."""
        height, width = size
        return WindowPredictions(
            self.score_maps[index, :, :height, :width],
            self.objectness_logits[index, :height, :width],
            self.features[index, :, :height, :width],
        )

    def dense_maps(self, cell_size: tuple[float, float]) -> DenseMaps:
        """Return the predictions of one image for dense sliding; see `DenseMaps`."""
        score_maps, objectness_logits = self.score_maps.float(), self.objectness_logits.float()
        return DenseMaps(score_maps, objectness_logits, self.features, cell_size)


class InstanceFCNHead(nn.Module):
    """Predict the k^2 instance-sensitive score maps, and the objectness of every window.

    Args:
        in_channels: C.
        num_positions: k.
        channels: number of channels of the hidden layer of each of the two branches.
    """

    def __init__(self, *, in_channels: int, num_positions: int, channels: int = 512) -> None:
        super().__init__()
        self.instance_branch = ConvNormReLU(in_channels, channels, 1, norm="")
        self.score_maps = nn.Conv2d(channels, num_positions**2, 3, padding=1)
        self.objectness_branch = ConvNormReLU(in_channels, channels, 3, norm="")
        self.objectness = nn.Conv2d(channels, 1, 1)
        for layer in (self.score_maps, self.objectness):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> WindowPredictions:
        """Run both branches on features [B, C, H, W]."""
        score_maps = self.score_maps(self.instance_branch(features))
        objectness_logits = self.objectness(self.objectness_branch(features))[:, 0]
        return WindowPredictions(score_maps, objectness_logits, features)


class MaskPooledClassifier(nn.Module):
    """Classify windows by the mean of the features inside their masks; ours, not the paper's.

    Args:
        in_channels: C.
        num_classes: K, without background, which objectness covers.
    """

    def __init__(self, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, num_classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor, centers: Tensor, masks: Tensor) -> Tensor:
        """Return class logits, float32 [N, K].

        Args:
            features: the features of one image, [C, H, W].
            centers: int64 [N, 2], see `assemble`.
            masks: probabilities [N, m, m], 0 outside the map.
        """
        with torch.autocast(features.device.type, enabled=False):
            pooled = [
                mask_average_pool(features.float(), *part)
                for part in zip(centers.split(_WINDOWS_AT_ONCE), masks.split(_WINDOWS_AT_ONCE))
            ]
            return self._classify(torch.cat(pooled))

    def best(
        self, maps: list[DenseMaps], windows: Windows, window_size: int
    ) -> tuple[Tensor, Tensor]:
        """Return the probability of each window's most probable class, and that class, [N] each.

        Args:
            maps: the network's outputs at every scale.
            windows: the windows of one image.
            window_size: m.
        """
        if order.waits(windows.scales):
            return self._best_at_once(maps, windows, window_size)
        first, counts = by_scale(windows.scales, len(maps))
        parts = []
        for scale, centers in zip(maps, windows.centers[first].split(counts)):
            soft = soft_masks(scale.score_maps, centers, window_size)
            parts.append(self(scale.features, centers, soft).softmax(dim=1).max(dim=1))
        values, indices = (torch.cat(values) for values in zip(*parts))
        probabilities, classes = torch.empty_like(windows.scores), torch.empty_like(windows.scales)
        probabilities[first], classes[first] = values.to(probabilities.dtype), indices
        return probabilities, classes

    def _best_at_once(
        self, maps: list[DenseMaps], windows: Windows, window_size: int
    ) -> tuple[Tensor, Tensor]:
        """Return what `best` does, without waiting for how many windows each scale has."""
        sizes = [tuple(scale.score_maps.shape[-2:]) for scale in maps]
        cells, inside = cells_of_scales(sizes, windows.centers, windows.scales, window_size)
        logits = gather_cells([scale.score_maps for scale in maps], cells, window_size)
        soft = logits.float().sigmoid() * inside
        features = torch.cat([scale.features.flatten(1).float() for scale in maps], dim=1)
        at_once = max(1, _CHUNK_BYTES // (4 * features.shape[1]))
        pooled = [
            _average(features, *part) for part in zip(cells.split(at_once), soft.split(at_once))
        ]
        probabilities, classes = self._classify(torch.cat(pooled)).softmax(dim=1).max(dim=1)
        return probabilities.to(windows.scores.dtype), classes

    def best_fixed(self, features: Tensor, centers: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same as `best`, traceably: for one scale and all windows at once.

        Args:
            features: see `forward`.
            centers: see `forward`.
            masks: see `forward`.
        """
        logits = self._classify(mask_average_pool(features.float(), centers, masks))
        probabilities, classes = logits.softmax(dim=-1).max(dim=-1)
        return probabilities, classes

    def _classify(self, pooled: Tensor) -> Tensor:
        return self.linear(pooled.to(self.linear.weight.dtype)).float()


def mask_average_pool(features: Tensor, centers: Tensor, masks: Tensor) -> Tensor:
    """Return the mean of the features, weighted by each mask: float32 [..., N, C].

    Args:
        features: float32 [..., C, H, W].
        centers: int64 [..., N, 2], see `assemble`.
        masks: float32 [..., N, m, m], 0 outside the map.
    """
    height, width = features.shape[-2:]
    cells, _ = window_cells(centers, masks.shape[-1], (height, width))
    return _average(features.flatten(-2), cells, masks)


def _average(features: Tensor, cells: Tensor, masks: Tensor) -> Tensor:
    """Return `mask_average_pool` of features [..., C, P] at cells [..., N, m, m] of these P."""
    weights = masks.new_zeros((*masks.shape[:-2], features.shape[-1]))
    weights = weights.scatter_add(-1, cells.flatten(-2), masks.flatten(-2))
    total = weights.sum(dim=-1, keepdim=True)
    return weights @ features.transpose(-2, -1) / total.clamp(min=1e-6)
