"""The SOLO family: random weights under each source's names give what the papers say they give.

`SOLO_FAMILY_WEIGHTS` is not needed here: see test_published.py.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor

from solo_family.checkpoint.convert import config_of, convert

from . import reference_solo as reference
from .lists import random_weights, save, slow_but
from .reference_backbone import State, fpn, resnet50

# What the official code and mmdetection call the same things.
_OFFICIAL: dict[str, Any] = {
    "category_conv": "bbox_head.cate_convs.{i}.conv",
    "category_norm": "bbox_head.cate_convs.{i}.gn",
}
_FEATURES: dict[str, Any] = {
    "feature_conv": "mask_feat_head.convs_all_levels.{level}.conv{index}.conv",
    "feature_norm": "mask_feat_head.convs_all_levels.{level}.conv{index}.gn",
    "projection_conv": "mask_feat_head.conv_pred.0.conv",
    "projection_norm": "mask_feat_head.conv_pred.0.gn",
}


def _towers(prefix: str, towers: dict[str, str], last: dict[str, str]) -> dict[str, Any]:
    return {
        "conv": {axis: f"{prefix}{name}.{{i}}.conv" for axis, name in towers.items()},
        "norm": {axis: f"{prefix}{name}.{{i}}.gn" for axis, name in towers.items()},
        "last": {axis: f"{prefix}{name}" for axis, name in last.items()},
    }


_PAIR = {axis: f"dsolo_ins_list_{axis}.{{}}" for axis in "xy"}
_MM_PAIR = {axis: f"conv_mask_list_{axis}.{{}}" for axis in "xy"}
_MM: dict[str, Any] = {
    "category_conv": "mask_head.cls_convs.{i}.conv",
    "category_norm": "mask_head.cls_convs.{i}.gn",
    "category": "mask_head.conv_cls",
}
_MM_FEATURES: dict[str, Any] = {
    key: value.replace("mask_feat_head.", "mask_head.mask_feature_head.").replace("pred.0", "pred")
    for key, value in _FEATURES.items()
}
_SOLO: dict[str, Any] = {"category": "bbox_head.solo_cate", **_OFFICIAL}
_DECOUPLED: dict[str, Any] = {"category": "bbox_head.dsolo_cate", **_OFFICIAL}
NAMES = {
    "official_solo": reference.Names(
        **_SOLO, **_towers("bbox_head.", {"xy": "ins_convs"}, {"xy": "solo_ins_list.{}"})
    ),
    "official_decoupled": reference.Names(
        **_DECOUPLED, **_towers("bbox_head.", {"x": "ins_convs_x", "y": "ins_convs_y"}, _PAIR)
    ),
    "official_decoupled_light": reference.Names(
        **_DECOUPLED, **_towers("bbox_head.", {"xy": "ins_convs"}, _PAIR)
    ),
    "official_solov2": reference.Names(
        **_SOLO, **_towers("bbox_head.", {"xy": "kernel_convs"}, {"xy": "solo_kernel"}), **_FEATURES
    ),
    **dict.fromkeys(
        ("official_solov2_dcn", "official_solov2_light_dcn"),
        reference.Names(
            **_SOLO,
            **_towers("bbox_head.", {"xy": "kernel_convs"}, {"xy": "solo_kernel"}),
            **_FEATURES,
        ),
    ),
    "mmdet3_solo": reference.Names(
        **_MM, **_towers("mask_head.", {"xy": "mask_convs"}, {"xy": "conv_mask_list.{}"})
    ),
    "mmdet3_decoupled": reference.Names(
        **_MM, **_towers("mask_head.", {"x": "mask_convs_x", "y": "mask_convs_y"}, _MM_PAIR)
    ),
    "mmdet3_decoupled_light": reference.Names(
        **_MM, **_towers("mask_head.", {"xy": "mask_convs"}, _MM_PAIR)
    ),
    "mmdet3_solov2": reference.Names(
        **_MM,
        **_towers("mask_head.", {"xy": "kernel_convs"}, {"xy": "conv_kernel"}),
        **_MM_FEATURES,
    ),
    "adelaidet_solov2": reference.Names(
        category_conv="ins_head.cate_tower.{three}",
        category_norm="ins_head.cate_tower.{three}",
        category="ins_head.cate_pred",
        conv={"xy": "ins_head.kernel_tower.{three}"},
        norm={"xy": "ins_head.kernel_tower.{three}"},
        last={"xy": "ins_head.kernel_pred"},
        feature_conv="mask_head.convs_all_levels.{level}.conv{index}.0",
        feature_norm="mask_head.convs_all_levels.{level}.conv{index}.1",
        projection_conv="mask_head.conv_pred.0",
        projection_norm="mask_head.conv_pred.1",
    ),
}
# One of each head and of each code base; the rest are their combinations.
FAST = (
    "official_solo",
    "official_decoupled",
    "official_solov2_dcn",
    "mmdet3_decoupled_light",
    "adelaidet_solov2",
)
FAST_LOSSES = ("official_solo", "official_decoupled", "mmdet3_solov2")
IMAGE, OUTPUT, PADDED = (90, 120), (135, 180), (96, 128)


def weights_of(name: str) -> State:
    """Random weights that find some objects, and not everywhere."""
    weights = random_weights(name)
    category = f"{NAMES[name].category}.bias"
    weights[category] = torch.linspace(-4, -2, len(weights[category]))
    return weights


def picture(seed: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """An image in RGB, masks, classes and boxes; the last two objects share their centre."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 255, (3, *IMAGE), generator=generator, dtype=torch.uint8)
    masks = torch.zeros((4, *IMAGE), dtype=torch.bool)
    corners = [(5, 8, 41, 35), (30, 50, 88, 118), (10, 70, 40, 100), (8, 60, 43, 112)]
    for mask, (top, left, bottom, right) in zip(masks, corners):
        mask[top:bottom, left:right] = True
    masks[1, 30:50, 50:70] = False
    boxes = torch.tensor(
        [(left, top, right, low) for top, left, low, right in corners], dtype=torch.float32
    )
    return image, masks, torch.tensor([1, 0, 6, 3]), boxes


def reference_outputs(name: str, state: State, image: Tensor) -> tuple[list, list]:
    """Category logits and mask logits (or pairs of maps) of every level."""
    ours = name == "adelaidet_solov2"
    if ours:  # AdelaiDet: BGR, mean only, stride in the 1x1 convolution
        x = image.flip(0).float() - torch.tensor([103.53, 116.28, 123.675])[:, None, None]
    else:
        x = image.float() - torch.tensor([123.675, 116.28, 103.53])[:, None, None]
        x = x / torch.tensor([58.395, 57.12, 57.375])[:, None, None]
    height, width = image.shape[-2:]
    x = torch.nn.functional.pad(x, (0, PADDED[1] - width, 0, PADDED[0] - height))[None]
    prefix = "backbone.bottom_up." if ours else "backbone."
    stages = resnet50(state, x, prefix=prefix, detectron2=ours, stride_in_1x1=ours)
    if ours:
        renamed = {
            key.replace("fpn_lateral", "L.").replace("fpn_output", "O."): value
            for key, value in state.items()
        }
        shifted = {f"{kind}{i}": f"backbone.{kind}.{i + 2}" for kind in "LO" for i in range(4)}
        for short, long in shifted.items():
            for part in ("weight", "bias"):
                renamed[f"{short}.{part}"] = renamed[f"{long}.{part}"]
        levels = fpn(renamed, stages, "L{}", "O{}")
    else:
        levels = fpn(state, stages, "neck.lateral_convs.{}.conv", "neck.fpn_convs.{}.conv")
    names = NAMES[name]
    logits = reference.categories(state, names, levels)
    if "solov2" in name:
        return logits, reference.solov2_masks(state, names, levels)
    if "decoupled" in name:
        return logits, reference.decoupled_maps(state, names, levels)
    return logits, reference.solo_masks(state, names, levels)


def our_model(name: str, tmp_path: Path) -> tuple[torch.nn.Module, State]:
    weights = weights_of(name)
    converted = convert(save(tmp_path / "theirs.pth", weights))
    grids = {} if "NUM_GRIDS" in str(converted.keys) else GRID_KEYS
    model = build_model(config_of({**converted.keys, **grids, "MODEL.DEVICE": "cpu"}))
    model.load_state_dict(converted.weights, strict=False)
    return model, weights


# The weights of SOLOv2 do not depend on its grids.
GRID_KEYS = {"MODEL.SOLOV2.NUM_GRIDS": list(reference.GRIDS)}


@pytest.mark.parametrize("name", slow_but(FAST, NAMES))
def test_predictions_are_the_references(name: str, tmp_path: Path) -> None:
    model, weights = our_model(name, tmp_path)
    image, *_ = picture()
    logits, maps = reference_outputs(name, weights, image)
    soft = reference.stride_4_masks(maps, (PADDED[0] // 4, PADDED[1] // 4))
    scores, classes, masks = reference.predict(logits, soft, IMAGE, OUTPUT)
    given = image.flip(0) if name == "adelaidet_solov2" else image
    inputs = {"image": given, "height": OUTPUT[0], "width": OUTPUT[1]}
    (result,) = model.eval()([inputs])
    found = result["instances"]
    assert 10 < len(scores) == len(found)
    assert torch.allclose(found.scores, scores, atol=1e-4)
    assert torch.equal(found.pred_classes, classes)
    overlap = (found.pred_masks & masks).sum((1, 2))
    union = (found.pred_masks | masks).sum((1, 2))
    # A mask of a few pixels at a quarter of the size may have none in the end.
    assert (overlap[union > 0] / union[union > 0]).min() > 0.99


@pytest.mark.parametrize("name", slow_but(FAST_LOSSES, NAMES))
def test_losses_are_the_references(name: str, tmp_path: Path) -> None:
    model, weights = our_model(name, tmp_path)
    image, masks, classes, boxes = picture()
    # As large as the padded input, as the official code's masks are.
    logits, maps = reference_outputs(name, weights, image)
    whole = torch.nn.functional.pad(masks, (0, PADDED[1] - IMAGE[1], 0, PADDED[0] - IMAGE[0]))
    focal, dice = reference.losses(
        logits,
        maps,
        whole,
        classes,
        boxes,
        PADDED,
        solov2="solov2" in name,
        cells=name == "mmdet3_solov2",
    )
    truth = Instances(IMAGE, gt_boxes=Boxes(boxes), gt_classes=classes, gt_masks=BitMasks(masks))
    given = image.flip(0) if name == "adelaidet_solov2" else image
    with torch.no_grad():
        losses = model.train()([{"image": given, "instances": truth}])
    ours = sorted(float(value) for value in losses.values())
    assert ours == pytest.approx(sorted([focal, dice]), rel=0.01)
