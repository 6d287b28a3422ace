"""A trained model made ready for inference: half precision, folded norms."""

from collections import Counter
from typing import Any

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from solo_family import METHODS
from solo_family.config import get_cfg
from solo_family.modeling.base import MaskSegmentor
from solo_family.modeling.inference import (
    fold_batch_norms,
    inference_model,
    prepare_for_inference,
)
from solo_family.modeling.layers import ConvNormReLU
from solo_family.modeling.layers.deform_conv import DeformConv2d
from solo_family.modeling.layers.folded_norm import FoldingConv2d

from ..conftest import eager_to_find, picture, tiny_model
from .test_cuda_graphs import values_of

OPTS: dict[str, list] = {"InstanceFCN": ["MODEL.INSTANCE_FCN.TEST_SCALES", ()]}


def make(method: str, opts: list | None = None) -> MaskSegmentor:
    return eager_to_find(tiny_model(method, opts=[*OPTS.get(method, []), *(opts or [])]))


def share_found(found: Any, expected: Any) -> float:
    """The share of the instances that are there with nearly the same score and mask."""
    shared = 0
    for mask, score, cls in zip(expected.pred_masks, expected.scores, expected.pred_classes):
        near = (found.scores - score).abs() < 0.03
        alike = found.pred_masks[near & (found.pred_classes == cls)]
        common, either = (alike & mask).sum((1, 2)), (alike | mask).sum((1, 2))
        shared += bool((common > 0.8 * either).any()) or (not mask.any() and len(alike) > 0)
    return shared / len(expected)


class Operators(TorchDispatchMode):
    """Counts what gives a tensor of its own: on a GPU each is a launch."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = result if isinstance(result, tuple | list) else (result,)
        given = {x.untyped_storage().data_ptr() for x in args if isinstance(x, Tensor)}
        new = [x for x in tensors if isinstance(x, Tensor)]
        if any(x.untyped_storage().data_ptr() not in given for x in new):
            self.counts[str(func)] += 1
        return result


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", METHODS)
def test_half_precision_finds_mostly_the_same(
    method: str, precision: str, channels_last: bool
) -> None:
    model, one = make(method), picture(seed=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = model([one])[0]["instances"]
    half = prepare_for_inference(model, precision=precision, channels_last=channels_last)
    result = half([one])[0]
    for values in values_of([result]):
        assert not values.is_floating_point() or values.isfinite().all()
    found = result["instances"]
    assert found.scores.dtype == torch.float32
    assert len(found) == len(expected)
    assert share_found(found, expected) >= 0.85
    # The trained model has kept its weights, to the last bit.
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert half.pixel_mean.dtype == torch.float32
    assert half.weight_dtype == getattr(torch, precision)


@pytest.mark.parametrize("method", METHODS)
def test_no_more_operators_than_in_float32(method: str) -> None:
    model, one = make(method), picture(seed=1)
    half = prepare_for_inference(model, precision="bfloat16")
    with Operators() as ours:
        half([one])
    with Operators() as plain:
        model([one])
    assert ours.counts.total() <= plain.counts.total(), ours.counts - plain.counts
    assert not [name for name in ours.counts if "batch_norm" in name]


@pytest.mark.parametrize("method", METHODS)
def test_float32_is_the_model_and_folded_nearly(method: str) -> None:
    model, one = make(method), picture(seed=2)
    expected = model([one])
    same = prepare_for_inference(model)([one])
    for values, others in zip(values_of(same), values_of(expected), strict=True):
        assert torch.equal(values, others)
    (folded,) = prepare_for_inference(model, fold_norms=True)([one])
    instances, others = folded["instances"], expected[0]["instances"]
    torch.testing.assert_close(instances.scores, others.scores, rtol=0, atol=1e-5)
    assert torch.equal(instances.pred_classes, others.pred_classes)
    assert (instances.pred_masks != others.pred_masks).float().mean() < 1e-3


def with_statistics(norm: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        tensor.data = torch.rand(tensor.shape, generator=generator) + 0.3
    return norm


def convolutions() -> list[nn.Module]:
    deform = DeformConv2d(4, 6, 3, padding=1)
    deform.norm = with_statistics(nn.BatchNorm2d(6))
    nn.init.normal_(deform.offset.weight, std=0.3)
    tower = ConvNormReLU(4, 6, norm="BN")
    nn.init.normal_(tower.conv.weight)
    with_statistics(tower.norm)
    folding = Conv2d(4, 6, 3, bias=False, norm=with_statistics(nn.BatchNorm2d(6)))
    folding.__class__ = FoldingConv2d
    return [
        Conv2d(4, 6, 3, bias=False, norm=with_statistics(nn.BatchNorm2d(6))),
        Conv2d(4, 6, 3, stride=2, groups=2, norm=with_statistics(FrozenBatchNorm2d(6))),
        Conv2d(4, 6, 1, norm=with_statistics(nn.BatchNorm2d(6)), activation=torch.relu),
        Conv2d(4, 6, 1, bias=False, norm=nn.BatchNorm2d(6, affine=False)),
        *(deform, tower, folding),
    ]


@pytest.mark.parametrize("index", range(7))
@torch.no_grad()
def test_folding(index: int) -> None:
    torch.manual_seed(0)
    conv = nn.Sequential(convolutions()[index]).eval()
    x = torch.randn(2, 4, 7, 9)
    expected = conv(x)
    fold_batch_norms(conv)
    assert not [part for part in conv.modules() if "Norm2d" in type(part).__name__]
    torch.testing.assert_close(conv(x), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_what_is_no_batch_norm_stays() -> None:
    conv = nn.Sequential(
        Conv2d(4, 6, 1, norm=nn.GroupNorm(2, 6)),
        Conv2d(6, 6, 1, norm=nn.BatchNorm2d(6, track_running_stats=False)),
        ConvNormReLU(6, 6),
    ).eval()
    x = torch.randn(2, 4, 7, 9)
    expected = conv(x)
    fold_batch_norms(conv)
    assert torch.equal(conv(x), expected)
    assert sum("Norm" in type(part).__name__ for part in conv.modules()) == 4


TIMM = [
    *("MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", "resnet10t"),
    *("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"]),
]


def test_norms_that_are_not_folded_keep_their_precision() -> None:
    model = make("SOLOv2", TIMM)
    # A second reader of what the norm is given: it can't become part of the convolution.
    first = model.backbone.bottom_up.model
    first.conv1[-1].register_forward_hook(lambda conv, x, output: output + 0)
    half = prepare_for_inference(model, precision="bfloat16")
    norms = [part for part in half.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms
    assert {norm.running_var.dtype for norm in norms} == {torch.float32}
    assert len(half([picture()])[0]["instances"])


def test_graphs_are_on_if_asked_for() -> None:
    model = make("SparseInst")
    assert prepare_for_inference(model, cuda_graph=True).graphs.enabled
    assert not prepare_for_inference(model).graphs.enabled
    assert not model.graphs.enabled


def test_what_a_configuration_asks_for() -> None:
    cfg, model = get_cfg(), make("SparseInst")
    optimised = inference_model(model, cfg)
    assert optimised is not model
    assert optimised.inference_mode
    assert optimised.graphs.enabled
    assert not model.graphs.enabled
    cfg.MODEL.INFERENCE.OPTIMIZE = "off"
    assert inference_model(model, cfg) is model
    assert model.graphs.enabled
    cfg.MODEL.INFERENCE.CUDA_GRAPH = False
    assert inference_model(model, cfg) is model
    assert not model.graphs.enabled
    cfg.MODEL.INFERENCE.CUDA_GRAPH = True
    cfg.MODEL.INFERENCE.PRECISION = "bfloat16"
    half = inference_model(model, cfg)
    assert half.weight_dtype == torch.bfloat16
    assert half.graphs.enabled
    assert model.weight_dtype == torch.float32


def test_a_precision_that_is_not_there() -> None:
    with pytest.raises(
        ValueError, match="PRECISION is 'int8'; allowed: float32, float16, bfloat16, auto"
    ):
        prepare_for_inference(make("SparseInst"), precision="int8")
