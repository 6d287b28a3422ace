"""What becomes a CUDA graph: nothing in it waits, nor has a size that depends on the picture."""

import pytest
import torch
from torch import Tensor, nn

from solo_family import METHODS
from solo_family.modeling import order
from solo_family.modeling.layers.remembered import constants_of_a_graph
from solo_family.modeling.recording import map_tensors

from ..conftest import eager_to_find, picture, tiny_model
from ..waits import count_waits

TIMM = [
    *("MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", "resnet10t"),
    *("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"]),
]
PANOPTIC = ["MODEL.SPARSE_INST.PANOPTIC_ON", True, "MODEL.STUFF_IDS", [2]]
VARIANTS: dict[str, tuple[str, list]] = {
    **{method: (method, []) for method in METHODS},
    "region grid": ("SOLO", ["MODEL.SOLO.CATEGORY_ALIGN", "region_grid"]),
    "timm": ("SOLOv2", TIMM),
    "NMS of SparseInst": ("SparseInst", ["MODEL.SPARSE_INST.NMS_TYPE", "matrix"]),
    "panoptic SparseInst": ("SparseInst", PANOPTIC),
    "cross-attention": ("SparseInst", ["MODEL.SPARSE_INST.DECODER.NAME", "CrossAttentionDecoder"]),
    "base decoder": ("SparseInst", ["MODEL.SPARSE_INST.DECODER.NAME", "BaseIAMDecoder"]),
}


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "waits", lambda _: True)


def make(variant: str, found: bool = True) -> nn.Module:
    method, opts = VARIANTS[variant]
    return eager_to_find(tiny_model(method, opts=opts), found)


@torch.no_grad()
def fixed_part_of(model: nn.Module, batch: Tensor) -> list[Tensor]:
    tensors: list[Tensor] = []
    height, width = batch.shape[-2:]
    fixed = model.fixed_part(model.backbone(batch), (height, width))
    map_tensors(lambda tensor: tensors.append(tensor) or tensor, fixed)
    return tensors


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_waits(variant: str, as_on_a_gpu: None) -> None:
    model = make(variant)
    batch = model.preprocess([picture()["image"]]).tensor
    with constants_of_a_graph():
        # As it is rehearsed and then captured.
        fixed_part_of(model, batch)
        with count_waits() as waits:
            tensors = fixed_part_of(model, batch)
    assert waits.total == 0, waits.where
    assert tensors


@pytest.mark.parametrize("variant", VARIANTS)
def test_sizes_are_those_of_any_picture(variant: str, as_on_a_gpu: None) -> None:
    shapes = []
    for found, seed in ((True, 1), (True, 2), (False, 1)):
        model = make(variant, found)
        batch = model.preprocess([picture(seed=seed)["image"]]).tensor
        shapes.append([(tensor.shape, tensor.dtype) for tensor in fixed_part_of(model, batch)])
    assert shapes[0] == shapes[1] == shapes[2]
