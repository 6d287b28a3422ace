"""Training on a GPU in less memory, and compiled: the same losses and gradients."""

import copy
import time
import warnings

import pytest
import torch
from torch import Tensor, nn

from solo_family import METHODS
from solo_family.modeling.compiled import compile_network
from solo_family.modeling.recomputed_blocks import checkpoint_activations

from ..conftest import picture, tiny_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SIZES = [(256, 256), (256, 384), (320, 256)]


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFloat-32 makes much of a difference in the last bit of float32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def make(method: str) -> nn.Module:
    dropout = ["MODEL.MASK_FORMER.DROPOUT", 0.0] if method == "MaskFormer" else []
    return tiny_model(method, opts=dropout).to("cuda").train()


def step(
    model: nn.Module, size: tuple[int, int], dtype: torch.dtype | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Returns the losses, the gradients, and the bytes at the end of the forward pass."""
    model.zero_grad()
    torch.manual_seed(1)
    before = torch.cuda.memory_allocated()
    with torch.autocast("cuda", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        losses = model([picture(*size, seed=1), picture(*size, seed=2)])
    kept = torch.cuda.memory_allocated() - before
    sum(losses.values()).backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return losses, gradients, kept


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Compares with each tensor's largest value."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        most = float(value.detach().abs().max())
        difference = float((found[name] - value).detach().abs().max())
        assert difference <= tolerance * most + 1e-7, f"{name}: {difference} of {most}"


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
def test_activations_that_are_computed_again(method: str, dtype: torch.dtype | None) -> None:
    model = make(method)
    plain = copy.deepcopy(model)
    checkpoint_activations(model)
    step(plain, SIZES[0], dtype)  # libraries allocate their workspaces
    losses, gradients, kept = step(model, SIZES[0], dtype)
    expected, plain_gradients, plain_kept = step(plain, SIZES[0], dtype)
    assert_close(losses, expected, 1e-5 if dtype is None else 1e-2)
    assert_close(gradients, plain_gradients, 1e-3 if dtype is None else 0.1)
    print(f"{method} {dtype}: {kept / plain_kept:.2f} of the memory")
    assert kept < 0.75 * plain_kept


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("method", ["SOLOv2", "SparseInst", "MaskFormer"])
def test_compiled_heads(method: str, dtype: torch.dtype | None) -> None:
    torch._dynamo.reset()
    model = make(method)
    plain = copy.deepcopy(model)
    compile_network(model)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Training continues without torch.compile")
        for size in SIZES:
            losses, _, _ = step(model, size, dtype)
            expected, _, _ = step(plain, size, dtype)
            assert_close(losses, expected, 1e-3 if dtype is None else 5e-2)
            print(f"{method} {dtype} {size}: {time.perf_counter() - start:.1f} s")
