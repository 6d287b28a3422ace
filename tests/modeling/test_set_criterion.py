import logging

import pytest
import torch
from torch import Tensor

from solo_family.modeling.losses.set_criterion import (
    SetCriterion,
    SetPredictions,
    SetTargets,
    matched_predictions,
    matched_targets,
    target_classes,
)

# Two images, three predictions, two classes; image 0 has two objects, image 1 none.
TARGETS = SetTargets(
    [torch.tensor([1, 0]), torch.zeros(0, dtype=torch.int64)],
    [torch.ones(2, 4, 4), torch.zeros(0, 4, 4)],
)
MATCHES = [
    (torch.tensor([0, 2]), torch.tensor([1, 0])),
    (torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)),
]


def criterion(cost: object = None, seen: list | None = None) -> SetCriterion:
    def losses(predictions, targets, matches, num_objects):
        if seen is not None:
            seen.append((predictions, targets, matches, num_objects))
        return {"loss_a": predictions.class_logits.sum(), "loss_b": num_objects}

    return SetCriterion(
        cost=cost or (lambda class_logits, mask_logits, classes, masks: class_logits[:, classes]),
        losses=losses,
        weights={"loss_a": 3.0, "loss_b": 0.5},
        count_key="MODEL.THE.COUNT",
    )


def predictions(seed: int = 0, count: int = 3) -> SetPredictions:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, count, 2, generator=generator, requires_grad=True)
    return SetPredictions(logits, torch.randn(2, count, 4, 4, generator=generator))


def test_pairs_are_gathered_image_by_image() -> None:
    values = torch.arange(6).view(2, 3)
    assert matched_predictions(values, MATCHES).tolist() == [0, 2]
    assert matched_targets(TARGETS.classes, MATCHES).tolist() == [0, 1]
    other_image_first = [MATCHES[1], MATCHES[0]]
    assert matched_predictions(values, other_image_first).tolist() == [3, 5]


def test_unmatched_predictions_learn_the_background() -> None:
    labels = target_classes(TARGETS, MATCHES, 3, background=2)
    assert labels.tolist() == [[0, 2, 1], [2, 2, 2]]
    assert labels.dtype == torch.int64


def test_gathering_nothing_keeps_the_gradient() -> None:
    masks = torch.zeros(1, 3, 4, 4, requires_grad=True)
    nothing = matched_predictions(masks, MATCHES[1:])
    assert nothing.shape == (0, 4, 4)
    nothing.sum().backward()
    assert masks.grad is not None


def test_losses_are_weighted_and_named_by_layer() -> None:
    layers = [predictions(seed) for seed in range(3)]
    losses = criterion()(layers, TARGETS)
    assert sorted(losses) == [
        *("loss_a", "loss_a_0", "loss_a_1", "loss_b", "loss_b_0", "loss_b_1"),
    ]
    for name, layer in zip(("loss_a_0", "loss_a_1", "loss_a"), layers):
        torch.testing.assert_close(losses[name], 3 * layer.class_logits.sum())
    # Two objects in all.
    assert losses["loss_b"].item() == 1


def test_every_layer_is_matched_on_its_own() -> None:
    def cost_from(best: list[int]) -> Tensor:
        """A layer whose class logits make prediction best[g] the cheapest for object g."""
        cost = torch.zeros(2, 3, 2)
        for object_index, prediction in enumerate(best):
            cost[0, prediction, TARGETS.classes[0][object_index]] = -1
        return cost

    seen: list = []
    layers = [SetPredictions(cost_from(best), torch.zeros(2, 3, 4, 4)) for best in ([0, 1], [2, 0])]
    criterion(seen=seen)(layers, TARGETS)
    pairs = []
    for layer, (given, targets, matches, _) in zip(layers, seen):
        assert given is layer
        assert targets is TARGETS
        assert len(matches) == 2
        assert len(matches[1][0]) == 0
        pairs.append(dict(zip(matches[0][1].tolist(), matches[0][0].tolist())))
    assert pairs == [{0: 0, 1: 1}, {0: 2, 1: 0}]


@pytest.mark.parametrize(("counts", "expected"), [((2, 3), 5), ((0, 0), 1)])
def test_losses_divide_by_the_number_of_objects(counts: tuple[int, int], expected: float) -> None:
    seen: list = []
    classes = [torch.zeros(count, dtype=torch.int64) for count in counts]
    masks = [torch.zeros(count, 4, 4) for count in counts]
    criterion(seen=seen)([predictions()], SetTargets(classes, masks))
    assert seen[0][3].item() == expected


def test_more_objects_than_predictions_warn_once(caplog: pytest.LogCaptureFixture) -> None:
    crowd = SetTargets(
        [torch.zeros(5, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)],
        [torch.zeros(5, 4, 4), torch.zeros(1, 4, 4)],
    )
    one = criterion()
    with caplog.at_level(logging.WARNING, "solo_family"):
        one([predictions()], crowd)
        one([predictions()], crowd)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "5 objects" in message
    assert "predicts 3" in message
    assert "MODEL.THE.COUNT" in message
    caplog.clear()
    with caplog.at_level(logging.WARNING, "solo_family"):
        criterion()([predictions()], TARGETS)
    assert not caplog.records
