"""Activation checkpointing: the same gradients, less memory between forward and backward."""

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from solo_family.errors import ConfigError
from solo_family.modeling.cpu_gradients import CpuGradients
from solo_family.modeling.recompute import recompute
from solo_family.modeling.recomputed_blocks import checkpoint_activations

from ..conftest import of_all_or_slow, picture, tiny_model

TIMM = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME"]
ENCODER = [
    *("MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME", "TransformerEncoderPixelDecoder"),
    *("MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE", "transformer_encoder"),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", 1),
]


def bytes_and_gradients(
    model: nn.Module, batch: list[dict]
) -> tuple[int, dict[str, Tensor], dict[str, Tensor]]:
    """Returns the bytes kept for the backward pass, the gradients, and all buffers after it."""
    kept: dict[int, int] = {}
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(3)
    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), CpuGradients():
        loss = sum(model(batch).values())
    loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return sum(kept.values()), gradients, dict(model.named_buffers())


def assert_same(model: nn.Module, batch: list[dict], most: float) -> None:
    """Compares with a copy that keeps all activations, exactly; `most` is the share kept."""
    model.train()
    plain = copy.deepcopy(model)
    checkpoint_activations(model)
    assert model.state_dict().keys() == plain.state_dict().keys()
    for _ in range(2):
        ours, of_ours, buffers = bytes_and_gradients(model, batch)
        theirs, of_plain, plain_buffers = bytes_and_gradients(plain, batch)
        assert of_ours.keys() == of_plain.keys()
        for name, gradient in of_plain.items():
            assert torch.equal(of_ours[name], gradient), name
        for name, buffer in plain_buffers.items():
            assert torch.equal(buffers[name], buffer), name
    assert ours < most * theirs, f"{ours / theirs:.2f} of the memory"


# What is left are the inputs, the pyramid and the losses.
@pytest.mark.parametrize("method", of_all_or_slow("SOLOv2", "SparseInst", "MaskFormer"))
def test_gradients_are_the_same_and_less_is_kept(method: str) -> None:
    batch = [picture(seed=1), picture(seed=2)]
    assert_same(tiny_model(method), batch, 0.65)


@pytest.mark.parametrize(
    ("method", "opts"),
    [
        ("SOLOv2", [*TIMM, "resnet10t"]),
        ("SOLOv2", [*TIMM, "mobilenetv3_small_050"]),
        ("MaskFormer", ENCODER),
        ("SOLOv2", ["MODEL.SOLOV2.MASK_FEATURES", "separate"]),
    ],
    ids=["timm", "depthwise", "encoder", "separate"],
)
def test_other_parts(method: str, opts: list[Any]) -> None:
    assert_same(tiny_model(method, opts=opts), [picture()], 0.8)


def test_vgg_is_divided() -> None:
    """It is one plain sequence of layers, whose ReLUs write to their input."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels in (3, 8, 8, 8, 8):
        layers += [nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(1)]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Sequential(nn.Sequential(*layers))

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"loss": self.backbone(x).square().mean()}

    batch: Any = torch.randn(2, 3, 16, 16)
    assert_same(Model(), batch, 0.5)


@pytest.fixture
def block() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5))


def outcome(block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    x = x.clone().requires_grad_()
    output = block(x)
    output.square().sum().backward()
    assert x.grad is not None
    return output, x.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_dropout_and_autocast(block: nn.Sequential, dtype: torch.dtype) -> None:
    plain, x = copy.deepcopy(block), torch.randn(2, 4, 8, 8)
    recompute(block)
    for _ in range(2):
        torch.manual_seed(1)
        ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        for module, given in ((block, ours), (plain, theirs)):
            torch.manual_seed(1)
            with torch.autocast("cpu", dtype=dtype, enabled=dtype == torch.bfloat16):
                output = module(given)
            # Outside of autocast, as a step does.
            output.square().sum().backward()
        assert torch.equal(ours.grad, theirs.grad)
    assert block[1].num_batches_tracked == 2
    for one, two in zip(block.buffers(), plain.buffers(), strict=True):
        assert torch.equal(one, two)


def test_what_replaces_functions_replaces_them_again(block: nn.Module) -> None:
    """As `CpuGradients` does, within whose block there is no backward pass."""

    class Doubled(TorchFunctionMode):
        calls = 0

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            if func is not F.batch_norm:
                return result
            self.calls += 1
            return 2 * result.sin()

    plain, x = copy.deepcopy(block), torch.randn(2, 4, 8, 8)
    recompute(block)
    gradients = []
    for module in (plain, block):
        with Doubled() as mode:
            torch.manual_seed(1)
            given = x.clone().requires_grad_()
            output = module(given)
        output.square().sum().backward()
        gradients.append(given.grad)
    assert torch.equal(*gradients)
    assert mode.calls == 2


def test_nothing_is_computed_twice_without_gradients(block: nn.Sequential) -> None:
    x, calls = torch.randn(2, 4, 8, 8), []
    block[0].register_forward_hook(lambda *_: calls.append(1))
    recompute(block)
    outcome(block, x)
    assert len(calls) == 2
    with torch.no_grad():
        block(x)
    outcome(block.eval(), x)
    assert len(calls) == 4


def test_lists_that_are_written_to() -> None:
    """As HRNet's modules do: their second run is given what the first was."""

    class Replacing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, xs: list[Tensor]) -> Tensor:
            xs[0] = self.linear(xs[0])
            return xs[0].sin()

    layer = Replacing()
    plain, x = copy.deepcopy(layer), torch.randn(2, 3)
    recompute(layer)
    for module in (layer, plain):
        module([x]).sum().backward()
    assert torch.equal(layer.linear.weight.grad, plain.linear.weight.grad)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_are_like_it(copied: Any, block: nn.Module) -> None:
    recompute(block)
    other = copied(block)
    assert type(other) is type(block)
    assert isinstance(other, nn.Sequential)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(outcome(other, x)[1], outcome(block, x)[1])


def test_a_backbone_without_blocks_is_refused() -> None:
    model = nn.Module()
    model.backbone = nn.Conv2d(3, 3, 1)
    with pytest.raises(ConfigError, match=r"ACTIVATION_CHECKPOINTING is True.*\(Conv2d\) has no"):
        checkpoint_activations(model)
