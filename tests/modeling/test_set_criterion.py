import itertools
import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from solo_family.modeling.matcher import Matches
from solo_family.modeling.set_criterion import SetCriterion, target_classes
from solo_family.modeling.set_predictions import (
    EmbeddedMasks,
    LayeredPredictions,
    PlainMasks,
    SetPredictions,
    SetTargets,
)

# Two images, three predictions, two classes; image 0 has two objects, image 1 none.
TARGETS = SetTargets.join(
    [torch.tensor([1, 0]), torch.zeros(0, dtype=torch.int64)],
    [torch.ones(2, 4, 4), torch.zeros(0, 4, 4)],
)
MATCHES = Matches(torch.tensor([[0, 2]]), torch.tensor([[1, 0]]), [2, 0])


def criterion(cost: Callable | None = None, seen: list | None = None) -> SetCriterion:
    def losses(predictions, targets, matches, num_objects):
        if seen is not None:
            seen.append((predictions, targets, matches, num_objects))
        return {
            "loss_a": predictions.class_logits.sum((1, 2, 3)),
            "loss_b": num_objects.expand(len(predictions.class_logits)),
        }

    return SetCriterion(
        cost=cost or (lambda logits, _, classes, __: logits.take_along_dim(classes[:, None], 2)),
        losses=losses,
        weights={"loss_a": 3.0, "loss_b": 0.5},
        count_key="MODEL.THE.COUNT",
    )


def predictions(seed: int = 0, count: int = 3) -> SetPredictions:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, count, 2, generator=generator, requires_grad=True)
    return SetPredictions(logits, torch.randn(2, count, 4, 4, generator=generator))


def one_layer() -> LayeredPredictions:
    return LayeredPredictions.stack([predictions()])


def some_matches() -> Matches:
    """Of two layers and three images with 2, 0 and 1 pairs."""
    return Matches(torch.tensor([[0, 2, 7], [1, 2, 6]]), torch.tensor([[1, 0, 2]] * 2), [2, 0, 1])


def test_unmatched_predictions_learn_the_background() -> None:
    labels = target_classes(TARGETS, MATCHES, 3, background=2)
    assert labels.tolist() == [[0, 2, 1, 2, 2, 2]]
    assert labels.dtype == torch.int64


def test_matched_masks_are_those_of_the_pairs() -> None:
    torch.manual_seed(0)
    embeddings, features = torch.randn(2, 3, 3, 5), torch.randn(3, 5, 2, 4)
    everything = torch.zeros(2, 3, 3, 2, 4)
    for layer, image, n, y, x in itertools.product(*map(range, everything.shape)):
        product = embeddings[layer, image, n] * features[image, :, y, x]
        everything[layer, image, n, y, x] = product.sum()
    pairs = [(0, 0, 0), (0, 0, 2), (0, 2, 1), (1, 0, 1), (1, 0, 2), (1, 2, 0)]
    expected = torch.stack([everything[pair] for pair in pairs])
    for masks in (EmbeddedMasks(embeddings, features), PlainMasks(everything.unbind())):
        assert masks.size == (2, 4)
        torch.testing.assert_close(masks.of_pairs(some_matches()), expected)
        for layer in range(2):
            two = masks.of_layer(layer, slice(1, 3))
            torch.testing.assert_close(two, everything[layer, 1:])


def test_the_gradient_of_matched_masks_is_that_of_all_masks() -> None:
    torch.manual_seed(0)
    embeddings = torch.randn(2, 3, 3, 5, requires_grad=True)
    features = torch.randn(3, 5, 2, 4, requires_grad=True)
    everything = torch.einsum("lbne,behw->lbnhw", embeddings, features)
    weights = torch.randn(6, 2, 4)
    found = [
        torch.autograd.grad(
            (masks.of_pairs(some_matches()) * weights).sum(), (embeddings, features)
        )
        for masks in (EmbeddedMasks(embeddings, features), PlainMasks(everything.unbind()))
    ]
    torch.testing.assert_close(*found)


def test_gathering_nothing_keeps_the_gradient() -> None:
    none = torch.zeros(2, 0, dtype=torch.int64)
    nobody = Matches(none, none, [0, 0])
    embeddings = torch.zeros(2, 2, 3, 5, requires_grad=True)
    features = torch.zeros(2, 5, 4, 4, requires_grad=True)
    layers = torch.zeros(2, 2, 3, 4, 4, requires_grad=True)
    for masks in (EmbeddedMasks(embeddings, features), PlainMasks(layers.unbind())):
        nothing = masks.of_pairs(nobody)
        assert nothing.shape == (0, 4, 4)
        nothing.sum().backward()
    assert all(tensor.grad is not None for tensor in (embeddings, features, layers))


def test_losses_are_weighted_and_named_by_layer() -> None:
    layers = [predictions(seed) for seed in range(3)]
    losses = criterion()(LayeredPredictions.stack(layers), TARGETS)
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
            cost[0, prediction, TARGETS.classes[object_index]] = -1
        return cost

    seen: list = []
    layers = [SetPredictions(cost_from(best), torch.zeros(2, 3, 4, 4)) for best in ([0, 1], [2, 0])]
    given = LayeredPredictions.stack(layers)
    criterion(seen=seen)(given, TARGETS)
    ((predictions, targets, matches, _),) = seen
    assert predictions is given
    assert targets is TARGETS
    assert matches.counts == [2, 0]
    layer_pairs = zip(matches.objects.tolist(), matches.predictions.tolist())
    pairs = [dict(zip(*layer)) for layer in layer_pairs]
    assert pairs == [{0: 0, 1: 1}, {0: 2, 1: 0}]


@pytest.mark.parametrize(("counts", "expected"), [((2, 3), 5), ((0, 0), 1)])
def test_losses_divide_by_the_number_of_objects(counts: tuple[int, int], expected: float) -> None:
    seen: list = []
    classes = [torch.zeros(count, dtype=torch.int64) for count in counts]
    masks = [torch.zeros(count, 4, 4) for count in counts]
    criterion(seen=seen)(one_layer(), SetTargets.join(classes, masks))
    assert seen[0][3].item() == expected


def test_objects_are_counted_over_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, the other one with six objects."""
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda total: total.add_(6))
    seen: list = []
    criterion(seen=seen)(one_layer(), TARGETS)
    assert seen[0][3].item() == (2 + 6) / 2


def test_more_objects_than_predictions_warn_once(caplog: pytest.LogCaptureFixture) -> None:
    crowd = SetTargets.join(
        [torch.zeros(5, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)],
        [torch.zeros(5, 4, 4), torch.zeros(1, 4, 4)],
    )
    one = criterion()
    with caplog.at_level(logging.WARNING, "solo_family"):
        one(one_layer(), crowd)
        one(one_layer(), crowd)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "5 objects" in message
    assert "predicts 3" in message
    assert "MODEL.THE.COUNT" in message
    caplog.clear()
    with caplog.at_level(logging.WARNING, "solo_family"):
        criterion()(one_layer(), TARGETS)
    assert not caplog.records
