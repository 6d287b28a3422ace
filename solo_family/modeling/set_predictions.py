"""Hold predictions and ground truth of a batch of images whose masks are sets.

L supervised decoder layers, B images, N predictions, K classes, E channels of an embedding, G
objects of all images one after another, P pairs of a prediction and an object of all images, h w of
the predicted masks, H W of the true ones.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..ops import dynamic_conv
from ..ops.host_copy import to_device
from .matcher import Matches


class SetPredictions(NamedTuple):
    """The predictions of one decoder layer.

    Attributes:
        class_logits: [B, N, K], or K + 1 with "no object" last.
        mask_logits: [B, N, h, w].
        objectness_logits: [B, N], or None for methods without objectness.
    """

    class_logits: Tensor
    mask_logits: Tensor
    objectness_logits: Tensor | None = None


class SetTargets(NamedTuple):
    """The objects of a batch, those of all images one after another.

    Attributes:
        classes: int64 [G].
        masks: [G, H, W], bool or 0 to 1, at the resolution that the method needs.
        counts: the number of each image's objects.
        slots: int64 [B, M], M the greatest count: indices of each image's objects among the G,
            filled up with arbitrary ones; empty if there are no objects at all.
    """

    classes: Tensor
    masks: Tensor
    counts: list[int]
    slots: Tensor

    @classmethod
    def join(cls, classes: Sequence[Tensor], masks: Sequence[Tensor] | Tensor) -> "SetTargets":
        """Join the objects of the images: classes int64 [g], masks [g, H, W] (or one tensor)."""
        counts = [len(part) for part in classes]
        joined = masks if isinstance(masks, Tensor) else torch.cat(list(masks))
        first, slots = 0, torch.zeros(len(counts), max(counts), dtype=torch.int64)
        for row, count in zip(slots, counts):
            row[:count] = torch.arange(first, first + count)
            first += count
        return cls(torch.cat(list(classes)), joined, counts, *to_device([slots], joined.device))


class LayerMasks(Protocol):
    """The mask logits of all layers, of which only requested ones need be computed."""

    @property
    def size(self) -> tuple[int, int]:
        """The height and width (h, w) of the masks."""

    def of_layer(self, layer: int, images: slice) -> Tensor:
        """Return one layer's masks of some images, [b, N, h, w]."""

    def of_pairs(self, matches: Matches) -> Tensor:
        """Return the matched masks of all layers, [L * P, h, w]."""

    def of_predictions(self, predictions: slice) -> "LayerMasks":
        """Return the masks of some of the N predictions."""


class PlainMasks:
    """Masks that are stored as they are.

    Args:
        layers: L x [B, N, h, w].
    """

    def __init__(self, layers: Sequence[Tensor]) -> None:
        self.layers = layers

    @property
    def size(self) -> tuple[int, int]:
        """The height and width (h, w) of the masks."""
        height, width = self.layers[0].shape[-2:]
        return height, width

    def of_layer(self, layer: int, images: slice) -> Tensor:
        """Return one layer's masks of some images, [b, N, h, w]."""
        return self.layers[layer][images]

    def of_pairs(self, matches: Matches) -> Tensor:
        """Return the matched masks of all layers, [L * P, h, w]."""
        pairs = zip(self.layers, matches.predictions)
        chosen = [masks.flatten(0, 1).index_select(0, indices) for masks, indices in pairs]
        return chosen[0] if len(chosen) == 1 else torch.cat(chosen)

    def of_predictions(self, predictions: slice) -> "PlainMasks":
        """Return the masks of some of the N predictions."""
        return PlainMasks([masks[:, predictions] for masks in self.layers])


class EmbeddedMasks:
    """Masks that are products of an embedding and the image's features, as in MaskFormer.

    Without a gradient they are computed a layer at a time; with a gradient only the matched ones
    are: the gradient of all masks would be mostly zeros, and as large as the masks.

    Args:
        embeddings: [L, B, N, E].
        features: [B, E, h, w].
    """

    def __init__(self, embeddings: Tensor, features: Tensor) -> None:
        self.embeddings = embeddings
        self.features = features

    @property
    def size(self) -> tuple[int, int]:
        """The height and width (h, w) of the masks."""
        height, width = self.features.shape[-2:]
        return height, width

    def of_layer(self, layer: int, images: slice) -> Tensor:
        """Return one layer's masks of some images, [b, N, h, w]."""
        return dynamic_conv(self.embeddings[layer, images], self.features[images])

    def of_pairs(self, matches: Matches) -> Tensor:
        """Return the matched masks of all layers, [L * P, h, w]."""
        num_layers, num_images, num_predictions, channels = self.embeddings.shape
        most, device = max(matches.counts), self.embeddings.device
        # The pairs of an image in all layers become the rows of one matrix, padded to the largest
        # image.
        (places,) = to_device([_places(num_layers, matches.counts)], device)
        layers = torch.arange(num_layers, device=device)[:, None]
        rows = (matches.predictions + layers * (num_images * num_predictions)).flatten()
        filled = rows.new_zeros(num_images * num_layers * most).index_copy_(0, places, rows)
        chosen = self.embeddings.flatten(0, 2).index_select(0, filled)
        logits = dynamic_conv(chosen.view(num_images, num_layers * most, channels), self.features)
        return logits.flatten(0, 1).index_select(0, places)

    def of_predictions(self, predictions: slice) -> "EmbeddedMasks":
        """Return the masks of some of the N predictions."""
        return EmbeddedMasks(self.embeddings[:, :, predictions], self.features)


def _places(num_layers: int, counts: list[int]) -> Tensor:
    """Return the index of each pair, [L * P], in the padded pairs of the images, [B, L, most]."""
    most = max(counts)
    layers = torch.arange(num_layers)[:, None]
    starts = [
        (image * num_layers + layers) * most + torch.arange(count)
        for image, count in enumerate(counts)
    ]
    return torch.cat(starts, dim=1).flatten()


class LayeredPredictions(NamedTuple):
    """The predictions of all supervised decoder layers, the last layer last.

    Attributes:
        class_logits: [L, B, N, K], or K + 1 with "no object" last.
        masks: see `LayerMasks`.
        objectness_logits: [L, B, N], or None for methods without objectness.
    """

    class_logits: Tensor
    masks: LayerMasks
    objectness_logits: Tensor | None = None

    @classmethod
    def stack(cls, layers: Sequence[SetPredictions]) -> "LayeredPredictions":
        """Stack the predictions of several layers."""
        objectness = [layer.objectness_logits for layer in layers]
        return cls(
            torch.stack([layer.class_logits for layer in layers]),
            PlainMasks([layer.mask_logits for layer in layers]),
            torch.stack([logits for logits in objectness if logits is not None])
            if objectness[0] is not None
            else None,
        )

    def split(self, count: int) -> tuple["LayeredPredictions", "LayeredPredictions | None"]:
        """Return the first `count` of the N predictions, and the others if there are any."""
        if self.class_logits.shape[2] <= count:
            return self, None
        return self._of_predictions(slice(count)), self._of_predictions(slice(count, None))

    def _of_predictions(self, predictions: slice) -> "LayeredPredictions":
        objectness = self.objectness_logits
        return LayeredPredictions(
            self.class_logits[:, :, predictions],
            self.masks.of_predictions(predictions),
            None if objectness is None else objectness[:, :, predictions],
        )
