"""SOLO, Decoupled SOLO and SOLOv2 on one image, from the papers and the published order of steps.

Works on a source's own weights; nothing is imported from the code under test.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .reference_backbone import State, conv, coordinates, group_norm, resize

GRIDS = (10, 8, 6, 4, 3)
STRIDES = (8, 8, 16, 32, 32)
RANGES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))


@dataclass
class Names:
    """What a source calls the parts of a head; `{}` is an index."""

    category_conv: str
    category_norm: str
    category: str
    conv: dict[str, str]
    norm: dict[str, str]
    last: dict[str, str]
    feature_conv: str = ""
    feature_norm: str = ""
    projection_conv: str = ""
    projection_norm: str = ""


def tower(state: State, conv_name: str, norm_name: str, x: Tensor, convs: int = 2) -> Tensor:
    for i in range(convs):
        name, norm = conv_name.format(i=i, three=3 * i), norm_name.format(i=i, three=3 * i + 1)
        x = group_norm(state, norm, conv(state, name, x)).relu()
    return x


def align(levels: list[Tensor]) -> list[Tensor]:
    first = F.interpolate(levels[0], scale_factor=0.5, mode="bilinear", align_corners=False)
    return [first, *levels[1:4], resize(levels[4], levels[3].shape[-2:])]


def double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def categories(state: State, names: Names, levels: list[Tensor]) -> list[Tensor]:
    """Logits [K, S, S] of every level."""
    outputs = []
    for level, side in zip(align(levels), GRIDS):
        x = resize(level, (side, side))
        x = tower(state, names.category_conv, names.category_norm, x)
        outputs.append(conv(state, names.category, x)[0])
    return outputs


def solo_masks(state: State, names: Names, levels: list[Tensor]) -> list[Tensor]:
    """Logits [S^2, h, w] of every level."""
    outputs = []
    for index, level in enumerate(align(levels)):
        x = torch.cat([level, coordinates(level)], 1)
        x = double(tower(state, names.conv["xy"], names.norm["xy"], x))
        outputs.append(conv(state, names.last["xy"].format(index), x)[0])
    return outputs


def decoupled_maps(state: State, names: Names, levels: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Logits of columns and rows, [S, h, w] each, of every level."""
    outputs = []
    for index, level in enumerate(align(levels)):
        pair = []
        for axis, channel in (("x", slice(0, 1)), ("y", slice(1, 2))):
            seen = "xy" if "xy" in names.conv else axis
            where = coordinates(level) if seen == "xy" else coordinates(level)[:, channel]
            x = torch.cat([level, where], 1)
            x = double(tower(state, names.conv[seen], names.norm[seen], x))
            pair.append(conv(state, names.last[axis].format(index), x)[0])
        outputs.append((pair[0], pair[1]))
    return outputs


def solov2_masks(state: State, names: Names, levels: list[Tensor]) -> list[Tensor]:
    """Logits [S^2, H / 4, W / 4] of every level: a kernel for each cell, times the features."""
    total = torch.zeros(())
    for number, x in enumerate(levels[:4]):
        x = torch.cat([x, coordinates(x)], 1) if number == 3 else x
        for index in range(max(number, 1)):
            name = names.feature_conv.format(level=number, index=index)
            norm = names.feature_norm.format(level=number, index=index)
            x = group_norm(state, norm, conv(state, name, x)).relu()
            x = double(x) if number else x
        total = total + x
    projected = conv(state, names.projection_conv, total)
    features = group_norm(state, names.projection_norm, projected).relu()
    outputs = []
    for level, side in zip(align(levels), GRIDS):
        x = resize(torch.cat([level, coordinates(level)], 1), (side, side))
        x = tower(state, names.conv["xy"], names.norm["xy"], x)
        kernels = conv(state, names.last["xy"], x)[0].flatten(1).T
        outputs.append(F.conv2d(features, kernels[:, :, None, None])[0])
    return outputs


def all_masks(pair: tuple[Tensor, Tensor]) -> Tensor:
    """Products of columns and rows, cell by cell."""
    columns, rows = pair
    side = len(columns)
    return torch.stack([columns[c % side] * rows[c // side] for c in range(side * side)])


def stride_4_masks(maps: list, size: tuple[int, int]) -> list[Tensor]:
    """Probabilities at a quarter of the padded image, resized as probabilities."""
    soft = []
    for level in maps:
        if isinstance(level, tuple):
            columns, rows = (resize(m.sigmoid()[None], size)[0] for m in level)
            soft.append(all_masks((columns, rows)))
        else:
            soft.append(resize(level.sigmoid()[None], size)[0])
    return soft


def predict(
    logits: list[Tensor], soft: list[Tensor], image: tuple[int, int], output: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, classes and masks, in the published order of steps."""
    candidates = []
    for level, (category, masks) in enumerate(zip(logits, soft)):
        scores = category.sigmoid()
        peaks = F.max_pool2d(scores[None], 2, 1, 1)[0, :, :-1, :-1]
        scores = scores * (peaks == scores)
        for k, row, column in (scores > 0.1).nonzero().tolist():
            mask = masks[row * GRIDS[level] + column]
            inside = mask > 0.5
            if inside.sum() > STRIDES[level]:
                maskness = mask[inside].mean()
                candidates.append((scores[k, row, column] * maskness, k, mask, inside))
    candidates.sort(key=lambda item: -float(item[0]))
    candidates = candidates[:500]
    decayed = [(score, k, mask) for (_, k, mask, _), score in zip(candidates, decay(candidates))]
    kept = sorted((one for one in decayed if one[0] >= 0.05), key=lambda one: -float(one[0]))[:100]
    height, width = soft[0].shape[-2:]
    soft_masks = torch.stack([mask for _, _, mask in kept])[None]
    padded = resize(soft_masks, (4 * height, 4 * width))[..., : image[0], : image[1]]
    masks = resize(padded, output)[0] > 0.5
    scores = torch.stack([score for score, _, _ in kept])
    return scores, torch.tensor([k for _, k, _ in kept]), masks


def decay(candidates: list) -> list[Tensor]:
    """Matrix NMS, Eq. 4 and 5 of arXiv 2003.10152, Gaussian with sigma 2."""
    flat = torch.stack([inside.flatten() for *_, inside in candidates]).float()
    overlap = flat @ flat.T
    area = flat.sum(1)
    iou = overlap / (area[:, None] + area - overlap)
    classes = torch.tensor([k for _, k, *_ in candidates])
    iou = (iou * (classes[:, None] == classes)).triu(1)
    worst = iou.max(0).values
    factor = torch.exp(-2 * iou**2) / torch.exp(-2 * worst[:, None] ** 2)
    return [candidates[j][0] * factor[:, j].min() for j in range(len(candidates))]


def positive_cells(
    masks: Tensor, classes: Tensor, boxes: Tensor, padded: tuple[int, int], level: int
) -> list[tuple[int, int, int]]:
    """(row, column, object) of every pair; later objects come later."""
    side, (low, high) = GRIDS[level], RANGES[level]
    pairs = []
    for index, (mask, (x1, y1, x2, y2)) in enumerate(zip(masks, boxes.tolist())):
        size = ((x2 - x1) * (y2 - y1)) ** 0.5
        if not low <= size <= high or not mask.any():
            continue
        ys, xs = mask.nonzero().float().mean(0).tolist()
        half_w, half_h = 0.5 * 0.2 * (x2 - x1), 0.5 * 0.2 * (y2 - y1)

        def cell(value: float, extent: int, side: int = side) -> int:
            return int(torch.tensor(value) / extent / (1 / side))

        centre = cell(ys, padded[0]), cell(xs, padded[1])
        top = max(0, cell(ys - half_h, padded[0]), centre[0] - 1)
        bottom = min(side - 1, cell(ys + half_h, padded[0]), centre[0] + 1)
        left = max(0, cell(xs - half_w, padded[1]), centre[1] - 1)
        right = min(side - 1, cell(xs + half_w, padded[1]), centre[1] + 1)
        pairs += [
            (row, column, index)
            for row in range(top, bottom + 1)
            for column in range(left, right + 1)
        ]
    return pairs


def small(mask: Tensor, factor: int) -> Tensor:
    """A mask at a fraction of its size, as OpenCV resizes bytes."""
    height, width = mask.shape
    array = mask.numpy().astype(np.uint8)
    return torch.from_numpy(cv2.resize(array, (width // factor, height // factor))).float()


def losses(
    logits: list[Tensor],
    maps: list,
    masks: Tensor,
    classes: Tensor,
    boxes: Tensor,
    padded: tuple[int, int],
    *,
    solov2: bool,
    cells: bool,
) -> tuple[float, float]:
    """Focal and dice loss of one image, weighted; `cells` divides dice as mmdetection does."""
    dice, focal, positives = [], torch.zeros(()), 0
    for level, category in enumerate(logits):
        pairs = positive_cells(masks, classes, boxes, padded, level)
        side = GRIDS[level]
        target = torch.zeros_like(category)
        last = {(row, column): index for row, column, index in pairs}
        for (row, column), index in last.items():
            target[:, row, column] = F.one_hot(classes[index], len(category)).float()
        positives += len(last)
        p = category.sigmoid()
        right, alpha = torch.where(target > 0, p, 1 - p), torch.where(target > 0, 0.25, 0.75)
        focal = focal + (-alpha * (1 - right) ** 2 * right.clamp(min=1e-12).log()).sum()
        if not solov2:
            pairs = [(row, column, index) for (row, column), index in last.items()]
        for row, column, index in pairs:
            if isinstance(maps[level], tuple):
                columns, rows = maps[level]
                soft = columns[column].sigmoid() * rows[row].sigmoid()
            else:
                soft = maps[level][row * side + column].sigmoid()
            truth = small(masks[index], padded[0] // soft.shape[0])
            overlap = 2 * (soft * truth).sum()
            sizes = (soft**2).sum() + 1e-3 + (truth**2).sum() + 1e-3
            dice.append(1 - overlap / sizes)
    total = 3 * torch.stack(dice).sum() / (positives if cells else len(dice))
    return float(focal / (positives + 1)), float(total)
