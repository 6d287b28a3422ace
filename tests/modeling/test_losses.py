import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor

from solo_family.methods.grid import mask_losses
from solo_family.methods.grid.criterion import GridCriterion
from solo_family.modeling.dice import dice_loss
from solo_family.modeling.focal import focal_loss
from solo_family.modeling.normalizer import normalizer

from ..conftest import TINY, picture, tiny_model
from ..methods.grid.test_assigner import Level, Objects, reference_targets

SIDES = dict(zip(TINY["SOLOv2"][::2], TINY["SOLOv2"][1::2]))["MODEL.SOLOV2.NUM_GRIDS"]
RANGES = dict(zip(TINY["SOLOv2"][::2], TINY["SOLOv2"][1::2]))["MODEL.SOLOV2.FPN_SCALE_RANGES"]


def reference_dice(p: np.ndarray, q: np.ndarray) -> float:
    return 1 - 2 * (p * q).sum() / ((p * p).sum() + 1e-3 + (q * q).sum() + 1e-3)


def reference_focal(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """With alpha 0.25 and gamma 2; log p is -log(1 + exp(-x))."""
    x = x.astype(np.float64)
    p = np.exp(-np.logaddexp(0, -x))
    positive = -0.25 * (1 - p) ** 2 * -np.logaddexp(0, -x)
    negative = -0.75 * p**2 * -np.logaddexp(0, x)
    return np.where(t, positive, negative)


def criterion(num_classes: int = 2, dice_normalizer: str = "pairs") -> GridCriterion:
    return GridCriterion(
        num_classes=num_classes,
        focal_alpha=0.25,
        focal_gamma=2.0,
        focal_weight=1.0,
        mask_weight=3.0,
        dice_normalizer=dice_normalizer,
    )


def test_dice_is_the_formula() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 7, 9) * 3, torch.rand(6, 7, 9) < 0.4
    targets[0], targets[1] = False, True
    p = 1 / (1 + np.exp(-logits.double().numpy()))
    expected = [reference_dice(one, other.numpy()) for one, other in zip(p, targets)]
    found = dice_loss(logits, targets)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    soft = torch.rand(6, 7, 9)
    expected = [reference_dice(one, other.double().numpy()) for one, other in zip(p, soft)]
    np.testing.assert_allclose(dice_loss(logits, soft).numpy(), expected, rtol=1e-5)


def test_the_dice_of_sparseinst_and_of_maskformer() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 7, 9) * 3, torch.rand(6, 7, 9) < 0.4
    p, q = logits.double().sigmoid().numpy(), targets.numpy()
    for index, (one, other) in enumerate(zip(p, q)):
        overlap = 2 * (one * other).sum()
        sparse_inst = 1 - overlap / ((one * one).sum() + other.sum() + 1e-4)
        found = dice_loss(logits, targets, eps=5e-5)[index]
        assert found.item() == pytest.approx(sparse_inst, rel=1e-5)
        mask_former = 1 - (overlap + 1) / (one.sum() + other.sum() + 1)
        found = dice_loss(logits, targets, eps=0, smooth=1, squared=False)[index]
        assert found.item() == pytest.approx(mask_former, rel=1e-5)


def test_dice_of_a_perfect_and_of_an_empty_mask() -> None:
    targets = torch.zeros(2, 10, 10, dtype=torch.bool)
    targets[0, :5] = True
    logits = torch.where(targets, 50.0, -50.0)
    # Of two empty masks it is 1 - 0 / 0.002.
    np.testing.assert_allclose(dice_loss(logits, targets).numpy(), [2e-5, 1], atol=1e-6)


def test_focal_is_the_formula() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(3, 40) * 4, torch.rand(3, 40) < 0.3
    found = focal_loss(logits, targets, alpha=0.25, gamma=2.0)
    assert found.dtype == torch.float32
    expected = reference_focal(logits.numpy(), targets.numpy())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    # 90 000 pixels: the areas are above float16's largest number.
    logits = (torch.randn(2, 300, 300) * 5 + 20).to(dtype).requires_grad_()
    targets = torch.ones(2, 300, 300, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        dice = dice_loss(logits, targets)
        focal = focal_loss(logits, targets, alpha=0.25, gamma=2.0)
    wide = logits.detach().float()
    assert dice.dtype == focal.dtype == torch.float32
    assert torch.equal(dice, dice_loss(wide, targets))
    assert torch.equal(focal, focal_loss(wide, targets, alpha=0.25, gamma=2.0))
    (dice.sum() + focal.sum()).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_what_is_surely_right_has_no_focal_loss_and_no_gradient(
    gamma: float, dtype: torch.dtype
) -> None:
    """Also for the exponents below 1 of RetinaNet's Table 1b."""
    logits = torch.tensor([2e3, -2e3], dtype=dtype).requires_grad_()
    loss = focal_loss(logits, torch.tensor([True, False]), alpha=0.25, gamma=gamma)
    loss.sum().backward()
    assert not loss.any()
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [-6e4, 6e4])
def test_large_logits_are_finite(dtype: torch.dtype, size: float) -> None:
    logits = torch.full((2, 4, 4), size, dtype=dtype, requires_grad=True)
    targets = torch.zeros(2, 4, 4, dtype=torch.bool)
    targets[0] = True
    dice = dice_loss(logits, targets)
    focal = focal_loss(logits, targets, alpha=0.25, gamma=2.0)
    expected = reference_focal(logits.detach().float().numpy(), targets.numpy())
    np.testing.assert_allclose(focal.detach().numpy(), expected, rtol=1e-5)
    # The full mask is found, or nothing is; of an empty mask the loss is 1 either way.
    expected_dice = [0 if size > 0 else 1, 1]
    np.testing.assert_allclose(dice.detach().numpy(), expected_dice, atol=1e-3)
    (dice.sum() + focal.sum()).backward()
    assert dice.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def batch_of_cells() -> tuple[list[Tensor], list[Tensor]]:
    """Two levels of grids of 3 and 2 cells a side, two images, two classes."""
    torch.manual_seed(0)
    logits = [torch.randn(2, 2, 3, 3), torch.randn(2, 2, 2, 2)]
    labels = [torch.full((2, 9), 2), torch.full((2, 4), 2)]
    labels[0][0, 1], labels[0][0, 5], labels[0][1, 8], labels[1][1, 2] = 0, 1, 1, 0
    return logits, labels


@pytest.mark.parametrize("dice_normalizer", ["pairs", "cells"])
def test_criterion_weights_and_normalises(dice_normalizer: str) -> None:
    logits, labels = batch_of_cells()
    mask_losses = torch.tensor([0.1, 0.2, 0.4, 0.8, 0.9, 0.3])
    losses = criterion(dice_normalizer=dice_normalizer)(
        logits, torch.cat(labels, dim=1), mask_losses
    )
    total, positive = 0.0, 0
    for level, level_labels, side in zip(logits, labels, (3, 2)):
        for image in range(2):
            for row in range(side):
                for column in range(side):
                    label = int(level_labels[image, row * side + column])
                    positive += label < 2
                    for k in range(2):
                        x = level[image, k, row, column].numpy()
                        total += float(reference_focal(x, np.array(label == k)))
    assert positive == 4
    assert set(losses) == {"loss_class", "loss_dice"}
    assert float(losses["loss_class"]) == pytest.approx(total / (4 + 1), rel=1e-5)
    divisor = {"pairs": 6, "cells": 4}[dice_normalizer]
    assert float(losses["loss_dice"]) == pytest.approx(3 * 2.7 / divisor, rel=1e-5)


def test_criterion_applies_both_weights() -> None:
    logits, labels = batch_of_cells()
    mask_losses = torch.tensor([0.5])
    plain = criterion()(logits, torch.cat(labels, dim=1), mask_losses)
    heavy = GridCriterion(
        num_classes=2, focal_alpha=0.25, focal_gamma=2.0, focal_weight=2.5, mask_weight=7.0
    )(logits, torch.cat(labels, dim=1), mask_losses)
    torch.testing.assert_close(heavy["loss_class"], 2.5 * plain["loss_class"])
    torch.testing.assert_close(heavy["loss_dice"], 7 / 3 * plain["loss_dice"])


@pytest.mark.parametrize("dice_normalizer", ["pairs", "cells"])
def test_no_pairs_give_zero_with_a_gradient(dice_normalizer: str) -> None:
    logits = [torch.zeros(1, 2, 3, 3, requires_grad=True)]
    masks = torch.zeros(4, 5, 5, requires_grad=True)
    none = dice_loss(masks[:0], torch.zeros(0, 5, 5, dtype=torch.bool))
    labels = [torch.full((1, 9), 2)]
    losses = criterion(dice_normalizer=dice_normalizer)(logits, torch.cat(labels, dim=1), none)
    assert losses["loss_dice"].item() == 0
    # 18 negatives of probability 1/2, over 0 + 1.
    expected = 18 * 0.75 * 0.25 * np.log(2)
    assert losses["loss_class"].item() == pytest.approx(expected, rel=1e-5)
    torch.stack(list(losses.values())).sum().backward()
    assert masks.grad is not None
    assert (masks.grad == 0).all()
    assert logits[0].grad is not None
    assert (logits[0].grad > 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_criterion_takes_half_precision(dtype: torch.dtype) -> None:
    logits, labels = batch_of_cells()
    logits = [level.mul(1e4).to(dtype) for level in logits]
    found = criterion()(logits, torch.cat(labels, dim=1), torch.tensor([0.5]))["loss_class"]
    wide = criterion()(
        [level.float() for level in logits], torch.cat(labels, dim=1), torch.tensor([0.5])
    )
    assert found.dtype == torch.float32
    assert found.isfinite()
    assert torch.equal(found, wide["loss_class"])


@pytest.mark.parametrize("globally", [False, True])
@pytest.mark.parametrize(
    ("count", "offset", "expected"), [(0, 0, 1), (0, 1, 1), (3, 0, 3), (3, 1, 4)]
)
def test_normalizer_of_one_process(
    globally: bool, count: int, offset: int, expected: float
) -> None:
    found = normalizer(torch.tensor(count), globally=globally, offset=offset)
    assert found.dtype == torch.float32
    assert found.ndim == 0
    assert float(found) == expected


def in_one_cell(height: int = 64, width: int = 96) -> dict:
    """An image with two nested objects of equal centre, so that they share cells, and a third."""
    image = picture(height, width, objects=0)
    masks = torch.zeros(3, height, width, dtype=torch.bool)
    places = [(20, 20, 44, 44), (24, 24, 40, 40), (60, 5, 90, 50)]
    for mask, (x0, y0, x1, y1) in zip(masks, places):
        mask[y0:y1, x0:x1] = True
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(torch.tensor(places, dtype=torch.float32))
    instances.gt_classes = torch.tensor([0, 2, 1])
    instances.gt_masks = BitMasks(masks)
    return {**image, "instances": instances}


def reference_losses(
    category_logits: list[Tensor],
    kernels: Tensor,
    mask_features: Tensor,
    batch: list[dict],
    padded_size: tuple[int, int],
    shared_cell: str,
) -> tuple[float, float]:
    """Returns the category and the mask loss; background is class 3, the stride of masks 4."""
    focal_total, positive, dice = 0.0, 0, []
    for image, item in enumerate(batch):
        gt = item["instances"]
        objects = Objects(gt.gt_boxes.tensor, gt.gt_classes, gt.gt_masks.tensor, padded_size)
        before = 0
        for level, (side, scale_range) in enumerate(zip(SIDES, RANGES)):
            labels, pairs = reference_targets(
                objects, Level(side, scale_range), 0.2, 3, shared_cell
            )
            for cell, label in enumerate(labels):
                positive += label != 3
                x = category_logits[level][image, :, cell // side, cell % side].numpy()
                focal_total += reference_focal(x, np.arange(3) == label).sum()
            for index, cell in pairs:
                kernel = kernels[image, before + cell].reshape(1, -1, 1, 1)
                logits = F.conv2d(mask_features[image : image + 1].double(), kernel.double())[0, 0]
                padded = np.zeros(padded_size, np.uint8)
                height, width = gt.image_size
                padded[:height, :width] = gt.gt_masks.tensor[index].numpy()
                small = cv2.resize(padded, (padded_size[1] // 4, padded_size[0] // 4))
                dice.append(reference_dice(1 / (1 + np.exp(-logits.numpy())), small))
            before += side * side
    return focal_total / (positive + 1), 3 * float(np.mean(dice)) if dice else 0.0


def livelier(model: torch.nn.Module) -> torch.nn.Module:
    """Moves the mask logits of an untrained model away from 0."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        model.head.kernel_predictor.weight.normal_(std=0.3, generator=generator)
        model.head.category_branch.logits.weight.normal_(std=0.3, generator=generator)
    return model


@pytest.mark.parametrize("shared_cell", ["both", "last"])
@pytest.mark.parametrize(
    "batch",
    [
        [picture(seed=7)],
        [picture(50, 90, objects=3, seed=8)],
        [in_one_cell()],
        [picture(50, 40, objects=1, seed=9), picture(60, 96, objects=0), in_one_cell()],
    ],
    ids=["one image", "padded", "shared cell", "batch"],
)
def test_the_losses_of_solov2(batch: list[dict], shared_cell: str) -> None:
    model = livelier(tiny_model(opts=["MODEL.SOLOV2.SHARED_CELL", shared_cell]))
    losses = model(batch)
    images = model.preprocess([item["image"] for item in batch])
    padded_size = tuple(images.tensor.shape[-2:])
    with torch.no_grad():
        outputs = model.run_head(model.backbone(images.tensor), padded_size)
    predicted = (outputs.category_logits, outputs.kernels, outputs.mask_features)
    category, mask = reference_losses(*predicted, batch, padded_size, shared_cell)
    assert losses["loss_class"].item() == pytest.approx(category, rel=1e-4)
    assert losses["loss_dice"].item() == pytest.approx(mask, rel=1e-4)
    assert mask > 0


def test_two_objects_in_one_cell_make_two_pairs() -> None:
    """Guards the case above: its image does have a cell with two objects."""
    gt = in_one_cell()["instances"]
    objects = Objects(gt.gt_boxes.tensor, gt.gt_classes, gt.gt_masks.tensor, (64, 96))
    for level in (Level(SIDES[0], RANGES[0]), Level(SIDES[1], RANGES[1])):
        _, both = reference_targets(objects, level, 0.2, 3, "both")
        _, last = reference_targets(objects, level, 0.2, 3, "last")
        assert len(both) > len(last) > 0


@pytest.mark.parametrize("at_once", [1, 5])
def test_crowded_images_give_the_same_in_parts(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = [picture(objects=5, seed=3), picture(objects=0), in_one_cell()]

    def loss_and_gradients() -> tuple[Tensor, dict[str, Tensor]]:
        model = livelier(tiny_model())
        loss = model(batch)["loss_dice"]
        loss.backward()
        return loss.detach(), {
            name: parameter.grad
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
        }

    monkeypatch.setattr(mask_losses, "_AT_ONCE", 10**6)
    loss, gradients = loss_and_gradients()
    monkeypatch.setattr(mask_losses, "_AT_ONCE", at_once)
    other_loss, other_gradients = loss_and_gradients()
    torch.testing.assert_close(other_loss, loss)
    assert gradients.keys() == other_gradients.keys()
    assert any(name.startswith("backbone") for name in gradients)
    for name, gradient in gradients.items():
        # Of the whole tensor: the batch norm of a tiny model makes single values noisy.
        assert (other_gradients[name] - gradient).norm() <= 1e-3 * gradient.norm() + 1e-7, name
