"""The real mmdetection and transformers, where they are installed (`pip install --no-deps`).

mmdet 3.3.0 with mmcv-lite 2.1.0 and transformers 5; the tests that need nothing are in
test_faithful_solo.py and test_faithful_sets.py.
"""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from torch import Tensor, nn

from solo_family.checkpoint.convert import config_of, convert

from .key_names import write_lists as packages
from .lists import random_weights, save
from .test_faithful_solo import IMAGE, OUTPUT, PADDED, picture, weights_of


def needs(*names: str) -> pytest.MarkDecorator:
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")


def our_model(weights: dict[str, Tensor], tmp_path: Path, **keys: Any) -> nn.Module:
    converted = convert(save(tmp_path / "theirs.pth", weights))
    model = build_model(config_of({**converted.keys, **keys, "MODEL.DEVICE": "cpu"}))
    model.load_state_dict(converted.weights, strict=False)
    return model.eval()


def normalised(image: Tensor) -> Tensor:
    x = image.float() - torch.tensor([123.675, 116.28, 103.53])[:, None, None]
    x = x / torch.tensor([58.395, 57.12, 57.375])[:, None, None]
    return nn.functional.pad(x, (0, PADDED[1] - IMAGE[1], 0, PADDED[0] - IMAGE[0]))[None]


@needs("mmdet", "mmcv")
@pytest.mark.parametrize(
    "name", ["mmdet3_solo", "mmdet3_decoupled", "mmdet3_decoupled_light", "mmdet3_solov2"]
)
def test_mmdetection_predicts_the_same(name: str, tmp_path: Path) -> None:
    from mmdet.structures import DetDataSample

    file, tiny = packages.MMDET[name]
    weights = weights_of(name)
    theirs = packages.build_mmdet(tiny(file)).eval()
    theirs.load_state_dict(weights)
    image = picture()[0]
    scale = (OUTPUT[1] / IMAGE[1], OUTPUT[0] / IMAGE[0])
    sample = DetDataSample(
        metainfo={
            "img_shape": IMAGE,
            "ori_shape": OUTPUT,
            "batch_input_shape": PADDED,
            "pad_shape": PADDED,
            "scale_factor": tuple(1 / s for s in scale),
        }
    )
    with torch.no_grad():
        (expected,) = theirs.predict(normalised(image), [sample])
    expected = expected.pred_instances
    keys = {"MODEL.SOLOV2.NUM_GRIDS": list(packages.GRIDS)} if "solov2" in name else {}
    inputs = {"image": image, "height": OUTPUT[0], "width": OUTPUT[1]}
    found = our_model(weights, tmp_path, **keys)([inputs])[0]["instances"]
    assert len(expected) == len(found) > 5
    order = expected.scores.argsort(descending=True, stable=True)
    assert torch.allclose(found.scores, expected.scores[order], atol=1e-4)
    assert torch.equal(found.pred_classes, expected.labels[order])
    masks = expected.masks[order]
    union = (found.pred_masks | masks).sum((1, 2))
    overlap = (found.pred_masks & masks).sum((1, 2))
    assert (overlap[union > 0] / union[union > 0]).min() > 0.99


@needs("mmdet", "mmcv")
@pytest.mark.parametrize(
    "name", ["mmdet3_solo", "mmdet3_decoupled", "mmdet3_decoupled_light", "mmdet3_solov2"]
)
def test_mmdetection_has_the_same_losses(name: str, tmp_path: Path) -> None:
    file, tiny = packages.MMDET[name]
    weights = weights_of(name)
    theirs = packages.build_mmdet(tiny(file)).train()  # batch norms stay as they are
    theirs.load_state_dict(weights)
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    image, masks, classes, boxes = picture()
    padded = nn.functional.pad(masks, (0, PADDED[1] - IMAGE[1], 0, PADDED[0] - IMAGE[0]))
    truth = InstanceData(bboxes=boxes, labels=classes)
    truth.masks = BitmapMasks(padded.numpy().astype("uint8"), *PADDED)
    meta = {"img_shape": IMAGE, "batch_input_shape": PADDED, "pad_shape": PADDED}
    sample = DetDataSample(metainfo=meta, gt_instances=truth)
    keys: dict[str, Any] = {"MODEL.SOLOV2.NUM_GRIDS": list(packages.GRIDS)}
    if "light" in name:  # the ranges of its config, which leave no trace in the weights
        ranges = ((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048))
        keys = {"MODEL.SOLO.FPN_SCALE_RANGES": ranges}
    elif "solov2" not in name:
        keys = {}
    model = our_model(weights, tmp_path, **keys).train()
    gt = Instances(IMAGE, gt_boxes=Boxes(boxes), gt_classes=classes, gt_masks=BitMasks(masks))
    with torch.no_grad():
        expected = theirs.loss(normalised(image), [sample])
        losses = model([{"image": image, "instances": gt}])
    ours = sorted(float(value) for value in losses.values())
    assert ours == pytest.approx(sorted(float(v) for v in expected.values()), rel=0.01)


@needs("mmdet", "mmcv")
@pytest.mark.parametrize("name", ["mmdet3_mask_former_r50", "mmdet3_mask_former_swin"])
def test_mmdetections_mask_former_has_the_same_logits(name: str, tmp_path: Path) -> None:
    file, tiny = packages.MMDET[name]
    theirs = packages.build_mmdet(tiny(file)).eval()
    weights = recomputed(random_weights(name), theirs)
    theirs.load_state_dict(weights)
    x = normalised(picture()[0])
    from mmdet.structures import DetDataSample

    sample = DetDataSample(metainfo={"batch_input_shape": PADDED, "img_shape": PADDED})
    with torch.no_grad():
        classes, masks = theirs.panoptic_head(theirs.extract_feat(x), [sample])
    compare_logits(our_model(weights, tmp_path), x, classes[-1], masks[-1])


@needs("transformers")
@pytest.mark.parametrize("kind", ["resnet", "swin"])
def test_huggingfaces_mask_former_has_the_same_logits(kind: str, tmp_path: Path) -> None:
    theirs = packages.huggingface(kind).eval()
    weights = recomputed(random_weights(f"huggingface_{kind}"), theirs)
    theirs.load_state_dict(weights)
    # On a map no larger than a window theirs neither shifts nor keeps the window's size.
    x = torch.nn.functional.interpolate(normalised(picture()[0]), (224, 256))
    with torch.no_grad():
        output = theirs(pixel_values=x)
    classes, masks = output.class_queries_logits, output.masks_queries_logits
    compare_logits(our_model(weights, tmp_path), x, classes, masks)


def recomputed(weights: dict[str, Tensor], theirs: nn.Module) -> dict[str, Tensor]:
    """Random weights with the indices that are computed, not learnt."""
    indices = {k: v for k, v in theirs.state_dict().items() if k.endswith("position_index")}
    return weights | indices


def compare_logits(model: nn.Module, x: Tensor, classes: Tensor, masks: Tensor) -> None:
    with torch.no_grad():
        class_logits, embeddings, features = model.sem_seg_head(model.backbone(x))
    ours = torch.einsum("bne,behw->bnhw", embeddings[-1], features)
    assert torch.allclose(class_logits[-1], classes, atol=1e-4)
    assert torch.allclose(ours, masks, atol=1e-4 * float(masks.abs().max()))
