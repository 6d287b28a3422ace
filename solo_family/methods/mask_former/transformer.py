"""Implement DETR's transformer and its position encoding (arXiv 2005.12872, section 3.2).

Its layers differ from `torch.nn.TransformerDecoderLayer` in that positions are added to queries and
keys in every layer, and never to values. Parameters are named as in DETR and in MaskFormer.

B images, N queries, P pixels of the feature map, H W its size, D channels.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...modeling.layers.remembered import remembered

_TEMPERATURE = 10000.0


class TransformerLayer(nn.Module):
    """The self-attention and the feed-forward network, which encoder and decoder share.

    Args:
        channels: D.
        num_heads: number of heads of the attention, a divisor of D.
        feedforward_channels: number of channels of the network's hidden layer.
        dropout: probability, for attention weights and for what is added to the residual stream.
        pre_norm: normalise the input of each part instead of, as published, the sum after it.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        feedforward_channels: int,
        dropout: float,
        pre_norm: bool,
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attn = nn.MultiheadAttention(channels, num_heads, dropout, batch_first=True)
        self.linear1 = nn.Linear(channels, feedforward_channels)
        self.linear2 = nn.Linear(feedforward_channels, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def residual(self, x: Tensor, norm: nn.Module, part: Callable[[Tensor], Tensor]) -> Tensor:
        """Return `x` plus the output of `part` for it."""
        if self.pre_norm:
            return x + self.dropout(part(norm(x)))
        return norm(x + self.dropout(part(x)))

    def attend_to_itself(self, x: Tensor, position: Tensor) -> Tensor:
        """Return the self-attention of `x`, with positions in queries and keys only."""
        query = x + position
        return self.self_attn(query, query, x, need_weights=False)[0]

    def feedforward(self, x: Tensor) -> Tensor:
        """Return the feed-forward network's output for `x`."""
        return self.linear2(self.dropout(self.linear1(x).relu()))


class TransformerEncoderLayer(TransformerLayer):
    """Self-attention over pixels, then the feed-forward network."""

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """Encode pixels.

        Args:
            x: [B, P, D].
            position: [1, P, D].

        Returns:
            [B, P, D].
        """
        x = self.residual(x, self.norm1, lambda x: self.attend_to_itself(x, position))
        return self.residual(x, self.norm2, self.feedforward)


class TransformerDecoderLayer(TransformerLayer):
    """Self-attention over queries, attention of queries to pixels, the feed-forward network."""

    def __init__(self, channels: int, num_heads: int, *others: Any) -> None:
        super().__init__(channels, num_heads, *others)
        dropout = self.dropout.p
        self.multihead_attn = nn.MultiheadAttention(channels, num_heads, dropout, batch_first=True)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, query_position: Tensor, memory: Tensor, key: Tensor) -> Tensor:
        """Decode queries.

        Args:
            x: [B, N, D].
            query_position: positions of the queries, broadcast to `x`.
            memory: the encoded pixels, [B, P, D].
            key: `memory` with positions added.

        Returns:
            [B, N, D].
        """

        def attend_to_memory(x: Tensor) -> Tensor:
            """Return the attention of the queries to the pixels."""
            return self.multihead_attn(x + query_position, key, memory, need_weights=False)[0]

        x = self.residual(x, self.norm1, lambda x: self.attend_to_itself(x, query_position))
        x = self.residual(x, self.norm2, attend_to_memory)
        return self.residual(x, self.norm3, self.feedforward)


class TransformerEncoder(nn.Module):
    """Encoder layers over the pixels of a feature map; without layers it is the identity.

    Args:
        num_layers: the number of layers.
        channels: see `TransformerLayer`.
        num_heads: see `TransformerLayer`.
        feedforward_channels: see `TransformerLayer`.
        dropout: see `TransformerLayer`.
        pre_norm: see `TransformerLayer`.
    """

    def __init__(
        self,
        num_layers: int,
        *,
        channels: int,
        num_heads: int,
        feedforward_channels: int,
        dropout: float,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        options = (channels, num_heads, feedforward_channels, dropout, pre_norm)
        self.layers = nn.ModuleList(TransformerEncoderLayer(*options) for _ in range(num_layers))
        self.norm = nn.LayerNorm(channels) if pre_norm else nn.Identity()

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """Encode pixels.

        Args:
            x: [B, P, D].
            position: [1, P, D].

        Returns:
            [B, P, D].
        """
        for layer in self.layers:
            x = layer(x, position)
        return self.norm(x)


class TransformerDecoder(nn.Module):
    """Decoder layers over the queries; the arguments are those of `TransformerEncoder`."""

    def __init__(
        self,
        num_layers: int,
        *,
        channels: int,
        num_heads: int,
        feedforward_channels: int,
        dropout: float,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        options = (channels, num_heads, feedforward_channels, dropout, pre_norm)
        self.layers = nn.ModuleList(TransformerDecoderLayer(*options) for _ in range(num_layers))
        self.norm = nn.LayerNorm(channels)

    def forward(
        self, query_position: Tensor, memory: Tensor, memory_position: Tensor
    ) -> list[Tensor]:
        """Decode queries that start from zeros and differ only by their learnt positions.

        Args:
            query_position: [N, D].
            memory: [B, P, D].
            memory_position: [1, P, D].

        Returns:
            The normalised output of every layer, each [B, N, D].
        """
        x = memory.new_zeros(memory.shape[0], *query_position.shape)
        key = memory + memory_position
        outputs = []
        for layer in self.layers:
            x = layer(x, query_position, memory, key)
            outputs.append(self.norm(x))
        return outputs


class Transformer(nn.Module):
    """Encoder and decoder; all matrices are initialised Xavier-uniform, as published.

    Args:
        encoder_layers: number of layers; MaskFormer's encoder has none.
        decoder_layers: number of layers.
        options: further arguments of `TransformerEncoder`.
    """

    def __init__(self, encoder_layers: int, decoder_layers: int, **options: Any) -> None:
        super().__init__()
        self.encoder = TransformerEncoder(encoder_layers, **options)
        self.decoder = TransformerDecoder(decoder_layers, **options)
        initialise(self)

    def forward(self, x: Tensor, position: Tensor, query_position: Tensor) -> list[Tensor]:
        """Return every decoder layer's output for a feature map.

        Args:
            x: [B, D, H, W].
            position: [1, D, H, W].
            query_position: [N, D].

        Returns:
            [B, N, D] per layer.
        """
        return self.of_several(x, position, [query_position])

    def of_several(self, x: Tensor, position: Tensor, queries: Sequence[Tensor]) -> list[Tensor]:
        """Return every decoder layer's output for several sets of queries.

        A query attends to those of its own set only.

        Args:
            x: [B, D, H, W].
            position: [1, D, H, W].
            queries: the positions of each set, [n, D].

        Returns:
            [B, N, D] per layer, the sets one after another.
        """
        pixels, pixel_position = as_sequence(x), as_sequence(position)
        memory = self.encoder(pixels, pixel_position)
        sets = [self.decoder(positions, memory, pixel_position) for positions in queries]
        return sets[0] if len(sets) == 1 else [torch.cat(layer, dim=1) for layer in zip(*sets)]


def as_sequence(x: Tensor) -> Tensor:
    """Return the pixels of a feature map [B, D, H, W] as [B, H * W, D]."""
    return x.flatten(2).transpose(1, 2)


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Initialise all matrices Xavier-uniform, as published."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)


def sine_position_encoding(x: Tensor, channels: int) -> Tensor:
    """Return the normalised sine encoding of the pixels of a feature map (DETR's appendix).

    Rows and columns are counted from 1 and scaled so that the last one is 2 pi; each is the
    argument of sines and cosines of `channels` / 4 wavelengths.

    Args:
        x: features [B, C, H, W], of which only size, dtype and device matter.
        channels: number of channels of the encoding, a multiple of 4.

    Returns:
        [1, channels, H, W] in the dtype of `x`: the encoding of y, then that of x, in each of which
        sine and cosine alternate.
    """
    height, width = x.shape[-2:]
    return _encoding(x, height, width, channels, x.dtype)


@remembered
def _encoding(
    height: int, width: int, channels: int, dtype: torch.dtype, *, device: torch.device
) -> Tensor:
    wavelengths = torch.arange(channels // 4, dtype=torch.float32, device=device)
    wavelengths = _TEMPERATURE ** (4 * wavelengths / channels)

    def encode(size: int) -> Tensor:
        position = torch.arange(1, size + 1, dtype=torch.float32, device=device)
        angle = (position / (size + 1e-6) * 2 * math.pi)[:, None] / wavelengths
        return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1).T

    ys = encode(height)[:, :, None].expand(-1, -1, width)
    xs = encode(width)[:, None, :].expand(-1, height, -1)
    return torch.cat([ys, xs])[None].to(dtype)
