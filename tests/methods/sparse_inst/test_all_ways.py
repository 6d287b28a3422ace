"""Results, exported outputs made results by the runtime: all against predictions one by one."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solo_family.export.instance_results import instance_results
from solo_family.export.results import Sizes
from solo_family.methods.sparse_inst.decoder import DecoderOutputs
from solo_family.modeling import order
from solo_family.modeling.set_predictions import SetPredictions

from ...conftest import tiny_model

N, K = 14, 3
PADDED, IMAGE = (16, 24), (13, 20)
PREFIX = "MODEL.SPARSE_INST"
# (score, class, mask); and where each pixel's segment is, with the segments' classes.
Found = tuple[list[tuple[float, int, list]], tuple[list, list[int]] | None]


def predictions(seed: int) -> SetPredictions:
    """Of one image: smooth masks, of which some overlap much and one is empty."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randn(1, 5, 3, 4, generator=generator) * 6
    masks = F.interpolate(masks, PADDED, mode="bicubic")[0]
    masks = masks[torch.randint(5, (N,), generator=generator)]
    masks = masks + torch.randn(masks.shape, generator=generator) / 4
    masks[2] = -9
    class_logits = torch.randn(N, K, generator=generator) * 3
    objectness = torch.randn(N, generator=generator) * 2
    class_logits[2], objectness[2] = 5, 5
    return SetPredictions(class_logits, masks, objectness)


def pixels(mask: Tensor, least: float) -> set[int]:
    return {index for index, value in enumerate(mask.flatten().tolist()) if value > least}


def matrix_nms(ranked: list[dict], kernel: str, sigma: float) -> list[float]:
    """SOLOv2's Eq. 4 and 5, pair by pair (arXiv 2003.10152, section 3.3)."""

    def iou(one: dict, other: dict) -> float:
        if one["class"] != other["class"]:
            return 0.0
        return len(one["set"] & other["set"]) / max(len(one["set"] | other["set"]), 1)

    most = [max([iou(one, r) for r in ranked[:i]], default=0.0) for i, one in enumerate(ranked)]
    scores = []
    for j, one in enumerate(ranked):
        factors = [1.0]
        for i, other in enumerate(ranked[:j]):
            if kernel == "gaussian":
                factors.append(float(np.exp(sigma * (most[i] ** 2 - iou(other, one) ** 2))))
            elif most[i] < 1:
                factors.append((1 - iou(other, one)) / (1 - most[i]))
        scores.append(one["score"] * min(factors))
    return scores


def reference(image: SetPredictions, model: nn.Module) -> Found:
    selector, panoptic = model.selector, model.panoptic
    found = []
    for logits, mask_logits, objectness in zip(*image):
        best = max(logits.tolist())
        score = float((torch.tensor(best).sigmoid() * objectness.sigmoid()).sqrt())
        if score <= selector.class_threshold:
            continue
        soft = mask_logits.sigmoid()
        inside = [value for value in soft.flatten().tolist() if value > selector.mask_threshold]
        score *= sum(inside) / max(len(inside), 1)
        of_image = pixels(soft, selector.mask_threshold)
        found.append(
            {"score": score, "class": logits.tolist().index(best), "set": of_image, "soft": soft}
        )
    found.sort(key=lambda one: -one["score"])
    if selector.nms:
        decayed = matrix_nms(found, selector.nms_kernel, selector.nms_sigma)
        for one, score in zip(found, decayed):
            one["score"] = score
        found = [one for one in found if one["score"] >= selector.update_threshold]
        found.sort(key=lambda one: -one["score"])
    found = found[: selector.max_detections]
    segments = None if panoptic is None else merged(found, panoptic)
    if panoptic is not None:
        found = [one for one in found if one["class"] not in panoptic.stuff_classes]
    height, width = IMAGE
    masks = [one["soft"][:height, :width] > selector.mask_threshold for one in found]
    results = [(one["score"], one["class"], m.tolist()) for one, m in zip(found, masks)]
    return results, segments


def merged(found: list[dict], panoptic: Any) -> tuple[list, list[int]]:
    """MaskFormer's section 3.4, pixel by pixel (arXiv 2107.06278)."""
    found = [one for one in found if one["score"] > panoptic.object_threshold]
    height, width = IMAGE
    ids, classes = [[0] * width for _ in range(height)], []
    places = list(product(range(height), range(width)))
    winner = {
        (y, x): max(
            range(len(found)), key=lambda i: found[i]["score"] * float(found[i]["soft"][y, x])
        )
        for y, x in places
    }
    stuff: dict[int, int] = {}
    for index, one in enumerate(found):
        won = [place for place in places if winner[place] == index]
        area = sum(float(one["soft"][y, x]) >= 0.5 for y, x in places)
        if not won or not area or len(won) < panoptic.overlap_threshold * area:
            continue
        number = stuff.get(one["class"])
        if number is None:
            classes.append(one["class"])
            number = len(classes)
            if one["class"] in panoptic.stuff_classes:
                stuff[one["class"]] = number
        for y, x in won:
            ids[y][x] = number
    return ids, classes


def of_results(model: nn.Module) -> Found:
    with torch.no_grad():
        (result,) = model.predict({}, PADDED, [IMAGE], [IMAGE])
    instances = result["instances"]
    parts = instances.scores, instances.pred_classes, instances.pred_masks
    segments = None
    if "panoptic_seg" in result:
        ids, infos = result["panoptic_seg"]
        segments = ids.tolist(), [info["category_id"] for info in infos]
    return list(zip(*(part.tolist() for part in parts))), segments


def of_runtime(model: nn.Module) -> Found:
    with torch.no_grad():
        outputs = model.predict_fixed({}, PADDED, None, None)
    given = {name: value.numpy() for name, value in outputs.items()}
    settings, sizes = model.export_settings(), Sizes(PADDED, IMAGE, IMAGE)
    found = instance_results(given, sizes, settings["thresholds"], settings.get("results", {}))
    parts = found.instances.scores, found.instances.classes, found.instances.masks
    segments = None
    if found.panoptic_seg is not None:
        ids, infos = found.panoptic_seg
        segments = ids.tolist(), [info["category_id"] for info in infos]
    return list(zip(*(part.tolist() for part in parts))), segments


VARIANTS: dict[str, list] = {
    "plain": [],
    "the best": [f"{PREFIX}.MAX_DETECTIONS", 3, f"{PREFIX}.MASK_THRESHOLD", 0.7],
    "gaussian": [f"{PREFIX}.NMS_TYPE", "matrix", f"{PREFIX}.UPDATE_THR", 0.2],
    "linear": [f"{PREFIX}.NMS_TYPE", "matrix", f"{PREFIX}.NMS_KERNEL", "linear"],
    "panoptic": [
        *(f"{PREFIX}.PANOPTIC_ON", True, "MODEL.STUFF_IDS", [1]),
        *(f"{PREFIX}.OVERLAP_THRESHOLD", 0.3, f"{PREFIX}.OBJECT_MASK_THRESHOLD", 0.45),
    ],
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_way_is_the_reference(
    variant: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("SparseInst", opts=[f"{PREFIX}.CLS_THRESHOLD", 0.4, *VARIANTS[variant]])
    image = predictions(seed)
    batch = SetPredictions(*(part[None] for part in image))
    decoded = DecoderOutputs(batch, torch.zeros(1, 1, N, 2, 3))
    monkeypatch.setattr(model, "_decode", lambda features: decoded)
    expected, segments = reference(image, model.eval())
    assert 2 < len(expected) < N
    with_pixels = [one for one in expected if one[0] > 0]
    ways = {"a CPU": (of_results(model), expected)}
    # An exported graph's scores of 0 are of nothing.
    ways["the runtime"] = of_runtime(model), with_pixels
    monkeypatch.setattr(order, "waits", lambda _: True)
    ways["a GPU"] = of_results(model), expected
    for way, ((found, found_segments), wanted) in ways.items():
        assert [one[1:] for one in found] == [one[1:] for one in wanted], way
        scores = [one[0] for one in wanted]
        assert [one[0] for one in found] == pytest.approx(scores, rel=1e-4, abs=1e-6), way
        assert found_segments == segments, way
