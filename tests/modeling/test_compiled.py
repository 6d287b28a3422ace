"""`SOLVER.COMPILE`: heads are compiled once for all sizes, or not at all, with the same losses."""

import copy
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from solo_family.errors import ConfigError
from solo_family.modeling.compiled import compile_network
from solo_family.modeling.cpu_gradients import CpuGradients

from ..conftest import of_all_or_slow, picture, tiny_model

SIZES = [
    *((64, 96), (64, 64), (96, 96), (128, 64), (96, 160)),
    *((160, 96), (128, 128), (64, 160), (192, 96), (128, 192)),
]


@pytest.fixture(autouse=True)
def compiled_anew() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def make(method: str) -> nn.Module:
    dropout = ["MODEL.MASK_FORMER.DROPOUT", 0.0] if method == "MaskFormer" else []
    return tiny_model(method, opts=dropout).train()


def losses_and_gradients(
    model: nn.Module, size: tuple[int, int], seed: int = 0
) -> tuple[dict[str, Tensor], list[Tensor]]:
    model.zero_grad()
    torch.manual_seed(1)
    with CpuGradients():
        losses = model([picture(*size, seed=seed), picture(*size, seed=seed + 50)])
    sum(losses.values()).backward()
    return losses, [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("method", of_all_or_slow())
def test_ten_sizes_are_compiled_once(method: str) -> None:
    model, counter = make(method), CompileCounterWithBackend("eager")
    plain = copy.deepcopy(model)
    compile_network(model, counter)
    assert model.state_dict().keys() == plain.state_dict().keys()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for seed, size in enumerate(SIZES):
            losses, gradients = losses_and_gradients(model, size, seed)
            expected, plain_gradients = losses_and_gradients(plain, size, seed)
            torch.testing.assert_close(losses, expected)
            # Tensors that are repeated may be summed in another order.
            for one, two in zip(gradients, plain_gradients, strict=True):
                torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5 * float(two.abs().max()))
    assert counter.frame_count == len(model.network_parts)
    # Evaluations are not compiled.
    model.eval()([picture()])
    with torch.no_grad():
        model([picture()])
    assert counter.frame_count == len(model.network_parts)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["SOLOv2", "SparseInst", "MaskFormer"])
def test_a_compiler_gives_the_same_losses(method: str) -> None:
    model = make(method)
    plain = copy.deepcopy(model)
    compile_network(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for seed, size in enumerate(SIZES[:3]):
            losses, gradients = losses_and_gradients(model, size, seed)
            expected, plain_gradients = losses_and_gradients(plain, size, seed)
            torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
            for one, two in zip(gradients, plain_gradients, strict=True):
                # The biases of attention's keys have no gradient but rounding's.
                most = 1e-3 * float(two.abs().max()) + 1e-6
                torch.testing.assert_close(one, two, rtol=1e-2, atol=most)


@pytest.mark.parametrize("late", [False, True], ids=["forward", "backward"])
def test_what_cannot_be_compiled_runs_as_it_is(late: bool) -> None:
    """Said once; also if only the backward pass can't be compiled."""
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    def fail(*_: Any) -> Any:
        raise RuntimeError("no compiler\nfound")

    def works(graph: Any, _: Any) -> Any:
        return make_boxed_func(graph.forward)

    model = make("InstanceFCN")
    plain = copy.deepcopy(model)
    compile_network(model, aot_autograd(fw_compiler=works if late else fail, bw_compiler=fail))
    with pytest.warns(RuntimeWarning, match="no compiler found.*SOLVER.COMPILE False"):
        losses, gradients = losses_and_gradients(model, SIZES[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again, _ = losses_and_gradients(model, SIZES[0])
    expected, plain_gradients = losses_and_gradients(plain, SIZES[0])
    for name, loss in expected.items():
        assert torch.equal(losses[name], loss)
        assert torch.equal(again[name], loss)
    assert len(gradients) == len(plain_gradients)


def test_copies_share_the_state() -> None:
    model = make("InstanceFCN")
    compile_network(model, "eager")
    for other in (copy.deepcopy(model), model):
        assert other.state_dict().keys() == make("InstanceFCN").state_dict().keys()
        losses_and_gradients(other, SIZES[0])


def test_a_model_without_parts_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"COMPILE is True, but Linear names no parts"):
        compile_network(nn.Linear(2, 2))


NO_COMPILER = """
import warnings
from solo_family.modeling.compiled import compile_network
from tests.modeling.test_compiled import SIZES, losses_and_gradients, make
model = make("InstanceFCN")
compile_network(model)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    losses_and_gradients(model, SIZES[0])
print([str(one.message) for one in caught if one.category is RuntimeWarning])
"""


@pytest.mark.slow
def test_without_a_compiler(tmp_path: Any) -> None:
    env = {"PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "CXX": "none"}
    run = subprocess.run(
        [sys.executable, "-c", NO_COMPILER], capture_output=True, text=True, env=env, check=False
    )
    assert "Training continues without torch.compile" in run.stdout, run.stderr
