import math

import pytest
import torch

from solo_family.methods.mask_former.losses import MarginalLikelihood
from solo_family.modeling.set_predictions import LayeredPredictions, SetPredictions, SetTargets

from ...conftest import picture, tiny_model


def layer() -> SetPredictions:
    generator = torch.Generator().manual_seed(0)
    return SetPredictions(
        torch.randn(1, 4, 3, generator=generator, requires_grad=True),
        torch.randn(1, 4, 2, 3, generator=generator, requires_grad=True),
    )


def test_the_likelihood_of_labelled_pixels() -> None:
    masks = torch.zeros(2, 8, 12, dtype=torch.bool)
    masks[0, :4, :8] = True  # class 1 at two of the six pixels
    masks[1, 4:, :4] = True  # class 0 at one
    labels = {(0, 0): 1, (0, 1): 1, (1, 0): 0}
    predictions = layer()
    targets = SetTargets.join([torch.tensor([1, 0])], [masks])
    loss = MarginalLikelihood()(LayeredPredictions.stack([predictions]), targets)
    classes = predictions.class_logits[0].softmax(1)
    probabilities = predictions.mask_logits[0].sigmoid()
    total = 0.0
    for (y, x), label in labels.items():
        joint = [
            sum(float(classes[i, c] * probabilities[i, y, x]) for i in range(4)) for c in (0, 1)
        ]
        total -= math.log(joint[label] / sum(joint))
    assert loss["loss_likelihood"].item() == pytest.approx(total / 3, rel=1e-5)


def test_nothing_labelled_is_no_loss_with_gradient() -> None:
    predictions = layer()
    nothing = SetTargets.join([torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, 8, 12).bool()])
    loss = MarginalLikelihood()(LayeredPredictions.stack([predictions]), nothing)["loss_likelihood"]
    loss.backward()
    assert loss == 0
    assert predictions.mask_logits.grad is not None


def test_every_layer_is_supervised() -> None:
    model = tiny_model("MaskFormer", opts=["MODEL.MASK_FORMER.LOSS_TYPE", "per_pixel_likelihood"])
    losses = model([picture(), picture(objects=0)])
    assert set(losses) == {"loss_likelihood_0", "loss_likelihood"}
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
