"""What every method promises, tested over METHODS."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from solo_family import METHODS, get_cfg
from solo_family.config import setup_cfg
from solo_family.model_zoo import get_config_file

from .conftest import (
    ROOT,
    assert_finite_gradients,
    assert_learns,
    eager_to_find,
    picture,
    tiny_cfg,
    tiny_model,
)

METHOD_NAMES = sorted(METHODS)
EVERY_CONFIG = sorted(
    str(path.relative_to(ROOT / "configs"))
    for path in (ROOT / "configs").rglob("*.yaml")
    if not path.name.startswith("Base-")
)


def every_config() -> Iterator[Any]:
    """Yield all; but for the quick start's, all but the first of a folder are slow."""
    seen = set()
    for config in EVERY_CONFIG:
        folder = config.rsplit("/", 1)[0]
        kind = config if folder == "quickstart" else folder
        yield pytest.param(config, marks=pytest.mark.slow if kind in seen else ())
        seen.add(kind)


@pytest.mark.parametrize("config", every_config())
def test_every_config_builds_its_model(config: str) -> None:
    cfg = setup_cfg(get_config_file(config))
    name = cfg.MODEL.META_ARCHITECTURE
    # detectron2's own SemanticSegmentor has MaskFormer's baselines as heads.
    method = METHODS["MaskFormer" if name == "SemanticSegmentor" else name]
    cfg.merge_from_list([method.num_classes_key, 5])
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (), ()
    cfg.MODEL.TIMM.WEIGHTS = cfg.MODEL.VGG.WEIGHTS = ""
    # Shapes only: random weights of some would take minutes.
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        assert type(build_model(cfg)).__name__ == name


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_configs_of_every_method_are_there(method: str) -> None:
    get_config_file(METHODS[method].base_config)
    cfg = setup_cfg(get_config_file(METHODS[method].quickstart_config))
    assert method == cfg.MODEL.META_ARCHITECTURE


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_dumped_config_loads_again(method: str) -> None:
    cfg = tiny_cfg(method)
    again = get_cfg()
    again.merge_from_other_cfg(CfgNode.load_cfg(cfg.dump()))
    # As JSON, because yaml reads nested tuples back as lists.
    assert json.dumps(again) == json.dumps(cfg)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_few_steps_lower_the_loss(method: str) -> None:
    model = tiny_model(method)
    batch = [picture(seed=1), picture(seed=2, height=80)]
    assert_learns(model, batch)


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("objects", [(0,), (0, 2), (0, 0)])
def test_images_without_objects_train(method: str, objects: tuple[int, ...]) -> None:
    model = tiny_model(method)
    losses = model([picture(objects=count, seed=count) for count in objects])
    assert_finite_gradients(model, losses)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_an_image_whose_instances_have_no_mask_field_trains(method: str) -> None:
    """detectron2's mapper leaves `gt_masks` out where there is no object."""
    empty = picture(objects=0)
    empty["instances"].remove("gt_masks")
    losses = tiny_model(method)([empty, picture()])
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("found", [True, False])
def test_results_carry_the_four_fields(method: str, found: bool) -> None:
    model = eager_to_find(tiny_model(method), found)
    image = picture(50, 70)
    image.update(height=33, width=91)
    with torch.no_grad():
        instances = model([image])[0]["instances"]
    assert (len(instances) > 0) == found
    count = len(instances)
    assert instances.image_size == (33, 91)
    assert instances.pred_masks.shape == (count, 33, 91)
    assert instances.pred_boxes.tensor.shape == (count, 4)
    assert instances.pred_masks.dtype == torch.bool
    assert instances.pred_boxes.tensor.dtype == instances.scores.dtype == torch.float32
    assert instances.pred_classes.dtype == torch.int64
    assert {value.device for value in (instances.scores, instances.pred_masks)} == {model.device}


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_boxes_are_tight(method: str) -> None:
    model = eager_to_find(tiny_model(method), True)
    with torch.no_grad():
        instances = model([picture()])[0]["instances"]
    for mask, box in zip(instances.pred_masks, instances.pred_boxes.tensor.tolist()):
        ys, xs = mask.nonzero(as_tuple=True)
        if len(ys):
            assert box == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        else:
            assert box == [0, 0, 0, 0]


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_batch_gives_what_batches_of_one_give(method: str) -> None:
    model = eager_to_find(tiny_model(method), True)
    batch = [picture(64, 96), picture(130, 70, seed=3), picture(60, 90, seed=4), picture(20, 200)]
    with torch.no_grad():
        together = model(batch)
        alone = [model([image])[0] for image in batch]
    for one, other in zip(together, alone):
        one, other = one["instances"], other["instances"]
        assert len(one) == len(other) > 0
        torch.testing.assert_close(one.scores, other.scores, atol=1e-4, rtol=0)
        assert torch.equal(one.pred_classes, other.pred_classes)
        assert (one.pred_masks != other.pred_masks).float().mean() < 1e-4


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_bfloat16_autocast_trains_and_infers(method: str) -> None:
    model = tiny_model(method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model([picture(), picture(objects=0)])
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    eager_to_find(model, True)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        instances = model([picture()])[0]["instances"]
    assert len(instances) > 0
    assert instances.scores.dtype == torch.float32


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_program_may_have_another_default_dtype_and_device(method: str) -> None:
    """As a notebook with `torch.set_default_dtype` and `torch.set_default_device`."""
    model = eager_to_find(tiny_model(method), True)
    image = picture()
    with torch.no_grad():
        expected = model([image])[0]
        torch.set_default_dtype(torch.float64)
        try:
            # Whatever is made on no device in particular would be without data.
            with torch.device("meta"):
                found = model([image])[0]
        finally:
            torch.set_default_dtype(torch.float32)
    assert len(found["instances"]) > 0
    for name, value in expected["instances"].get_fields().items():
        given = found["instances"].get(name)
        value, given = (getattr(field, "tensor", field) for field in (value, given))
        assert given.dtype == value.dtype
        assert torch.equal(given, value), name
    if "panoptic_seg" in expected:
        assert torch.equal(found["panoptic_seg"][0], expected["panoptic_seg"][0])


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("num_classes", [1, 80])
def test_one_class_and_eighty(method: str, num_classes: int) -> None:
    model = tiny_model(method, num_classes)
    assert all(loss.isfinite() for loss in model([picture(num_classes=num_classes)]).values())
    with torch.no_grad():
        classes = eager_to_find(model, True)([picture()])[0]["instances"].pred_classes
    assert len(classes) > 0
    assert 0 <= classes.min() <= classes.max() < num_classes


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("size", [(1, 1), (30, 4000)])
def test_extreme_sizes(method: str, size: tuple[int, int]) -> None:
    model = eager_to_find(tiny_model(method), True)
    image = {"image": torch.zeros((3, *size), dtype=torch.uint8)}
    with torch.no_grad():
        assert model([image])[0]["instances"].image_size == size
