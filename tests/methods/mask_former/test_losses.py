"""MaskFormer's matching cost and losses against the paper's formulas, pixel by pixel."""

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from solo_family.methods.mask_former import losses as mask_classification
from solo_family.methods.mask_former.losses import MaskClassificationLosses
from solo_family.methods.mask_former.point_mask_losses import PointSampler
from solo_family.modeling.matching_costs import fixed_cost, mask_former_cost
from solo_family.modeling.set_criterion import SetCriterion
from solo_family.modeling.set_predictions import LayeredPredictions, SetPredictions, SetTargets

from ...conftest import assert_finite_gradients, picture, tiny_model

K = 3  # classes
N = 4  # predictions


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def focal_of_pixel(logit: float, target: bool) -> float:
    """arXiv 1708.02002, Eq. 5, with alpha 0.25 and gamma 2."""
    p_t = sigmoid(logit) if target else 1 - sigmoid(logit)
    return -(0.25 if target else 0.75) * (1 - p_t) ** 2 * math.log(p_t)


def focal(logits: Tensor, mask: Tensor) -> float:
    pairs = zip(logits.flatten().tolist(), mask.flatten().tolist())
    return sum(focal_of_pixel(*pair) for pair in pairs) / mask.numel()


def dice(logits: Tensor, mask: Tensor) -> float:
    """One minus twice the overlap by the sum of both sizes, with 1 added to both."""
    p = [sigmoid(x) for x in logits.flatten().tolist()]
    q = [float(x) for x in mask.flatten().tolist()]
    return 1 - (2 * sum(a * b for a, b in zip(p, q)) + 1) / (sum(p) + sum(q) + 1)


def cost(class_logits: Tensor, mask_logits: Tensor, classes: Tensor, masks: Tensor) -> Tensor:
    """Section 3.3: -p(c) + L_mask, masks at the nearest of the 4 x 4 pixels: the first."""
    small = masks[:, ::4, ::4]
    result = torch.zeros(len(class_logits), len(classes))
    for i, j in itertools.product(range(len(class_logits)), range(len(classes))):
        p = class_logits[i].softmax(0)[classes[j]]
        mask_cost = 20 * focal(mask_logits[i], small[j]) + dice(mask_logits[i], small[j])
        result[i, j] = -p + mask_cost
    return result


def best_assignment(costs: Tensor) -> dict[int, int]:
    """Tries all: {object: prediction}."""
    n, g = costs.shape
    choices = itertools.permutations(range(n), g)
    best = min(choices, key=lambda chosen: sum(float(costs[i, j]) for j, i in enumerate(chosen)))
    return dict(enumerate(best))


def reference(layer: SetPredictions, targets: SetTargets) -> dict[str, float]:
    """Eq. 2 of one layer, weighted as in section 4.2."""
    matched_masks, labels, num_objects = [], [], 0
    for image, (classes, masks) in enumerate(by_image(targets)):
        costs = cost(layer.class_logits[image], layer.mask_logits[image], classes, masks)
        image_labels = [K] * N
        for j, i in best_assignment(costs).items():
            image_labels[i] = int(classes[j])
            matched_masks.append((layer.mask_logits[image, i], masks[j]))
        labels.append(image_labels)
        num_objects += len(classes)
    total = weight = 0.0
    for image, image_labels in enumerate(labels):
        for i, label in enumerate(image_labels):
            w = 0.1 if label == K else 1.0
            total -= w * float(layer.class_logits[image, i].log_softmax(0)[label])
            weight += w
    focal_sum = dice_sum = 0.0
    for logits, mask in matched_masks:
        up = F.interpolate(logits[None, None], size=mask.shape, mode="bilinear")[0, 0]
        focal_sum += focal(up, mask)
        dice_sum += dice(up, mask)
    count = max(1, num_objects)
    return {
        "loss_ce": total / weight,
        "loss_mask": 20 * focal_sum / count,
        "loss_dice": dice_sum / count,
    }


def predictions(seed: int = 0) -> SetPredictions:
    generator = torch.Generator().manual_seed(seed)
    return SetPredictions(
        torch.randn(2, N, K + 1, generator=generator, requires_grad=True),
        (3 * torch.randn(2, N, 3, 4, generator=generator)).requires_grad_(),
    )


def truth(counts: tuple[int, ...] = (3, 1)) -> SetTargets:
    generator = torch.Generator().manual_seed(9)
    return SetTargets.join(
        [torch.randint(K, (count,), generator=generator) for count in counts],
        [torch.rand(count, 12, 16, generator=generator) > 0.6 for count in counts],
    )


def by_image(targets: SetTargets) -> list[tuple[Tensor, Tensor]]:
    return list(zip(targets.classes.split(targets.counts), targets.masks.split(targets.counts)))


def one_layer() -> LayeredPredictions:
    return LayeredPredictions.stack([predictions()])


def criterion(points: PointSampler | None = None, **cost: Any) -> SetCriterion:
    return SetCriterion(
        cost=cost.get("cost", mask_former_cost),
        losses=MaskClassificationLosses(num_classes=K, no_object_weight=0.1, points=points),
        weights={"loss_ce": 1.0, "loss_mask": 20.0, "loss_dice": 1.0},
        count_key="",
    )


def test_the_cost_is_the_papers() -> None:
    layer, targets = predictions(), truth()
    for logits, masks, true in zip(*layer[:2], by_image(targets)):
        image = (logits, masks, *true)
        actual = mask_former_cost(*image)
        torch.testing.assert_close(actual, cost(*image), atol=1e-4, rtol=1e-4)


def test_the_cost_of_no_objects_is_empty() -> None:
    layer, targets = predictions(), truth((0, 0))
    actual = mask_former_cost(layer.class_logits[0], layer.mask_logits[0], *by_image(targets)[0])
    assert actual.shape == (N, 0)


@pytest.mark.parametrize("counts", [(3, 1), (0, 2), (0, 0), (4, 4)])
def test_the_losses_are_the_papers(counts: tuple[int, ...]) -> None:
    layers = [predictions(0), predictions(1)]
    targets = truth(counts)
    losses = criterion()(LayeredPredictions.stack(layers), targets)
    for suffix, layer in (("_0", layers[0]), ("", layers[1])):
        for name, value in reference(layer, targets).items():
            assert losses[name + suffix].item() == pytest.approx(value, rel=1e-4), name + suffix
    assert len(losses) == 6


def test_losses_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> tuple[dict[str, Tensor], Tensor]:
        layer = predictions()
        losses = criterion()(LayeredPredictions.stack([layer]), truth())
        torch.stack(list(losses.values())).sum().backward()
        return losses, layer.mask_logits.grad

    losses, gradient = run()
    monkeypatch.setitem(mask_classification._PIXELS_AT_ONCE, "cpu", 12 * 16)
    in_parts, gradient_in_parts = run()
    for name, loss in losses.items():
        torch.testing.assert_close(in_parts[name], loss)
    torch.testing.assert_close(gradient_in_parts, gradient)
    assert gradient.abs().sum() > 0


def test_random_points_come_near_all_pixels() -> None:
    torch.manual_seed(0)
    logits = F.interpolate(4 * torch.randn(1, 3, 8, 8), size=(64, 64), mode="bilinear")[0]
    masks = torch.rand(3, 256, 256) > torch.linspace(0, 1, 256)
    sampled, targets = PointSampler(20000, 1.0, 0.0)(logits, masks)
    # But for the border, where points between a pixel and nothing are half of each.
    for values, everywhere in ((sampled, logits), (targets, masks.float())):
        torch.testing.assert_close(
            values.mean(1), everywhere.flatten(1).mean(1), atol=0.05, rtol=0.05
        )
    of_all = criterion()(one_layer(), truth())
    at_points = criterion(PointSampler(50, 3.0, 0.75))(one_layer(), truth())
    assert at_points["loss_ce"] == of_all["loss_ce"]
    assert at_points["loss_mask"] != of_all["loss_mask"]


def test_important_points_are_uncertain_ones() -> None:
    torch.manual_seed(0)
    logits = torch.linspace(-8, 8, 64).expand(1, 64, 64)
    masks = torch.ones(1, 256, 256, dtype=torch.bool)
    random, _ = PointSampler(500, 3.0, 0.0)(logits, masks)
    important, targets = PointSampler(500, 3.0, 0.75)(logits, masks)
    assert important.abs().median() < 0.5 * random.abs().median()
    assert important.shape == targets.shape == (1, 500)
    assert targets.mean() > 0.98  # less than 1 at the border only


def test_fixed_matching_gives_class_k_to_query_k() -> None:
    classes = torch.tensor([2, 0])
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    costs = fixed_cost(torch.zeros(N, K + 1), torch.zeros(N, 2, 2), classes, masks)
    assert best_assignment(costs) == {0: 2, 1: 0}
    layer = predictions()
    targets = SetTargets.join([classes, classes[:0]], [masks, masks[:0]])
    loss = criterion(cost=fixed_cost)(LayeredPredictions.stack([layer]), targets)["loss_ce"]
    labels = torch.tensor([[0, K, 2, K], [K] * N])
    weight = torch.tensor([1.0, 1.0, 1.0, 0.1])
    expected = F.cross_entropy(layer.class_logits.flatten(0, 1), labels.flatten(), weight)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("objects", [(2, 0), (0, 0)])
def test_mixed_precision_is_finite(
    dtype: torch.dtype, points: bool, objects: tuple[int, ...]
) -> None:
    model = tiny_model("MaskFormer", opts=["MODEL.MASK_FORMER.POINT_SAMPLING", points])
    batch = [picture(objects=count, seed=count) for count in objects]
    with torch.autocast("cpu", dtype=dtype):
        losses = model(batch)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert_finite_gradients(model, losses)


SWITCHES = {
    "DEEP_SUPERVISION": False,
    "NO_OBJECT_WEIGHT": 0.7,
    "DICE_WEIGHT": 3.0,
    "MASK_WEIGHT": 5.0,
    "MATCHING": "fixed",
    "LOSS_TYPE": "per_pixel_likelihood",
    "POINT_SAMPLING": True,
    "PRE_NORM": True,
    "ENC_LAYERS": 1,
    "ENFORCE_INPUT_PROJ": True,
    "SIZE_DIVISIBILITY": 64,
}


@pytest.mark.parametrize(("key", "value"), SWITCHES.items())
def test_every_switch_changes_the_loss(key: str, value: object) -> None:
    def total(*opts: object) -> float:
        model = tiny_model("MaskFormer", opts=["MODEL.MASK_FORMER.DROPOUT", 0.0, *opts])
        torch.manual_seed(1)
        # The second class twice: with fixed matching, a query of another class has to learn it.
        return sum(model([picture(objects=4), picture(objects=1)]).values()).item()

    assert total(f"MODEL.MASK_FORMER.{key}", value) != pytest.approx(total(), rel=1e-3)


def test_a_weight_of_no_objects_of_zero_is_finite() -> None:
    losses = MaskClassificationLosses(num_classes=K, no_object_weight=0.0)
    set_criterion = criterion()
    set_criterion.losses = losses
    assert all(loss.isfinite() for loss in set_criterion(one_layer(), truth((0, 0))).values())
