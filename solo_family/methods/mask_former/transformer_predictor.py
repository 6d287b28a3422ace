"""MaskFormer's transformer module and segmentation module (arXiv 2107.06278, section 3.3).

B images, N queries, K classes, E channels of the embeddings, L decoder layers.
"""

from itertools import pairwise
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d
from fvcore.nn import weight_init
from torch import Tensor, nn

from .position_encoding import sine_position_encoding
from .transformer import Transformer


class MLP(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        channels: of the input, of every hidden layer, of the output.
    """

    def __init__(self, *channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(n, m) for n, m in pairwise(channels))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


class TransformerPredictor(nn.Module):
    """From features to N pairs of class logits and a mask embedding.

    Parameters are named as in the official code.

    Args:
        in_channels: of the features.
        num_classes: K; None for mask embeddings only (PerPixelBaseline+).
        num_queries: N.
        hidden_dim: channels of the transformer.
        mask_dim: E.
        transformer: its channels are `hidden_dim`.
        enforce_input_proj: project the features although they have `hidden_dim` channels.
        deep_supervision: return every layer's output, and not only the last one's.
    """

    @configurable
    def __init__(
        self,
        in_channels: int,
        num_classes: int | None,
        *,
        num_queries: int,
        hidden_dim: int,
        mask_dim: int,
        transformer: Transformer,
        enforce_input_proj: bool = False,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.deep_supervision = deep_supervision
        self.transformer = transformer
        self.query_embed = nn.Embedding(num_queries, hidden_dim)
        self.input_proj: nn.Module = nn.Identity()
        if in_channels != hidden_dim or enforce_input_proj:
            self.input_proj = Conv2d(in_channels, hidden_dim, kernel_size=1)
            weight_init.c2_xavier_fill(self.input_proj)
        self.class_embed = None
        if num_classes is not None:
            self.class_embed = nn.Linear(hidden_dim, num_classes + 1)
        self.mask_embed = MLP(hidden_dim, hidden_dim, hidden_dim, mask_dim)

    @classmethod
    def from_config(
        cls, cfg: CfgNode, in_channels: int, num_classes: int | None, *, num_queries: int = 0
    ) -> dict[str, Any]:
        """Reads `MODEL.MASK_FORMER`; `num_queries` other than 0 takes the place of its own."""
        method = cfg.MODEL.MASK_FORMER
        return {
            "in_channels": in_channels,
            "num_classes": num_classes,
            "num_queries": num_queries or method.NUM_OBJECT_QUERIES,
            "hidden_dim": method.HIDDEN_DIM,
            "mask_dim": cfg.MODEL.SEM_SEG_HEAD.MASK_DIM,
            "transformer": Transformer(
                method.ENC_LAYERS,
                method.DEC_LAYERS,
                channels=method.HIDDEN_DIM,
                num_heads=method.NHEADS,
                feedforward_channels=method.DIM_FEEDFORWARD,
                dropout=method.DROPOUT,
                pre_norm=method.PRE_NORM,
            ),
            "enforce_input_proj": method.ENFORCE_INPUT_PROJ,
            "deep_supervision": method.DEEP_SUPERVISION,
        }

    def forward(self, features: Tensor) -> tuple[Tensor | None, Tensor]:
        """Predicts from features [B, C, h, w].

        Returns:
            class_logits: [L, B, N, K + 1], "no object" last; None without classes. L is 1 without
                deep supervision; the last layer comes last.
            mask_embeddings: [L, B, N, E].
        """
        position = sine_position_encoding(features, self.hidden_dim)
        outputs = self.transformer(self.input_proj(features), position, self.query_embed.weight)
        hidden = torch.stack(outputs if self.deep_supervision else outputs[-1:])
        class_logits = None if self.class_embed is None else self.class_embed(hidden)
        return class_logits, self.mask_embed(hidden)
