"""SparseInst on one image, from arXiv 2203.12827 and the published order of steps."""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .reference_backbone import State, conv, coordinates, linear, resize


def encode(state: State, stages: list[Tensor]) -> Tensor:
    """From stages of strides 8, 16, 32 to one map of stride 8."""
    x = conv(state, "encoder.fpn_laterals.0", stages[2])
    pooled = [
        conv(state, f"encoder.ppm.stages.{i}.1", F.adaptive_avg_pool2d(x, side)).relu()
        for i, side in enumerate((1, 2, 3, 6))
    ]
    pooled = [resize(p, x.shape[-2:]) for p in pooled]
    x = conv(state, "encoder.ppm.bottleneck", torch.cat([*pooled, x], 1)).relu()
    outputs = [conv(state, "encoder.fpn_outputs.0", x)]
    for i in (1, 2):
        above = F.interpolate(x, scale_factor=2, mode="nearest")
        x = conv(state, f"encoder.fpn_laterals.{i}", stages[2 - i]) + above
        outputs.insert(0, conv(state, f"encoder.fpn_outputs.{i}", x))
    size = outputs[0].shape[-2:]
    return conv(state, "encoder.fusion", torch.cat([resize(o, size) for o in outputs], 1))


def decode(state: State, x: Tensor, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Class logits [N, K], objectness logits [N], mask logits [N, H / 4, W / 4]."""
    x = torch.cat([coordinates(x), x], 1)
    instances = masks = x
    for i in (0, 2):
        instances = conv(state, f"decoder.inst_branch.inst_convs.{i}", instances).relu()
        masks = conv(state, f"decoder.mask_branch.mask_convs.{i}", masks).relu()
    weight = state["decoder.inst_branch.iam_conv.weight"]
    groups = instances.shape[1] // weight.shape[1]
    bias = state["decoder.inst_branch.iam_conv.bias"]
    maps = F.conv2d(instances, weight, bias, padding=1, groups=groups)[0].flatten(1)
    maps = maps.softmax(1) if kind == "soft" else maps.sigmoid()
    maps = maps / maps.sum(1, keepdim=True)
    features = maps @ instances[0].flatten(1).T
    if kind != "base":
        # Map g N + n is group g's of instance n.
        by_group = features.split(len(features) // groups)
        features = linear(state, "decoder.inst_branch.fc", torch.cat(by_group, 1)).relu()
    classes = linear(state, "decoder.inst_branch.cls_score", features)
    objectness = linear(state, "decoder.inst_branch.objectness", features)[:, 0]
    kernels = linear(state, "decoder.inst_branch.mask_kernel", features)
    pixels = conv(state, "decoder.mask_branch.projection", masks)[0]
    logits = torch.einsum("ne,ehw->nhw", kernels, pixels)
    return classes, objectness, resize(logits[None], tuple(2 * s for s in logits.shape[1:]))[0]


def predict(
    outputs: tuple[Tensor, Tensor, Tensor], image: tuple[int, int], size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    classes, objectness, logits = outputs
    scores = (classes.sigmoid() * objectness.sigmoid()[:, None]).sqrt()
    best, labels = scores.max(1)
    keep = best > 0.005
    best, labels, soft = best[keep], labels[keep], logits[keep].sigmoid()
    inside = (soft > 0.45).float()
    best = best * (soft * inside).sum((1, 2)) / (inside.sum((1, 2)) + 1e-6)
    order = best.argsort(descending=True)
    height, width = soft.shape[1:]
    padded = resize(soft[None], (4 * height, 4 * width))[..., : image[0], : image[1]]
    masks = resize(padded, size)[0] > 0.45
    return best[order], labels[order], masks[order]


def losses(
    outputs: tuple[Tensor, Tensor, Tensor], masks: Tensor, labels: Tensor
) -> dict[str, float]:
    """Weighted losses of one image; masks [G, H, W] of the padded image."""
    classes, objectness, logits = outputs
    truth = resize(masks[None].float(), logits.shape[1:])[0]
    p, q = logits.sigmoid().flatten(1), truth.flatten(1)
    dice = 2 * p @ q.T / ((p**2).sum(1)[:, None] + (q**2).sum(1) + 1e-4)
    score = dice**0.8 * classes.sigmoid()[:, labels] ** 0.2
    rows, columns = linear_sum_assignment(score, maximize=True)
    target = torch.zeros_like(classes)
    target[rows, labels[columns]] = 1
    c = classes.sigmoid()
    right, alpha = torch.where(target > 0, c, 1 - c), torch.where(target > 0, 0.25, 0.75)
    focal = (-alpha * (1 - right) ** 2 * right.log()).sum() / len(labels)
    p, q = p[rows], q[columns]
    iou_p, iou_q = p >= 0.4, q > 0.5
    iou = (iou_p & iou_q).sum(1) / ((iou_p | iou_q).sum(1) + 1e-6)
    return {
        "loss_class": float(2 * focal),
        "loss_mask": float(5 * cross_entropy(logits[rows].flatten(1), q)),
        "loss_dice": float(2 * (1 - dice[rows, columns]).sum() / len(labels)),
        "loss_objectness": float(cross_entropy(objectness[rows], iou)),
    }


def cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary, averaged; of logits, because the probabilities of large ones have no logarithm."""
    return -(truth * F.logsigmoid(logits) + (1 - truth) * F.logsigmoid(-logits)).mean()
