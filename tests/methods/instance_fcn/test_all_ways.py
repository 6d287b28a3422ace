"""Results, and exported outputs made results by the runtime: both against loops over windows."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from solo_family.export.window_results import window_results, windows_of
from solo_family.methods.instance_fcn.head import WindowPredictions

from ...conftest import tiny_model

M, K, CHANNELS, STRIDE = 5, 3, 4, 4
BINS = [0, 0, 1, 2, 2]  # of 5 cells in 3: 2, 1, 2
PADDED, IMAGE = (32, 48), (27, 40)
MAP = (7, 10)
PREFIX = "MODEL.INSTANCE_FCN"
Found = list[tuple[float, int, list]]  # score, class, mask


def predictions(seed: int) -> WindowPredictions:
    """Of one image with its padding."""
    generator = torch.Generator().manual_seed(seed)
    return WindowPredictions(
        score_maps=3 * torch.randn(1, 9, 8, 12, generator=generator),
        objectness_logits=torch.randn(1, 8, 12, generator=generator),
        features=torch.randn(1, CHANNELS, 8, 12, generator=generator),
    )


def probability(image: WindowPredictions, u: int, v: int, y: int, x: int) -> float:
    return float(image.score_maps[0, BINS[u] * 3 + BINS[v], y, x].sigmoid())


def window_at(image: WindowPredictions, row: int, column: int, model: nn.Module) -> dict | None:
    inside, mask = {}, [[0.0] * M for _ in range(M)]
    for u, v in product(range(M), range(M)):
        y, x = row - M // 2 + u, column - M // 2 + v
        nearest = min(max(y, 0), MAP[0] - 1), min(max(x, 0), MAP[1] - 1)
        mask[u][v] = probability(image, u, v, *nearest)
        if nearest == (y, x):
            inside[y, x] = mask[u][v]
    hard = {cell: p for cell, p in inside.items() if p > model.selector.mask_threshold}
    if not hard:
        return None
    score = float(image.objectness_logits[0, row, column].sigmoid())
    if model.selector.score == "product":
        score *= sum(hard.values()) / len(hard)
    ys, xs = zip(*hard)
    box = [STRIDE * side for side in (min(xs), min(ys), max(xs) + 1, max(ys) + 1)]
    return {"score": score, "box": box, "at": (row, column), "mask": mask, "inside": inside}


def box_iou(a: list[int], b: list[int]) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def pasted(window: dict, size: tuple[int, int], threshold: float, cell: float) -> list:
    """Enlarges a mask bilinearly, pixel by pixel; beyond its cells it is 0."""

    def taps(pixel: int, center: int) -> list[tuple[int, float]]:
        position = (pixel + 0.5) / cell - (center - M // 2) - 0.5
        first = math.floor(position)
        share = position - first
        return [(i, w) for i, w in ((first, 1 - share), (first + 1, share)) if 0 <= i < M]

    row, column = window["at"]
    return [
        [
            sum(
                wu * wv * window["mask"][u][v]
                for (u, wu), (v, wv) in product(taps(y, row), taps(x, column))
            )
            >= threshold
            for x in range(size[1])
        ]
        for y in range(size[0])
    ]


def decay(windows: list[dict], kernel: str, sigma: float, threshold: float) -> None:
    """SOLOv2's matrix NMS (arXiv 2003.10152, 3.3) on masks at a fourth of the resolution."""
    size = math.ceil(IMAGE[0] / 4), math.ceil(IMAGE[1] / 4)
    masks = [np.array(pasted(one, size, threshold, STRIDE / 4)) for one in windows]
    iou = [[(a & b).sum() / max((a | b).sum(), 1) for b in masks] for a in masks]
    most = [max(iou[i][:i], default=0.0) for i in range(len(masks))]
    for j, one in enumerate(windows):
        factors = [1.0]
        for i in range(j):
            if kernel == "gaussian":
                factors.append(math.exp(sigma * (most[i] ** 2 - iou[i][j] ** 2)))
            elif most[i] < 1:
                factors.append((1 - iou[i][j]) / (1 - most[i]))
        one["score"] *= min(factors)


def classified(window: dict, features: Tensor, linear: nn.Linear) -> tuple[float, int]:
    total = sum(window["inside"].values())
    pooled = sum(p * features[0, :, y, x] for (y, x), p in window["inside"].items()) / total
    probabilities = (linear.weight @ pooled + linear.bias).softmax(0)
    return float(probabilities.max()), int(probabilities.argmax())


def reference(image: WindowPredictions, model: nn.Module) -> Found:
    selector = model.selector
    cells = product(*map(range, MAP))
    every = [window_at(image, row, column, model) for row, column in cells]
    windows = sorted((w for w in every if w is not None), key=lambda w: -w["score"])
    windows = windows[: selector.pre_nms or None]
    if selector.nms_type == "box":
        kept: list[dict] = []
        for one in windows:
            overlaps = [np.float32(box_iou(one["box"], other["box"])) for other in kept]
            if all(iou <= np.float32(selector.nms_threshold) for iou in overlaps):
                kept.append(one)
    else:
        decay(windows, selector.nms_kernel, selector.nms_sigma, selector.mask_threshold)
        kept = sorted(windows, key=lambda w: -w["score"])
    found = []
    for one in kept[: selector.max_proposals]:
        of_class, category = 1.0, 0
        if model.classifier is not None:
            of_class, category = classified(one, image.features, model.classifier.linear)
        mask = pasted(one, IMAGE, selector.mask_threshold, STRIDE)
        found.append((one["score"] * of_class, category, mask))
    return found


def of_results(model: nn.Module) -> Found:
    (result,) = model.predict({"p2": None}, PADDED, [IMAGE], [IMAGE])
    found = result["instances"]
    parts = found.scores, found.pred_classes, found.pred_masks
    return list(zip(*(part.tolist() for part in parts)))


def of_runtime(model: nn.Module) -> Found:
    outputs = model.predict_fixed({"p2": None}, PADDED, None, torch.tensor([IMAGE]))
    settings = model.export_settings()
    cell = [settings["stride"] * one / other for one, other in zip(IMAGE, IMAGE)]
    windows = windows_of({name: v.numpy() for name, v in outputs.items()}, (cell[0], cell[1]))
    found = window_results([windows], IMAGE, settings["thresholds"], settings["results"])
    parts = found.scores, found.classes, found.masks
    return list(zip(*(part.tolist() for part in parts)))


VARIANTS = {
    "box": [f"{PREFIX}.NMS_THR", 0.6],
    "at the threshold": [f"{PREFIX}.NMS_THR", 0.8, f"{PREFIX}.MASK_THR", 0.4],
    "product": [f"{PREFIX}.SCORE", "product", f"{PREFIX}.NMS_PRE", 12],
    "matrix": [f"{PREFIX}.NMS_TYPE", "matrix", f"{PREFIX}.NMS_PRE", 15],
    "linear": [
        *(f"{PREFIX}.NMS_TYPE", "matrix", f"{PREFIX}.NMS_PRE", 15),
        *(f"{PREFIX}.NMS_KERNEL", "linear"),
    ],
    "classes": [f"{PREFIX}.CLASSIFY", True, f"{PREFIX}.NMS_THR", 0.3],
}


@torch.no_grad()
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_way_is_the_reference(variant: str, seed: int) -> None:
    opts = [f"{PREFIX}.TEST_SCALES", (), f"{PREFIX}.WINDOW_SIZE", M, f"{PREFIX}.MAX_PER_IMG", 9]
    model = tiny_model("InstanceFCN", K, opts=[*opts, *VARIANTS[variant]]).eval()
    image = predictions(seed)
    model.head.forward = lambda features: image
    if model.classifier is not None:
        model.classifier.linear = nn.Linear(CHANNELS, K)
    expected = reference(image, model)
    assert len(expected) > 3
    for found in (of_results(model), of_runtime(model)):
        assert [one[1:] for one in found] == [one[1:] for one in expected]
        scores = [one[0] for one in expected]
        assert [one[0] for one in found] == pytest.approx(scores, rel=1e-4)
