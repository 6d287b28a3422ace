"""Auxiliary one-to-many matching of SparseInst and MaskFormer: by hand, off, and at inference."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from torch import Tensor, nn

from solo_family.checkpoint.load import load_last, load_weights
from solo_family.config import check_config
from solo_family.errors import ConfigError, DataError
from solo_family.modeling.base import MaskSegmentor
from solo_family.modeling.set_criterion import SetCriterion
from solo_family.modeling.set_predictions import (
    EmbeddedMasks,
    LayeredPredictions,
    PlainMasks,
    SetTargets,
)

from ..conftest import assert_finite_gradients, eager_to_find, picture, tiny_cfg, tiny_model

SPARSE_INST, MASK_FORMER = "MODEL.SPARSE_INST.ONE_TO_MANY", "MODEL.MASK_FORMER.ONE_TO_MANY"
COPIES, T, WEIGHT = 3, 7, 0.5
# Method, what turns the matching on, N of the tiny models, the end of the auxiliary weights' names.
CASES = {
    "SparseInst": ("SparseInst", f"{SPARSE_INST}.NUM_MASKS", 10, "auxiliary_iam_conv"),
    "queries": ("SparseInst", f"{SPARSE_INST}.NUM_MASKS", 10, "auxiliary_queries"),
    "MaskFormer": ("MaskFormer", f"{MASK_FORMER}.NUM_OBJECT_QUERIES", 8, "auxiliary_query_embed"),
}
EXTRA: dict[str, list] = {
    "SparseInst": [],
    "queries": ["MODEL.SPARSE_INST.DECODER.NAME", "CrossAttentionDecoder"],
    # Dropout draws other numbers for more queries.
    "MaskFormer": ["MODEL.MASK_FORMER.DROPOUT", 0.0],
}
cases = pytest.mark.parametrize("case", list(CASES))


def switch(case: str, **values: Any) -> list:
    """The keys that turn the matching on."""
    count_key = CASES[case][1]
    given = {"COPIES": COPIES, count_key.rpartition(".")[2]: T, "WEIGHT": WEIGHT, **values}
    prefix = count_key.rpartition(".")[0]
    return [word for key, value in given.items() for word in (f"{prefix}.{key}", value)]


def model_of(case: str, *, on: bool, **values: Any) -> MaskSegmentor:
    opts = [*EXTRA[case], *(switch(case, **values) if on else [])]
    return tiny_model(CASES[case][0], opts=opts)


def batch(*counts: int) -> list[dict]:
    return [picture(objects=count, seed=seed) for seed, count in enumerate(counts, start=3)]


def given_to_the_criterion(
    model: nn.Module, images: list[dict]
) -> tuple[LayeredPredictions, SetTargets]:
    seen: list = []

    def criterion(*args: Any) -> dict:
        seen.append(args)
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "criterion", criterion)
        model(images)
    return seen[0]


def part(predictions: LayeredPredictions, first: int, end: int) -> LayeredPredictions:
    """Some of the N + T predictions, copied one by one."""

    def of(tensor: Tensor, dim: int) -> Tensor:
        return torch.stack([tensor.select(dim, n) for n in range(first, end)], dim)

    masks, objectness = predictions.masks, predictions.objectness_logits
    if isinstance(masks, EmbeddedMasks):
        chosen: Any = EmbeddedMasks(of(masks.embeddings, 2), masks.features)
    else:
        assert isinstance(masks, PlainMasks)
        chosen = PlainMasks([of(layer, 1) for layer in masks.layers])
    return LayeredPredictions(
        of(predictions.class_logits, 2), chosen, None if objectness is None else of(objectness, 2)
    )


def repeated(targets: SetTargets) -> SetTargets:
    """Every image's objects, COPIES times one after the other."""
    classes, masks = (part.split(targets.counts) for part in (targets.classes, targets.masks))
    return SetTargets.join(
        [torch.cat([image] * COPIES) for image in classes],
        [torch.cat([image] * COPIES) for image in masks],
    )


@cases
@pytest.mark.parametrize("counts", [(2,), (1, 0, 2), (5,), (0, 0)])
def test_auxiliary_losses_are_those_of_repeated_objects(case: str, counts: tuple[int, ...]) -> None:
    """With five objects there are more copies than auxiliary predictions."""
    model, n = model_of(case, on=True), CASES[case][2]
    images = batch(*counts)
    predictions, targets = given_to_the_criterion(model, images)
    assert predictions.class_logits.shape[2] == n + T
    plain = model.criterion.criterion
    assert isinstance(plain, SetCriterion)
    own = plain(part(predictions, 0, n), targets)
    many = plain(part(predictions, n, n + T), repeated(targets))
    losses = model.criterion(predictions, targets)
    expected = dict(own)
    for name, loss in many.items():
        # The layer comes last: loss_ce_0 and loss_ce_one_to_many_0.
        base, digit = (name[:-2], name[-2:]) if name[-1].isdigit() else (name, "")
        expected[f"{base}_one_to_many{digit}"] = WEIGHT * loss
    assert set(losses) == set(expected)
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss, msg=name)
    assert any(loss > 0 for name, loss in losses.items() if "one_to_many" in name)


@cases
def test_everything_else_is_as_without(case: str) -> None:
    """The other weights, the random numbers that follow, and the losses of one-to-one matching."""
    off = model_of(case, on=False)
    random_off = torch.rand(3)
    on = model_of(case, on=True)
    assert torch.equal(torch.rand(3), random_off)
    assert isinstance(off.criterion, SetCriterion)
    weights, more = off.state_dict(), on.state_dict()
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in set(more) - set(weights)} == {
        CASES[case][3]
    }
    assert all(torch.equal(value, more[name]) for name, value in weights.items())
    images = batch(2, 0, 1)
    without, with_it = off(images), on(images)
    assert {name for name in with_it if "one_to_many" not in name} == set(without)
    for name, loss in without.items():
        torch.testing.assert_close(with_it[name], loss, atol=0, rtol=1e-5)


def test_the_auxiliary_weights_follow_from_the_seed() -> None:
    def bias(seed: int) -> Tensor:
        torch.manual_seed(seed)
        cfg = tiny_cfg("MaskFormer", opts=switch("MaskFormer"))
        return build_model(cfg).sem_seg_head.predictor.auxiliary_query_embed.weight

    assert torch.equal(bias(1), bias(1))
    assert not torch.equal(bias(1), bias(2))


@cases
@pytest.mark.parametrize("counts", [(2, 0), (0, 0)])
def test_every_weight_learns(case: str, counts: tuple[int, ...]) -> None:
    model = model_of(case, on=True)
    assert_finite_gradients(model, model(batch(*counts)))


class Exported(nn.Module):
    """What is exported of a model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return self.model.export_forward(pixels)


@pytest.mark.slow
@cases
def test_inference_and_export_are_as_without(case: str) -> None:
    on = eager_to_find(model_of(case, on=True))
    off = model_of(case, on=False).eval()
    off.load_state_dict(on.state_dict(), strict=False)
    images = batch(2, 1)
    for found, expected in zip(on(images), off(images)):
        one, other = (result["instances"].get_fields() for result in (found, expected))
        assert len(one["scores"])
        for name in ("scores", "pred_classes", "pred_masks"):
            assert torch.equal(one[name], other[name]), name
    pixels = torch.rand(1, 3, 64, 96) * 255
    with torch.no_grad():
        exported = torch.jit.trace(Exported(on), pixels, check_trace=False, strict=False)
        assert "auxiliary" not in str(exported.inlined_graph)
        found, expected = exported(pixels), off.export_forward(pixels)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_objects_are_counted_over_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, of which the other has six objects; both matchings divide by the mean."""
    seen: list[float] = []
    model = model_of("SparseInst", on=True)
    criterion = model.criterion.criterion
    losses = criterion.losses
    criterion.losses = lambda *args: seen.append(args[3].item()) or losses(*args)
    copies = iter((1, COPIES))
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda total: total.add_(6 * next(copies)))
    model(batch(2, 0))
    assert seen == [(2 + 6) / 2, COPIES * (2 + 6) / 2]


def test_losses_in_evaluation_mode_have_no_auxiliary_part() -> None:
    """Hooks that measure a validation loss may call for them."""
    model = model_of("SparseInst", on=True).eval()
    images = batch(2)
    features = model.backbone(model.preprocess([images[0]["image"]]).tensor)
    targets = model.prepare_targets([images[0]["instances"]], (64, 96))
    assert not any("one_to_many" in name for name in model.losses(features, targets, (64, 96)))


def test_crowded_images_still_warn_of_the_models_own(caplog: pytest.LogCaptureFixture) -> None:
    model_of("SparseInst", on=True)(batch(12))
    assert "MODEL.SPARSE_INST.DECODER.NUM_MASKS" in caplog.text


@cases
def test_checkpoints_without_and_with_it_load(case: str, tmp_path: Path) -> None:
    on, off = model_of(case, on=True), model_of(case, on=False)
    paths = {}
    for name, model in (("on", on), ("off", off)):
        with torch.no_grad():
            next(model.parameters()).fill_(1 if name == "on" else 2)
        paths[name] = str(tmp_path / f"{name}.pth")
        torch.save({"model": model.state_dict()}, paths[name])
    auxiliary = {name: value.clone() for name, value in on.state_dict().items()}
    load_weights(DetectionCheckpointer(on), paths["off"], complete=True)
    assert (next(on.parameters()) == 2).all()
    kept = {name for name in auxiliary if "auxiliary" in name}
    assert kept
    assert all(torch.equal(on.state_dict()[name], auxiliary[name]) for name in kept)
    load_weights(DetectionCheckpointer(off), paths["on"], complete=True)
    assert (next(off.parameters()) == 1).all()
    # Of another number of auxiliary predictions.
    more = model_of(case, on=True, **{CASES[case][1].rpartition(".")[2]: T + 1})
    load_weights(DetectionCheckpointer(more), paths["on"], complete=True)
    # A run goes on with what it began with.
    with pytest.raises(DataError, match="auxiliary"):
        load_last(DetectionCheckpointer(more, str(tmp_path)), paths["off"])
    lacking = {name: value for name, value in off.state_dict().items() if name not in kept}
    lost = next(name for name, _ in off.named_parameters())
    torch.save({"model": {k: v for k, v in lacking.items() if k != lost}}, paths["off"])
    with pytest.raises(DataError, match=r"lacks 1 of the model's \d+ weights"):
        load_weights(DetectionCheckpointer(on), paths["off"], complete=True)


@pytest.mark.parametrize("method", ["SparseInst", "MaskFormer"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"COPIES": -1}, r"COPIES is -1; at least 1 is needed, or 0"),
        ({"COPIES": 8}, rf" is {T}, fewer than .*COPIES, 8"),
        ({"WEIGHT": -0.5}, r"WEIGHT is -0.5; at least 0"),
    ],
)
def test_mistakes_are_explained(method: str, values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(tiny_cfg(method, opts=switch(method, **values)))
    check_config(tiny_cfg(method, opts=switch(method)))
    check_config(tiny_cfg(method, opts=switch(method, COPIES=0)))


@pytest.mark.parametrize(
    ("key", "value"), [("MATCHING", "fixed"), ("LOSS_TYPE", "per_pixel_likelihood")]
)
def test_mask_formers_other_losses_have_no_copies(key: str, value: str) -> None:
    opts = [*switch("MaskFormer"), f"MODEL.MASK_FORMER.{key}", value]
    with pytest.raises(ConfigError, match=f"COPIES is 3, but MODEL.MASK_FORMER.{key} is {value}"):
        check_config(tiny_cfg("MaskFormer", opts=opts))
