"""InstanceFCN's layers, its classifier and its loss."""

import math

import pytest
import torch

from solo_family.methods.instance_fcn.head import (
    InstanceFCNHead,
    MaskPooledClassifier,
    mask_average_pool,
)
from solo_family.methods.instance_fcn.losses import WindowCriterion, window_mask_loss


def test_layers_are_the_papers() -> None:
    """Section 4: 1x1 of 512 and 3x3 to k^2; 3x3 of 512 and 1x1 to 1. All from N(0, 0.01)."""
    head = InstanceFCNHead(in_channels=256, num_positions=5)
    shapes = {name: tuple(p.shape) for name, p in head.named_parameters() if "weight" in name}
    assert shapes == {
        "instance_branch.conv.weight": (512, 256, 1, 1),
        "score_maps.weight": (25, 512, 3, 3),
        "objectness_branch.conv.weight": (512, 256, 3, 3),
        "objectness.weight": (1, 512, 1, 1),
    }
    for name, parameter in head.named_parameters():
        if "weight" in name:
            assert float(parameter.detach().std()) == pytest.approx(0.01, rel=0.15)
        else:
            assert not parameter.any()


def test_outputs_keep_the_maps_size() -> None:
    head = InstanceFCNHead(in_channels=4, num_positions=3, channels=6)
    score_maps, objectness, _ = head(torch.randn(2, 4, 5, 7))
    assert score_maps.shape == (2, 9, 5, 7)
    assert objectness.shape == (2, 5, 7)


def test_the_score_maps_come_from_the_rectified_features() -> None:
    head = InstanceFCNHead(in_channels=4, num_positions=3, channels=6)
    torch.nn.init.constant_(head.instance_branch.conv.bias, -10)
    score_maps = head(torch.randn(1, 4, 5, 7)).score_maps
    assert not score_maps.any()


def pooled_by_loops(
    features: torch.Tensor, centers: torch.Tensor, masks: torch.Tensor
) -> torch.Tensor:
    channels, height, width = features.shape
    m = masks.shape[-1]
    pooled = torch.zeros((len(centers), channels))
    for n, (row, column) in enumerate(centers.tolist()):
        total = 0.0
        for u in range(m):
            for v in range(m):
                y, x = row - m // 2 + u, column - m // 2 + v
                if 0 <= y < height and 0 <= x < width:
                    pooled[n] += masks[n, u, v] * features[:, y, x]
                    total += float(masks[n, u, v])
        pooled[n] /= max(total, 1e-6)
    return pooled


def test_mask_average_pooling_equals_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn((3, 6, 8), generator=generator)
    centers = torch.tensor([[0, 0], [3, 4], [5, 7]])
    masks = torch.rand((3, 5, 5), generator=generator)
    masks[0, :2], masks[0, :, :2], masks[2, 3:], masks[2, :, 3:] = 0, 0, 0, 0  # outside the map
    expected = pooled_by_loops(features, centers, masks)
    torch.testing.assert_close(mask_average_pool(features, centers, masks), expected)
    assert not mask_average_pool(features, centers, torch.zeros_like(masks)).any()


def test_the_classifier_takes_many_windows_and_none() -> None:
    classifier = MaskPooledClassifier(in_channels=3, num_classes=4)
    features = torch.randn(3, 20, 20)
    centers = torch.randint(20, (300, 2))
    masks = torch.rand(300, 5, 5)
    logits = classifier(features, centers, masks)
    expected = classifier.linear(mask_average_pool(features, centers, masks))
    torch.testing.assert_close(logits, expected)
    none = classifier(features, centers[:0], masks[:0])
    assert none.shape == (0, 4)
    none.sum().backward()
    assert classifier.linear.weight.grad is not None


def logistic(logit: float, target: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -math.log(p) if target else -math.log(1 - p)


def test_the_mask_loss_is_the_mean_over_the_cells_on_the_map() -> None:
    logits = torch.tensor([[[0.5, -1.0], [2.0, 3.0]], [[1.0, 1.0], [1.0, 1.0]]])
    targets = torch.tensor([[[1, 0], [0, 1]], [[1, 1], [1, 1]]]).bool()
    inside = torch.tensor([[[1, 1], [1, 0]], [[0, 0], [0, 0]]]).bool()
    expected = (logistic(0.5, 1) + logistic(-1, 0) + logistic(2, 0)) / 3
    assert window_mask_loss(logits, targets, inside).tolist() == pytest.approx([expected, 0])


def test_cells_outside_the_map_get_no_gradient() -> None:
    logits = torch.zeros((1, 2, 2), requires_grad=True)
    inside = torch.tensor([[[True, False], [True, True]]])
    window_mask_loss(logits, torch.ones((1, 2, 2)).bool(), inside).sum().backward()
    assert logits.grad is not None
    assert ((logits.grad != 0) == inside).all()


def test_losses_are_means_over_windows_with_weights() -> None:
    criterion = WindowCriterion(objectness_weight=2, mask_weight=3, class_weight=5)
    positive = torch.tensor([True, False, False])
    losses = criterion(torch.tensor([0.3, -2.0, 1.0]), positive, torch.tensor([0.5, 0.7]))
    objectness = (logistic(0.3, 1) + logistic(-2, 0) + logistic(1, 0)) / 3
    assert float(losses["loss_objectness"]) == pytest.approx(2 * objectness)
    assert float(losses["loss_mask"]) == pytest.approx(3 * 0.6)
    classes = criterion.classification(torch.zeros((2, 4)), torch.tensor([1, 3]))
    assert float(classes["loss_class"]) == pytest.approx(5 * math.log(4))


def test_losses_of_nothing_are_zero() -> None:
    criterion = WindowCriterion()
    losses = criterion(torch.zeros(3), torch.zeros(3).bool(), torch.zeros(0))
    assert float(losses["loss_mask"]) == 0
    none = criterion.classification(torch.zeros((0, 4)), torch.zeros(0, dtype=torch.int64))
    assert float(none["loss_class"]) == 0
