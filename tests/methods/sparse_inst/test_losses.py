"""The losses of SparseInst against a slow reference that tries every matching."""

import itertools
import logging
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from solo_family.methods.sparse_inst.losses import sparse_inst_losses
from solo_family.modeling.matcher import Matches
from solo_family.modeling.set_predictions import LayeredPredictions, SetPredictions, SetTargets

from ...conftest import assert_finite_gradients, picture, tiny_model

NAMES = {"loss_class", "loss_dice", "loss_mask", "loss_objectness"}
DECODER = "MODEL.SPARSE_INST.DECODER"


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


def cross_entropy(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x) - x * t


def dice(p: np.ndarray, q: np.ndarray) -> float:
    return float(2 * (p * q).sum() / ((p * p).sum() + (q * q).sum() + 1e-4))


def soft_masks(item: dict, padded_size: tuple[int, int]) -> np.ndarray:
    """Masks of one image, bilinearly at a quarter of the padded size."""
    masks = item["instances"].gt_masks.tensor
    padded = torch.zeros(len(masks), 1, *padded_size)
    padded[:, 0, : masks.shape[1], : masks.shape[2]] = masks
    size = (padded_size[0] // 4, padded_size[1] // 4)
    return F.interpolate(padded, size=size, mode="bilinear")[:, 0].double().numpy()


def best_pairs(score: np.ndarray) -> list[tuple[int, int]]:
    """Tries every choice of different predictions for the objects (no more of these)."""
    objects = range(score.shape[1])
    best = max(
        itertools.permutations(range(score.shape[0]), score.shape[1]),
        key=lambda chosen: sum(score[n, g] for n, g in zip(chosen, objects)),
    )
    return list(zip(best, objects))


def reference_losses(
    model: nn.Module, batch: list[dict], alpha: float = 0.8, beta: float = 0.2
) -> dict[str, float]:
    images = model.preprocess([item["image"] for item in batch])
    with torch.no_grad():
        features = model.backbone(images.tensor)
        levels = [features[name] for name in ("res3", "res4", "res5")]
        predictions = model.decoder(model.encoder(levels)).predictions
    outputs = [part.double().numpy() for part in predictions]
    focal, dices, pixels, objectness, num_objects = 0.0, [], [], [], 0
    for item, class_logits, mask_logits, objectness_logits in zip(batch, *outputs):
        classes = item["instances"].gt_classes.numpy()
        masks = soft_masks(item, images.tensor.shape[-2:])
        num_objects += len(classes)
        score = np.array(
            [
                [
                    dice(sigmoid(logits), mask) ** alpha * sigmoid(one[k]) ** beta
                    for mask, k in zip(masks, classes)
                ]
                for logits, one in zip(mask_logits, class_logits)
            ]
        ).reshape(len(mask_logits), len(classes))
        labels = np.zeros_like(class_logits)
        for n, g in best_pairs(score):
            labels[n, classes[g]] = 1
            p, q = sigmoid(mask_logits[n]), masks[g]
            dices.append(1 - dice(p, q))
            pixels.append(cross_entropy(mask_logits[n], q))
            hard, true = p >= 0.4, q > 0.5
            iou = (hard & true).sum() / ((hard | true).sum() + 1e-6)
            objectness.append(cross_entropy(objectness_logits[n], iou))
        p = sigmoid(class_logits)
        weight = np.where(labels == 1, 0.25 * (1 - p) ** 2, 0.75 * p**2)
        focal += float((weight * cross_entropy(class_logits, labels)).sum())
    count = max(num_objects, 1)
    return {
        "loss_class": 2 * focal / count,
        "loss_dice": 2 * sum(dices) / count,
        "loss_mask": 5 * float(np.mean(pixels)) if pixels else 0.0,
        "loss_objectness": float(np.mean(objectness)) if objectness else 0.0,
    }


def lively_model(opts: list | None = None) -> nn.Module:
    """A tiny model whose predictions differ from one another."""
    model = tiny_model("SparseInst", opts=[f"{DECODER}.NUM_MASKS", 6, *(opts or [])])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.decoder.named_parameters():
            if name.endswith("weight"):
                # Of mask logits in the tens, and class logits of a few.
                std = 1.0 if "class_logits" in name else 0.15
                parameter.normal_(std=std, generator=generator)
            elif "class_logits" in name:
                parameter.zero_()
    return model


BATCHES = {
    "one image": [picture(seed=7)],
    "padded": [picture(50, 90, objects=3, seed=8)],
    "batch": [picture(50, 40, seed=9), picture(60, 96, objects=0), picture(objects=3, seed=3)],
    "no objects": [picture(objects=0), picture(50, 80, objects=0, seed=1)],
}


@pytest.mark.parametrize("batch", list(BATCHES.values()), ids=list(BATCHES))
def test_the_losses_are_the_reference(batch: list[dict]) -> None:
    model = lively_model()
    losses = model(batch)
    assert set(losses) == NAMES
    for name, expected in reference_losses(model, batch).items():
        assert losses[name].item() == pytest.approx(expected, rel=1e-4, abs=1e-7), name
    assert losses["loss_class"] > 0


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 1.0), (1.0, 0.0)])
def test_the_exponents_of_the_matching_are_keys(alpha: float, beta: float) -> None:
    keys = ["MODEL.SPARSE_INST.MATCHER.ALPHA", alpha, "MODEL.SPARSE_INST.MATCHER.BETA", beta]
    model = lively_model(keys)
    batch = [picture(objects=3, seed=seed) for seed in range(3)]
    expected = reference_losses(model, batch, alpha, beta)
    assert expected != reference_losses(model, batch)
    losses = model(batch)
    for name in NAMES:
        assert losses[name].item() == pytest.approx(expected[name], rel=1e-4), name


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("CLASS_WEIGHT", "loss_class"),
        ("MASK_PIXEL_WEIGHT", "loss_mask"),
        ("MASK_DICE_WEIGHT", "loss_dice"),
        ("OBJECTNESS_WEIGHT", "loss_objectness"),
    ],
)
def test_every_weight_is_a_key(key: str, name: str) -> None:
    batch = BATCHES["one image"]
    plain = lively_model()(batch)
    heavy = lively_model([f"MODEL.SPARSE_INST.LOSS.{key}", 7.0])(batch)
    default = {"loss_class": 2, "loss_mask": 5, "loss_dice": 2, "loss_objectness": 1}[name]
    for other in NAMES:
        factor = 7 / default if other == name else 1
        torch.testing.assert_close(heavy[other], factor * plain[other])


@pytest.mark.parametrize(
    ("items", "names"),
    [(("labels",), {"loss_class"}), (("masks",), NAMES - {"loss_class"})],
)
def test_the_items_of_the_loss_are_a_key(items: tuple[str, ...], names: set[str]) -> None:
    model = lively_model(["MODEL.SPARSE_INST.LOSS.ITEMS", items])
    assert set(model(BATCHES["one image"])) == names


def test_more_objects_than_maps_warn_once_and_train(caplog: pytest.LogCaptureFixture) -> None:
    model = lively_model([f"{DECODER}.NUM_MASKS", 2])
    crowded = [picture(objects=5, seed=2), picture(objects=1, seed=3)]
    with caplog.at_level(logging.WARNING, "solo_family"):
        model(crowded)
        losses = model(crowded)
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert "5 objects" in warnings[0]
    assert "MODEL.SPARSE_INST.DECODER.NUM_MASKS" in warnings[0]
    sum(losses.values()).backward()
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())


@pytest.mark.parametrize(
    "decoder", ["BaseIAMDecoder", "GroupIAMSoftDecoder", "CrossAttentionDecoder"]
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("objects", [(2, 0), (0, 0)])
def test_mixed_precision_is_finite(
    decoder: str, dtype: torch.dtype, objects: tuple[int, ...]
) -> None:
    model = tiny_model("SparseInst", opts=[f"{DECODER}.NAME", decoder])
    batch = [picture(objects=count, seed=count) for count in objects]
    with torch.autocast("cpu", dtype=dtype):
        losses = model(batch)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert_finite_gradients(model, losses)


def test_the_dice_of_a_tiny_object() -> None:
    """One pixel, barely covered: here the 0.0001 in the denominator counts."""
    p, q = 0.01, 0.25
    masks = torch.zeros(1, 4, 4)
    masks[0, 1, 1] = q
    logits = torch.full((1, 1, 4, 4), -30.0)
    logits[0, 0, 1, 1] = math.log(p / (1 - p))
    zero = torch.zeros(1, dtype=torch.int64)
    predictions = SetPredictions(torch.zeros(1, 1, 2), logits, torch.zeros(1, 1))
    losses = sparse_inst_losses(
        LayeredPredictions.stack([predictions]),
        SetTargets.join([zero], [masks]),
        Matches(zero[None], zero[None], [1]),
        torch.tensor(1.0),
    )
    expected = 1 - 2 * p * q / (p * p + q * q + 1e-4)
    assert losses["loss_dice"].item() == pytest.approx(expected, rel=1e-6)


def test_one_prediction_learns_one_object() -> None:
    """Two images of the same object: each is matched with one prediction, not with all."""
    model = lively_model()
    batch = [picture(objects=1, seed=4)] * 2
    seen = []
    losses = model.criterion.losses
    model.criterion.losses = lambda *args: seen.append(args) or losses(*args)
    model(batch)
    assert seen[0][2].counts == [1, 1]
    assert seen[0][2].predictions.shape == (1, 2)
    assert math.isclose(seen[0][3].item(), 2)
