"""The losses of SOLO against every mask in full, and its ablations."""

import cv2
import numpy as np
import pytest
import torch

from ...conftest import picture, tiny_cfg, tiny_model
from ...modeling.test_losses import in_one_cell, reference_dice, reference_focal
from ..grid.test_assigner import Level, Objects, reference_targets
from . import solo_reference
from .solo_reference import RANGES, SIDES, STRIDES, all_masks, decoupled_maps, solo_masks


def reference_bce(p: np.ndarray, q: np.ndarray) -> float:
    """A pixel of the object counts twice."""
    return float(np.where(q, -2 * np.log(p), -np.log(1 - p)).mean())


def reference_mean_focal(p: np.ndarray, q: np.ndarray) -> float:
    return float(reference_focal(np.log(p) - np.log(1 - p), q).mean())


# Each with its weight (paper, section 4.2).
NAMES = {"dice": "loss_dice", "bce": "loss_mask", "focal": "loss_mask"}
MASK_LOSSES = {
    "dice": (reference_dice, 3.0),
    "bce": (reference_bce, 10.0),
    "focal": (reference_mean_focal, 20.0),
}


def reference_losses(
    model: torch.nn.Module, batch: list[dict], kind: str, shared_cell: str
) -> tuple[float, float]:
    """Returns the category and the mask loss; background is class 3."""
    images = model.preprocess([item["image"] for item in batch])
    padded = tuple(images.tensor.shape[-2:])
    state = model.state_dict()
    with torch.no_grad():
        features = model.backbone(images.tensor)
        logits = solo_reference.category_logits(state, features)
        if type(model).__name__ == "SOLO":
            masks = [level.double().sigmoid() for level in solo_masks(state, features)]
        else:
            maps = decoupled_maps(state, features)
            masks = [all_masks(x.double().sigmoid(), y.double().sigmoid()) for x, y in maps]
    mask_loss, weight = MASK_LOSSES[kind]
    focal, positive, values = 0.0, 0, []
    for image, item in enumerate(batch):
        gt = item["instances"]
        objects = Objects(gt.gt_boxes.tensor, gt.gt_classes, gt.gt_masks.tensor, padded)
        for level, side in enumerate(SIDES):
            labels, pairs = reference_targets(
                objects, Level(side, RANGES[level]), 0.2, 3, shared_cell
            )
            for cell, label in enumerate(labels):
                positive += label != 3
                x = logits[level][image, :, cell // side, cell % side].numpy()
                focal += reference_focal(x, np.arange(3) == label).sum()
            stride = STRIDES[level] // 2
            for index, cell in pairs:
                whole = np.zeros(padded, np.uint8)
                height, width = gt.image_size
                whole[:height, :width] = gt.gt_masks.tensor[index].numpy()
                small = cv2.resize(whole, (padded[1] // stride, padded[0] // stride))
                values.append(mask_loss(masks[level][image, cell].numpy(), small))
    return focal / (positive + 1), weight * float(np.mean(values)) if values else 0.0


def lively(method: str, opts: list | None = None) -> torch.nn.Module:
    """A tiny model whose masks are not all alike."""
    model = tiny_model(method, opts=opts)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.head.named_parameters():
            if "predictors" in name or "category_branch.logits" in name:
                parameter.normal_(std=0.3, generator=generator)
    return model


@pytest.mark.parametrize("method", ["SOLO", "DecoupledSOLO"])
@pytest.mark.parametrize("kind", MASK_LOSSES)
@pytest.mark.parametrize("shared_cell", ["last", "both"])
def test_losses_are_those_of_the_reference(method: str, kind: str, shared_cell: str) -> None:
    opts = ["MODEL.SOLO.LOSS.MASK_LOSS", kind, "MODEL.SOLO.SHARED_CELL", shared_cell]
    model = lively(method, opts)
    batch = [picture(50, 40, objects=1, seed=9), picture(60, 96, objects=0), in_one_cell()]
    losses = model(batch)
    category, mask = reference_losses(model, batch, kind, shared_cell)
    assert losses["loss_class"].item() == pytest.approx(category, rel=1e-4)
    assert losses[NAMES[kind]].item() == pytest.approx(mask, rel=1e-4)
    assert mask > 0


@pytest.mark.parametrize("method", ["SOLO", "DecoupledSOLO"])
def test_the_later_of_two_objects_in_a_cell_has_its_mask(method: str) -> None:
    """By default, as published; the objects of this image share cells."""
    assert tiny_cfg(method).MODEL.SOLO.SHARED_CELL == "last"
    batch = [in_one_cell()]
    last = lively(method)(batch)
    both = lively(method, ["MODEL.SOLO.SHARED_CELL", "both"])(batch)
    assert last["loss_dice"].item() != pytest.approx(both["loss_dice"].item(), rel=1e-3)
    assert last["loss_class"].item() == pytest.approx(both["loss_class"].item())


def outputs(opts: list) -> dict[str, torch.Tensor]:
    """Losses and outputs of the head, from the same weights where there are such."""
    model = lively("SOLO", opts)
    losses = {name: loss.detach() for name, loss in model([picture(), in_one_cell()]).items()}
    with torch.no_grad():
        features = model.backbone(model.preprocess([picture()["image"]]).tensor)
        found = model.run_head(features, (64, 96))
    return losses | {"logits": found.category_logits[0], "masks": found.mask_features[0]}


@pytest.mark.parametrize(
    ("key", "value", "changed"),
    [
        ("LOSS.DICE_WEIGHT", 1.0, "loss_dice"),
        ("CATEGORY_ALIGN", "adaptive_pool", "logits"),
        ("CATEGORY_ALIGN", "region_grid", "logits"),
        ("USE_COORD_CONV", False, "masks"),
        ("NUM_INSTANCE_CONVS", 2, "masks"),
        ("SIGMA", 0.8, "loss_class"),
        ("SHARED_CELL", "both", "loss_dice"),
    ],
)
def test_each_switch_changes_the_graph_or_the_loss(key: str, value: object, changed: str) -> None:
    default, other = outputs([]), outputs([f"MODEL.SOLO.{key}", value])
    assert not torch.allclose(default[changed], other[changed], rtol=1e-4)


def test_losses_of_half_precision_are_finite() -> None:
    for kind in MASK_LOSSES:
        model = lively("DecoupledSOLO", ["MODEL.SOLO.LOSS.MASK_LOSS", kind])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = model([picture()])
        assert losses[NAMES[kind]].dtype == torch.float32
        assert losses[NAMES[kind]].isfinite()


@pytest.mark.parametrize("method", ["SOLO", "DecoupledSOLO", "SOLOv2"])
def test_an_images_masks_have_no_gradient_of_the_batchs_size(method: str) -> None:
    """The gradient of `masks[image]` is zeros of all images; that of `unbind` is not."""
    loss = sum(tiny_model(method)([picture(seed=1), picture(seed=2)]).values())
    functions, waiting = set(), [loss.grad_fn]
    while waiting:
        function = waiting.pop()
        if function is not None and function not in functions:
            functions.add(function)
            waiting += [following for following, _ in function.next_functions]
    names = {function.name() for function in functions}
    assert "UnbindBackward0" in names
    assert "SelectBackward0" not in names
