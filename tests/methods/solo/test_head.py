"""SOLO's heads against every mask in full."""

import pytest
import torch
from torch import Tensor, nn

from solo_family.methods.solo.decoupled_head import DecoupledSOLOOutputs
from solo_family.ops import pack_masks

from ..solov2.test_head import backbone_features, random_model, resize
from . import solo_reference
from .solo_reference import SIDES, all_masks, decoupled_maps, solo_masks

LIGHT = ["MODEL.SOLO.HEAD_NAME", "DecoupledSOLOLightHead"]
VARIANTS: dict[str, tuple[str, list]] = {
    "SOLO": ("SOLO", []),
    "SOLO, two convs": ("SOLO", ["MODEL.SOLO.NUM_INSTANCE_CONVS", 2]),
    "SOLO, two CoordConvs": (
        "SOLO",
        ["MODEL.SOLO.NUM_INSTANCE_CONVS", 3, "MODEL.SOLO.NUM_COORD_CONVS", 2],
    ),
    "Decoupled": ("DecoupledSOLO", []),
    "Light": ("DecoupledSOLO", LIGHT),
}


def make(variant: str) -> tuple[nn.Module, dict[str, Tensor], dict[str, Tensor]]:
    method, opts = VARIANTS[variant]
    model = random_model(opts, method)
    features, _ = backbone_features(model)
    return model, model.state_dict(), features


def reference_logits(variant: str, state: dict, features: dict) -> list[Tensor]:
    """Returns the logits of every mask, [B, S^2, 2 H, 2 W], by level."""
    if variant.startswith("SOLO"):
        return solo_masks(state, features)
    maps = decoupled_maps(state, features, light=variant == "Light")
    return [all_masks(x.double().sigmoid(), y.double().sigmoid()).logit().float() for x, y in maps]


def reference_probabilities(variant: str, state: dict, features: dict) -> Tensor:
    """Returns every mask of all levels at stride 4, [B, C, 16, 24], in the published order."""
    if variant.startswith("SOLO"):
        levels = [resize(level.sigmoid(), size=(16, 24)) for level in solo_masks(state, features)]
    else:
        levels = [
            all_masks(resize(x.sigmoid(), size=(16, 24)), resize(y.sigmoid(), size=(16, 24)))
            for x, y in decoupled_maps(state, features, light=variant == "Light")
        ]
    return torch.cat(levels, 1)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_categories_are_those_of_the_reference(variant: str) -> None:
    model, state, features = make(variant)
    found = model.run_head(features, (64, 96)).category_logits
    for one, other in zip(found, solo_reference.category_logits(state, features), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_masks_of_some_cells_are_those_of_all(variant: str) -> None:
    model, state, features = make(variant)
    images = model.run_head(features, (64, 96)).images()
    generator = torch.Generator().manual_seed(0)
    for level, expected in enumerate(reference_logits(variant, state, features)):
        # In any order, and with repetitions.
        cells = torch.randint(SIDES[level] ** 2, (30,), generator=generator)
        for image in range(2):
            found = model.head.mask_logits(level, images[image], cells)
            torch.testing.assert_close(found, expected[image, cells], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_probabilities_are_resized_in_the_published_order(variant: str) -> None:
    model, state, features = make(variant)
    images = model.run_head(features, (64, 96)).images()
    expected = reference_probabilities(variant, state, features)
    cells = torch.randperm(expected.shape[1], generator=torch.Generator().manual_seed(0))
    for image in range(2):
        found = model.decoder.soft(images[image], (16, 24), cells)
        torch.testing.assert_close(found, expected[image, cells], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_the_decoder_does_the_same_in_every_form(variant: str) -> None:
    """Of cells in any order, whether or not it is told how many each level has."""
    model, _, features = make(variant)
    image, size = model.run_head(features, (64, 96)).images()[0], (16, 24)
    cells = torch.randperm(360, generator=torch.Generator().manual_seed(1))[:50]
    ends = [sum(side**2 for side in SIDES[: level + 1]) for level in range(len(SIDES))]
    counts = [sum(cell < end for cell in cells.tolist()) for end in ends]
    soft = model.decoder.soft(image, size, cells)
    assert torch.equal(model.decoder.soft(image, size, cells, counts), soft)
    torch.testing.assert_close(model.decoder.traceable(image, size, cells), soft)
    expected = pack_masks(soft, 0.4)
    assert 0 < expected.areas.sum() < soft.numel()
    for told in (None, counts):
        packed = model.decoder.packed(image, size, cells, 0.4, told)
        assert torch.equal(packed.words, expected.words)
        assert torch.equal(packed.areas, expected.areas)
        torch.testing.assert_close(packed.maskness, expected.maskness)


@torch.no_grad()
def test_the_order_of_resizing_makes_a_difference() -> None:
    """Guards the test above: logits resized, or a product resized, give other masks."""
    _, state, features = make("SOLO")
    level = solo_masks(state, features)[3]
    one, other = resize(level.sigmoid(), size=(16, 24)), resize(level, size=(16, 24)).sigmoid()
    assert (one - other).abs().max() > 1e-3
    _, state, features = make("Decoupled")
    x, y = decoupled_maps(state, features)[3]
    one = all_masks(resize(x.sigmoid(), size=(16, 24)), resize(y.sigmoid(), size=(16, 24)))
    other = resize(all_masks(x.sigmoid(), y.sigmoid()), size=(16, 24))
    assert (one - other).abs().max() > 1e-3


def test_every_tower_sees_its_coordinates_and_the_category_branch_none() -> None:
    for variant, extra in (("SOLO", [2]), ("Decoupled", [1, 1]), ("Light", [2])):
        head = make(variant)[0].head
        towers = [head.mask_tower] if variant == "SOLO" else list(head.towers.values())
        assert [tower[0].conv.in_channels - 16 for tower in towers] == extra
        assert head.category_branch.tower[0].conv.in_channels == 16


@pytest.mark.parametrize("shape", [(2, 1, 1), (6, 5, 7)])
def test_the_logit_of_a_product_is_finite(shape: tuple[int, int, int]) -> None:
    model = make("Decoupled")[0]
    side = SIDES[0]
    maps = torch.zeros((2 * side, *shape[1:]), requires_grad=True)
    extreme = torch.tensor([-2e4, -90.0, 0.0, 90.0, 2e4, 5.0])[: shape[0]]
    shift = torch.zeros(2 * side, 1, 1)
    shift[: shape[0], 0, 0], shift[side : side + shape[0], 0, 0] = extreme, extreme.flip(0)
    cells = torch.arange(shape[0]) * (side + 1)
    logits = model.head.mask_logits(0, DecoupledSOLOOutputs([], [maps + shift]), cells)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()


def test_the_published_initialisation() -> None:
    from ...conftest import tiny_model

    for method in ("SOLO", "DecoupledSOLO"):
        for name, parameter in tiny_model(method).head.named_parameters():
            if "predictors" in name or "category_branch.logits" in name:
                if name.endswith("bias"):
                    # A probability of 0.01.
                    torch.testing.assert_close(
                        parameter.sigmoid(), torch.full_like(parameter, 0.01)
                    )
                else:
                    assert parameter.std().item() == pytest.approx(0.01, rel=0.15)
