"""SparseInst and MaskFormer: random weights under the official names give what the papers say."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor, nn

from solo_family.checkpoint.convert import config_of, convert

from . import reference_mask_former, reference_sparse_inst
from . import reference_sparse_inst_backbones as backbones
from .lists import random_weights, save, slow_but
from .reference_backbone import State, resnet50, swin
from .test_faithful_solo import IMAGE, OUTPUT, PADDED, picture

SPARSE_INST = {
    "sparse_inst_r50_base": "base",
    "sparse_inst_r50_giam": "giam",
    "sparse_inst_r50_soft": "soft",
    "sparse_inst_r50_dcn_giam": "giam",
}
# With backbones that no other method has; each with its function of the weights and the image.
SPARSE_INST_BACKBONES: dict[str, Callable[[State, Tensor], list[Tensor]]] = {
    "sparse_inst_r50vd_giam": backbones.resnet50_vd,
    "sparse_inst_r50vd_dcn_giam": backbones.resnet50_vd,
    "sparse_inst_cspdarknet53_giam": partial(backbones.dark_net, depths=(1, 2, 8, 8, 4)),
    "sparse_inst_darknet53_giam": partial(backbones.dark_net, depths=(1, 2, 8, 8, 4)),
    "sparse_inst_pvt_b1_giam": partial(backbones.pvt_v2, depths=(2, 2, 2, 2), heads=(1, 2, 5, 8)),
    "sparse_inst_pvt_b2_li_giam": partial(
        backbones.pvt_v2, depths=(3, 4, 6, 3), heads=(1, 2, 5, 8)
    ),
}
# Version of the names, and whether the pixel decoder has a transformer encoder.
MASK_FORMER: dict[str, dict[str, Any]] = {
    "mask_former_r50_v1": {"version": 1, "encode": False},
    "mask_former_r50_v2": {"version": 2, "encode": False},
    "mask_former_r50_panoptic": {"version": 2, "encode": True},
    "mask_former_swin": {"version": 2, "encode": False},
}
# One of each head and of each backbone; the rest are their combinations.
FAST = (
    "sparse_inst_r50_giam",
    "sparse_inst_r50vd_dcn_giam",
    "sparse_inst_cspdarknet53_giam",
    "sparse_inst_pvt_b1_giam",
    "mask_former_r50_v2",
    "mask_former_swin",
)
WITHOUT_CHANCE = {"MODEL.MASK_FORMER.DROPOUT": 0.0, "MODEL.SWIN.DROP_PATH_RATE": 0.0}


def our_model(name: str, weights: State, tmp_path: Path, **keys: Any) -> nn.Module:
    converted = convert(save(tmp_path / "theirs.pth", weights))
    model = build_model(config_of({**converted.keys, **keys, "MODEL.DEVICE": "cpu"}))
    model.load_state_dict(converted.weights, strict=False)
    return model


def normalised(image: Tensor) -> Tensor:
    x = image.float() - torch.tensor([123.675, 116.28, 103.53])[:, None, None]
    x = x / torch.tensor([58.395, 57.12, 57.375])[:, None, None]
    return padded(x)[None]


def padded(x: Tensor) -> Tensor:
    return nn.functional.pad(x, (0, PADDED[1] - x.shape[-1], 0, PADDED[0] - x.shape[-2]))


def stages_of(weights: State, image: Tensor, training: bool = False) -> list[Tensor]:
    x = normalised(image)
    if "backbone.norm0.weight" in weights:
        return swin(weights, x, prefix="backbone.")
    return resnet50(weights, x, prefix="backbone.", detectron2=True, training=training)


def training_input() -> tuple[dict, Tensor, Tensor]:
    image, masks, classes, boxes = picture()
    truth = Instances(IMAGE, gt_boxes=Boxes(boxes), gt_classes=classes, gt_masks=BitMasks(masks))
    return {"image": image, "instances": truth}, padded(masks), classes


def assert_same(found: Instances, expected: tuple[Tensor, Tensor, Tensor]) -> None:
    scores, classes, masks = expected
    assert 5 < len(scores) == len(found)
    assert torch.allclose(found.scores, scores, atol=1e-4)
    assert torch.equal(found.pred_classes, classes)
    overlap = (found.pred_masks & masks).sum((1, 2))
    union = (found.pred_masks | masks).sum((1, 2))
    assert (overlap[union > 0] / union[union > 0]).min() > 0.99


def sparse_inst_outputs(name: str, weights: State, image: Tensor) -> tuple:
    x = reference_sparse_inst.encode(weights, stages_of(weights, image)[1:])
    return reference_sparse_inst.decode(weights, x, SPARSE_INST[name])


@pytest.mark.parametrize("name", slow_but(FAST, SPARSE_INST_BACKBONES))
def test_a_backbone_of_sparse_inst_has_the_references_features(name: str, tmp_path: Path) -> None:
    weights = random_weights(name)
    x = normalised(picture()[0])
    expected = SPARSE_INST_BACKBONES[name](weights, x)
    with torch.no_grad():
        found = our_model(name, weights, tmp_path).eval().backbone(x)
    assert len(found) == len(expected) == 3
    for ours, theirs in zip(found.values(), expected):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.std()))


@pytest.mark.parametrize("name", slow_but(FAST, SPARSE_INST))
def test_sparse_inst_predicts_as_the_reference(name: str, tmp_path: Path) -> None:
    weights = random_weights(name)
    image = picture()[0]
    expected = reference_sparse_inst.predict(
        sparse_inst_outputs(name, weights, image), IMAGE, OUTPUT
    )
    model = our_model(name, weights, tmp_path)
    inputs = {"image": image, "height": OUTPUT[0], "width": OUTPUT[1]}
    assert_same(model.eval()([inputs])[0]["instances"], expected)


@pytest.mark.parametrize("name", slow_but(FAST, SPARSE_INST))
def test_sparse_inst_has_the_references_losses(name: str, tmp_path: Path) -> None:
    weights = random_weights(name)
    inputs, masks, classes = training_input()
    outputs = sparse_inst_outputs(name, weights, inputs["image"])
    expected = reference_sparse_inst.losses(outputs, masks, classes)
    with torch.no_grad():
        losses = our_model(name, weights, tmp_path).train()([inputs])
    assert {key: float(value) for key, value in losses.items()} == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("name", slow_but(FAST, MASK_FORMER))
def test_mask_former_predicts_as_the_reference(name: str, tmp_path: Path) -> None:
    weights = random_weights(name)
    image = picture()[0]
    classes, masks = reference_mask_former.forward(
        weights, stages_of(weights, image), **MASK_FORMER[name]
    )
    last = classes[-1], masks[-1], PADDED, IMAGE, OUTPUT
    model = our_model(name, weights, tmp_path, **{"MODEL.MASK_FORMER.TEST.INSTANCE_ON": True})
    inputs = {"image": image, "height": OUTPUT[0], "width": OUTPUT[1]}
    result = model.eval()([inputs])[0]
    assert torch.allclose(result["sem_seg"], reference_mask_former.semantic(*last), atol=1e-4)
    assert_same(result["instances"], reference_mask_former.instances(*last))


@pytest.mark.parametrize("name", slow_but(FAST, MASK_FORMER))
def test_mask_former_has_the_references_losses(name: str, tmp_path: Path) -> None:
    weights = random_weights(name)
    inputs, masks, labels = training_input()
    # The official models train their batch norms' statistics; dropout is not to be compared.
    stages = stages_of(weights, inputs["image"], training=True)
    layers = reference_mask_former.forward(weights, stages, **MASK_FORMER[name])
    expected = [reference_mask_former.losses(c, m, masks, labels) for c, m in zip(*layers)]
    model = our_model(name, weights, tmp_path, **WITHOUT_CHANCE)
    with torch.no_grad():
        losses = model.train()([inputs])
    kinds = ("loss_ce", "loss_mask", "loss_dice")
    ours = [[float(losses[f"{kind}{suffix}"]) for kind in kinds] for suffix in ("_0", "")]
    assert ours == [pytest.approx(layer, rel=0.01) for layer in expected]
