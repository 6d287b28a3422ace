"""Costs of all layers and images together, against each image of each layer by itself."""

import pytest
import torch

from solo_family.modeling import layer_costs as module
from solo_family.modeling.layer_costs import Cost, layer_costs
from solo_family.modeling.matching_costs import fixed_cost, mask_former_cost, sparse_inst_cost
from solo_family.modeling.set_predictions import EmbeddedMasks, LayeredPredictions, SetTargets

COUNTS = [3, 0, 5, 1]


def scene() -> tuple[LayeredPredictions, SetTargets]:
    torch.manual_seed(0)
    masks = EmbeddedMasks(torch.randn(2, 4, 6, 5), torch.randn(4, 5, 8, 10))
    classes = [torch.randint(3, (count,)) for count in COUNTS]
    true = [torch.rand(count, 32, 40) > 0.6 for count in COUNTS]
    return LayeredPredictions(torch.randn(2, 4, 6, 4), masks), SetTargets.join(classes, true)


@pytest.mark.parametrize("cost", [mask_former_cost, sparse_inst_cost, fixed_cost])
@pytest.mark.parametrize("at_once", [1, 3 * 6 * 80, 2**19])
def test_layers_and_images_cost_what_each_does(
    cost: Cost, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._NUMBERS_AT_ONCE, "cpu", at_once)
    predictions, targets = scene()
    costs = layer_costs(cost, predictions, targets)
    assert costs.shape == (2, 4, 6, 5)
    assert costs.dtype == torch.float32
    by_image = zip(targets.classes.split(COUNTS), targets.masks.split(COUNTS))
    for image, (classes, true) in enumerate(by_image):
        small = true[:, ::4, ::4]
        for layer in range(2):
            logits = predictions.masks.of_layer(layer, slice(image, image + 1))[0]
            expected = cost(predictions.class_logits[layer, image], logits, classes, small)
            found = costs[layer, image, :, : len(classes)]
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_of_no_objects_there_are_no_costs() -> None:
    predictions, _ = scene()
    none = SetTargets.join([torch.zeros(0).long()] * 4, [torch.zeros(0, 32, 40).bool()] * 4)
    assert layer_costs(mask_former_cost, predictions, none).shape == (2, 4, 6, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_costs_float32(dtype: torch.dtype) -> None:
    predictions, targets = scene()
    wide = predictions.masks
    assert isinstance(wide, EmbeddedMasks)
    half = EmbeddedMasks(wide.embeddings.to(dtype), wide.features.to(dtype))
    with torch.autocast("cpu", dtype=dtype):
        costs = layer_costs(mask_former_cost, predictions._replace(masks=half), targets)
    assert costs.dtype == torch.float32
    assert costs.isfinite().all()
