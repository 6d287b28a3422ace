"""InstanceFCN's head (arXiv 1603.08678, section 4), and a classifier of its masks.

B images, C channels, K classes, N windows, k relative positions per axis, m side of a window.
"""

import torch
from torch import Tensor, nn

from ...modeling.layers import ConvNormReLU
from .assemble import window_cells

# Windows whose masks are on a whole map at a time.
_WINDOWS_AT_ONCE = 128


class InstanceFCNHead(nn.Module):
    """Predicts the k^2 instance-sensitive score maps, and the objectness of every window.

    Args:
        in_channels: C.
        num_positions: k.
        channels: of the hidden layer of each of the two branches.
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

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Runs both branches.

        Args:
            features: [B, C, H, W].

        Returns:
            score_maps: logits [B, k^2, H, W]; map i k + j is of the position in row i, column j.
            objectness_logits: [B, H, W], of the window with its centre at each cell.
        """
        score_maps = self.score_maps(self.instance_branch(features))
        return score_maps, self.objectness(self.objectness_branch(features))[:, 0]


class MaskPooledClassifier(nn.Module):
    """Classifies windows by the mean of the features inside their masks; ours, not the paper's.

    Args:
        in_channels: C.
        num_classes: K, without background, which objectness tells.
    """

    def __init__(self, *, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, num_classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor, centers: Tensor, masks: Tensor) -> Tensor:
        """Returns class logits, float32 [N, K].

        Args:
            features: of one image, [C, H, W].
            centers: int64 [N, 2], see `assemble`.
            masks: probabilities [N, m, m], 0 outside the map.
        """
        with torch.autocast(features.device.type, enabled=False):
            pooled = [
                mask_average_pool(features.float(), *part)
                for part in zip(centers.split(_WINDOWS_AT_ONCE), masks.split(_WINDOWS_AT_ONCE))
            ]
            return self.linear(torch.cat(pooled).to(self.linear.weight.dtype)).float()


def mask_average_pool(features: Tensor, centers: Tensor, masks: Tensor) -> Tensor:
    """Returns the mean of the features, weighted by each mask: float32 [N, C].

    Args:
        features: float32 [C, H, W].
        centers: int64 [N, 2], see `assemble`.
        masks: float32 [N, m, m], 0 outside the map.
    """
    height, width = features.shape[-2:]
    cells, _ = window_cells(centers, masks.shape[-1], (height, width))
    weights = masks.new_zeros((len(masks), height * width))
    weights = weights.scatter_add(1, cells.flatten(1), masks.flatten(1))
    total = weights.sum(dim=1, keepdim=True)
    return weights @ features.flatten(1).T / total.clamp(min=1e-6)
