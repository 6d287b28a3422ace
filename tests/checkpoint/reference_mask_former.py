"""MaskFormer on one image, from arXiv 2107.06278 and the published order of steps.

Works on weights under the official code's names.
"""

import math

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .reference_backbone import State, conv, group_norm, layer_norm, linear, resize

HEADS = 8
HEAD = "sem_seg_head."


def sine_encoding(x: Tensor, channels: int) -> Tensor:
    """DETR's, normalised to 2 pi: y first, sines and cosines in turns; [H W, channels]."""
    height, width = x.shape[-2:]
    half = channels // 2
    steps = 10000 ** (2 * (torch.arange(half) // 2) / half)
    parts = []
    for size, axis in ((height, 0), (width, 1)):
        place = torch.arange(1, size + 1) / (size + 1e-6) * 2 * math.pi
        angles = place[:, None] / steps
        turns = torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], 2).flatten(1)
        grid = turns[:, None] if axis == 0 else turns[None]
        parts.append(grid.expand(height, width, half))
    return torch.cat(parts, 2).flatten(0, 1)


def attention(state: State, name: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    weights = state[f"{name}.in_proj_weight"].chunk(3)
    biases = state[f"{name}.in_proj_bias"].chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((query, key, value), weights, biases))
    outputs = []
    for qh, kh, vh in zip(q.chunk(HEADS, 1), k.chunk(HEADS, 1), v.chunk(HEADS, 1)):
        outputs.append((qh @ kh.T / qh.shape[1] ** 0.5).softmax(1) @ vh)
    return linear(state, f"{name}.out_proj", torch.cat(outputs, 1))


def feed_forward(state: State, name: str, x: Tensor) -> Tensor:
    return linear(state, f"{name}.linear2", linear(state, f"{name}.linear1", x).relu())


def encoder(state: State, name: str, x: Tensor, position: Tensor, layers: int = 2) -> Tensor:
    for i in range(layers):
        layer = f"{name}.layers.{i}"
        place = x + position
        attended = attention(state, f"{layer}.self_attn", place, place, x)
        x = layer_norm(state, f"{layer}.norm1", x + attended)
        x = layer_norm(state, f"{layer}.norm2", x + feed_forward(state, layer, x))
    return x


def decoder(
    state: State, name: str, queries: Tensor, memory: Tensor, position: Tensor, layers: int = 2
) -> list[Tensor]:
    x, outputs = torch.zeros_like(queries), []
    for i in range(layers):
        layer = f"{name}.layers.{i}"
        place = x + queries
        attended = attention(state, f"{layer}.self_attn", place, place, x)
        x = layer_norm(state, f"{layer}.norm1", x + attended)
        key = memory + position
        attended = attention(state, f"{layer}.multihead_attn", x + queries, key, memory)
        x = layer_norm(state, f"{layer}.norm2", x + attended)
        x = layer_norm(state, f"{layer}.norm3", x + feed_forward(state, layer, x))
        outputs.append(layer_norm(state, f"{name}.norm", x))
    return outputs


def forward(
    state: State, stages: list[Tensor], *, version: int, encode: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Class logits [N, K + 1] and mask logits [N, H / 4, W / 4] of every decoder layer."""
    pixel = f"{HEAD}pixel_decoder." if version > 1 else HEAD
    seen = top = stages[3]
    if encode:
        projected = conv(state, f"{pixel}input_proj", top)
        position = sine_encoding(projected, projected.shape[1])
        sequence = projected[0].flatten(1).T
        sequence = encoder(state, f"{pixel}transformer.encoder", sequence, position)
        seen = top = sequence.T.reshape(projected.shape)
    y = group_norm(state, f"{pixel}layer_4.norm", conv(state, f"{pixel}layer_4", top)).relu()
    for i in (3, 2, 1):
        lateral = conv(state, f"{pixel}adapter_{i}", stages[i - 1])
        lateral = group_norm(state, f"{pixel}adapter_{i}.norm", lateral)
        y = lateral + F.interpolate(y, size=lateral.shape[-2:], mode="nearest")
        y = group_norm(state, f"{pixel}layer_{i}.norm", conv(state, f"{pixel}layer_{i}", y)).relu()
    pixels = conv(state, f"{pixel}mask_features", y)[0]
    predictor = f"{HEAD}predictor."
    if f"{predictor}input_proj.weight" in state:
        seen = conv(state, f"{predictor}input_proj", seen)
    memory = seen[0].flatten(1).T
    queries = state[f"{predictor}query_embed.weight"]
    position = sine_encoding(seen, memory.shape[1])
    hidden = decoder(state, f"{predictor}transformer.decoder", queries, memory, position)
    classes, masks = [], []
    for x in hidden:
        classes.append(linear(state, f"{predictor}class_embed", x))
        for i in range(3):
            x = linear(state, f"{predictor}mask_embed.layers.{i}", x)
            x = x.relu() if i < 2 else x
        masks.append(torch.einsum("ne,ehw->nhw", x, pixels))
    return classes, masks


def semantic(classes: Tensor, masks: Tensor, padded: tuple, image: tuple, output: tuple) -> Tensor:
    """Scores [K, *output]: probabilities of classes and masks multiplied and summed."""
    soft = resize(masks[None], padded)[0, :, : image[0], : image[1]].sigmoid()
    scores = torch.einsum("nk,nhw->khw", classes.softmax(1)[:, :-1], soft)
    return resize(scores[None], output)[0]


def instances(
    classes: Tensor, masks: Tensor, padded: tuple, image: tuple, output: tuple
) -> tuple[Tensor, Tensor, Tensor]:
    """Mask2Former's rule: the best pairs of query and class, 100 at most."""
    scores = classes.softmax(1)[:, :-1].flatten()
    best, index = scores.topk(min(100, len(scores)))
    logits = resize(masks[None], padded)[:, :, : image[0], : image[1]]
    logits = resize(logits, output)[0][index // (classes.shape[1] - 1)]
    inside = (logits > 0).float()
    quality = (logits.sigmoid() * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
    best = best * quality
    kept = best > 0
    order = best[kept].argsort(descending=True)
    labels = index % (classes.shape[1] - 1)
    return best[kept][order], labels[kept][order], (logits > 0)[kept][order]


def losses(classes: Tensor, logits: Tensor, masks: Tensor, labels: Tensor) -> list[float]:
    """Weighted cross-entropy, focal and dice loss of a layer; masks [G, H, W], padded."""
    count = classes.shape[1] - 1
    near = F.interpolate(masks[None].float(), size=logits.shape[1:], mode="nearest")[0]
    cost = 20 * focal(logits[:, None], near[None]) + dice(logits[:, None], near[None])
    cost = cost - classes.softmax(1)[:, labels]
    rows, columns = linear_sum_assignment(cost)
    target = torch.full((len(classes),), count)
    target[rows] = labels[columns]
    weights = torch.ones(count + 1)
    weights[-1] = 0.1
    full = resize(logits[None], masks.shape[1:])[0][rows]
    truth = masks[columns].float()
    return [
        float(F.cross_entropy(classes, target, weights)),
        float(20 * focal(full, truth).sum() / len(labels)),
        float(dice(full, truth).sum() / len(labels)),
    ]


def focal(logits: Tensor, truth: Tensor) -> Tensor:
    p = logits.sigmoid()
    right, alpha = truth * p + (1 - truth) * (1 - p), truth * 0.25 + (1 - truth) * 0.75
    log = truth * F.logsigmoid(logits) + (1 - truth) * F.logsigmoid(-logits)
    return (-alpha * (1 - right) ** 2 * log).mean((-2, -1))


def dice(logits: Tensor, truth: Tensor) -> Tensor:
    p = logits.sigmoid()
    overlap = 2 * (p * truth).sum((-2, -1)) + 1
    return 1 - overlap / (p.sum((-2, -1)) + truth.sum((-2, -1)) + 1)
