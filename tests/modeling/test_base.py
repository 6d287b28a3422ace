"""What every method does before and after its own part."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from solo_family import METHODS
from solo_family.errors import ConfigError
from solo_family.modeling.transfer import normalise

from ..conftest import eager_to_find, picture, tiny_model
from ..waits import count_waits


@pytest.mark.parametrize("method", METHODS)
def test_targets_are_made_before_the_backbone_runs(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image = tiny_model(method).train(), picture(33, 70)
    order = []

    def prepare_targets(gt_instances: list, padded_size: tuple[int, int]) -> str:
        order.append("targets")
        assert torch.equal(gt_instances[0].gt_masks.tensor, image["instances"].gt_masks.tensor)
        assert torch.equal(gt_instances[0].gt_classes, image["instances"].gt_classes)
        assert padded_size == (64, 96)
        return "targets"

    def losses(features: dict, targets: str, padded_size: tuple[int, int]) -> dict:
        assert targets == "targets"
        assert padded_size == (64, 96)
        return {}

    monkeypatch.setattr(model, "prepare_targets", prepare_targets)
    monkeypatch.setattr(model, "losses", losses)
    model.backbone.register_forward_pre_hook(lambda *_: order.append("backbone"))
    assert model([image]) == {}
    assert order == ["targets", "backbone"]


def normalised_one_by_one(model: nn.Module, images: list[Tensor]) -> Tensor:
    """Channel by channel, into zeros."""
    height = -(-max(image.shape[1] for image in images) // 32) * 32
    width = -(-max(image.shape[2] for image in images) // 32) * 32
    batch = torch.zeros(len(images), 3, height, width)
    for index, image in enumerate(images):
        for channel in range(3):
            mean, std = model.pixel_mean[channel, 0, 0], model.pixel_std[channel, 0, 0]
            value = (image[channel].to(torch.float32) - mean) / std
            batch[index, channel, : image.shape[1], : image.shape[2]] = value
    return batch


def pictures(*sizes: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes
    ]


@pytest.mark.parametrize(
    "images",
    [
        pictures((64, 96)),
        pictures((33, 70), (64, 50), (1, 1)),
        [image.float() * 0.7 for image in pictures((40, 50))],
        [image.to(torch.uint16) for image in pictures((40, 50))],
        [image.double() / 3 for image in pictures((40, 50))],
        [pictures((40, 50))[0].permute(0, 2, 1)[:, ::2]],
    ],
    ids=["whole", "three sizes", "float32", "uint16", "float64", "strided"],
)
def test_pictures_are_normalised_and_padded_with_0(images: list[Tensor]) -> None:
    model = tiny_model("SparseInst")
    before = [image.clone() for image in images]
    batch = model.preprocess(images)
    assert batch.image_sizes == [tuple(image.shape[1:]) for image in images]
    assert batch.tensor.dtype == torch.float32
    assert torch.equal(batch.tensor, normalised_one_by_one(model, images))
    assert all(torch.equal(*pair) for pair in zip(images, before))


def test_a_gradient_reaches_a_picture() -> None:
    model = tiny_model("SparseInst")
    image = pictures((40, 50))[0].float().requires_grad_()
    model.preprocess([image]).tensor.sum().backward()
    expected = (1 / model.pixel_std).expand(3, 40, 50)
    torch.testing.assert_close(image.grad, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_get_pictures_of_it(dtype: torch.dtype) -> None:
    """Rounded once, after they are normalised in float32."""
    whole, images = tiny_model("SparseInst"), pictures((33, 70))
    half = tiny_model("SparseInst").to(dtype)
    assert half.pixel_mean.dtype == torch.float32
    batch = half.preprocess(images).tensor
    assert batch.dtype == dtype
    assert torch.equal(batch, whole.preprocess(images).tensor.to(dtype))


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_double_precision_find_the_same(method: str) -> None:
    model, inputs = eager_to_find(tiny_model(method)), [{"image": picture()["image"]}]
    single = model(inputs)[0]["instances"]
    double = model.double()(inputs)[0]["instances"]
    assert len(double) == len(single) > 0
    assert double.scores.dtype == torch.float32
    torch.testing.assert_close(double.scores, single.scores, atol=1e-4, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_normalises_as_a_cpu_and_is_not_waited_for(method: str) -> None:
    images = pictures((33, 70), (64, 50))
    expected = tiny_model(method).preprocess(images).tensor
    model = tiny_model(method).to("cuda")
    model.preprocess(images)
    with count_waits("cuda") as waits:
        actual = model.preprocess(images).tensor
    assert waits.total == 0
    assert torch.equal(actual.cpu(), expected)


def test_the_mean_is_not_written_to() -> None:
    """Of one picture of one pixel, that needs no padding, a view would be."""
    mean, std = torch.tensor([5.0]).view(1, 1, 1), torch.ones(1, 1, 1)
    assert normalise([torch.full((1, 1, 1), 7)], mean, std, 1).tolist() == [[[[2]]]]
    assert mean.item() == 5


class Patches(Backbone):
    """A backbone of patches of 14 pixels, as DINOv2, which cuts off what is no whole patch."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 14, stride=14)

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        assert all(side % self.size_divisibility == 0 for side in x.shape[-2:])
        return {"last": self.patches(x).relu()}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"last": ShapeSpec(channels=32, stride=14)}

    @property
    def size_divisibility(self) -> int:
        return 14


ONE_LEVEL: dict[str, dict[str, Any]] = {
    "SOLOv2": {
        **{"INSTANCE_IN_FEATURES": ["last"], "MASK_IN_FEATURES": ["last"]},
        **{"FPN_INSTANCE_STRIDES": [14], "NUM_GRIDS": [6], "FPN_SCALE_RANGES": [(1, 512)]},
    },
    "MaskFormer": {"TRANSFORMER_IN_FEATURE": "last"},
}


@pytest.fixture
def build_patches() -> Iterator[str]:
    BACKBONE_REGISTRY._do_register("build_patches", lambda cfg, shape: Patches())
    yield "build_patches"
    BACKBONE_REGISTRY._obj_map.pop("build_patches")


@pytest.mark.parametrize("method", ONE_LEVEL)
def test_inputs_are_whole_patches_of_any_size(method: str, build_patches: str) -> None:
    prefix = {"SOLOv2": "MODEL.SOLOV2", "MaskFormer": "MODEL.MASK_FORMER"}[method]
    opts = [word for key, value in ONE_LEVEL[method].items() for word in (f"{prefix}.{key}", value)]
    opts += ["MODEL.BACKBONE.NAME", build_patches]
    if method == "MaskFormer":
        opts += ["MODEL.SEM_SEG_HEAD.IN_FEATURES", ["last"]]
        with pytest.raises(ConfigError, match="SIZE_DIVISIBILITY is 32, but build_patches takes"):
            tiny_model(method, opts=opts)
        opts += ["MODEL.MASK_FORMER.SIZE_DIVISIBILITY", -1]
    model = tiny_model(method, opts=opts)
    assert model.size_divisibility == (14 if method == "MaskFormer" else 42)
    losses = model.train()([picture(33, 70), picture(50, 64)])
    assert all(loss.isfinite() for loss in losses.values())
    assert model.eval()([picture(33, 70)])[0]
