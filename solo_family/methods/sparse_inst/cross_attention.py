"""Use object queries in place of instance activation maps: the comparison in SparseInst's paper.

B images, C channels, N queries, H W of the encoder's map.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...modeling.one_to_many import for_training_only
from .decoder import InstanceOutputs, InstancePredictor, conv_relu_tower


class CrossAttentionBranch(nn.Module):
    """Gather instance features by the attention of N learnt queries (SparseInst's ablation).

    The activation maps of `ActivationBranch` depend on the image alone; these also depend on
    queries that are the same for every image, as in DETR (arXiv 2005.12872).

    Args:
        in_channels: number of channels of the input.
        channels: C.
        num_convs: the length of the tower.
        num_queries: N.
        num_heads: number of heads of the attention.
        predictor: makes the `InstancePredictor` for a number of channels.
        num_auxiliary: number of further queries in training; see `modeling/one_to_many.py`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: int,
        num_convs: int,
        num_queries: int,
        num_heads: int,
        predictor: Callable[[int], InstancePredictor],
        num_auxiliary: int = 0,
    ) -> None:
        super().__init__()
        self.num_predictions = num_queries
        self.convs = conv_relu_tower(in_channels, channels, num_convs)
        self.queries = nn.Embedding(num_queries, channels)
        self.auxiliary_queries: nn.Embedding | None = None
        if num_auxiliary:
            self.auxiliary_queries = for_training_only(
                lambda: nn.Embedding(num_auxiliary, channels)
            )
        self.attention = nn.MultiheadAttention(channels, num_heads, batch_first=True)
        self.predictor = predictor(channels)

    def forward(self, x: Tensor) -> InstanceOutputs:
        """Predict from the encoder's map with coordinates, [B, 2 + C, H, W].

        Returns:
            The predictions, with the attention of each head as a group of activation maps; in
            training those of the auxiliary queries come after the N others.
        """
        features = self.convs(x)
        positions = features.flatten(2).transpose(1, 2)
        weight = self.queries.weight
        if self.training and self.auxiliary_queries is not None:
            weight = torch.cat([weight, self.auxiliary_queries.weight])
        queries = weight.expand(x.shape[0], -1, -1)
        # The values are a separate tensor object: where keys are the values, torch projects both in
        # a way whose sizes tracers record as constants.
        instances, attention = self.attention(
            queries, positions, positions[:], average_attn_weights=False
        )
        maps = attention.float().unflatten(-1, features.shape[-2:])
        return self.predictor(instances, maps)
