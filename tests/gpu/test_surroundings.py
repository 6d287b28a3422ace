"""What only a GPU can show of a user's process: allocators, determinism, moves, another GPU."""

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from solo_family.modeling.inference import prepare_for_inference
from solo_family.ops import gpu_kernels
from solo_family.ops.decode_masks import decode_masks

from ..conftest import ROOT, eager_to_find, picture, tiny_model
from ..modeling.test_cuda_graphs import values_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def make(method: str, device: str = "cuda") -> Any:
    return eager_to_find(tiny_model(method)).to(device)


def run(code: str, **environment: str) -> str:
    """Returns what Python prints in a process of its own, in whose environment torch starts."""
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


# Prints the number of graphs, and whether all results are those of the model as it was trained.
ALLOCATED = """
import torch
from solo_family.modeling.inference import prepare_for_inference
from tests.conftest import picture
from tests.gpu.test_surroundings import make
from tests.modeling.test_cuda_graphs import values_of

torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True
model = make("SOLOv2")
plain, graphs = (prepare_for_inference(model, cuda_graph=graph) for graph in (False, True))
expected = values_of(plain([picture(seed=1)]))
found = [values_of(graphs([picture(seed=1)])) for _ in range(4)]
large = [values_of(graphs([picture(320, 384)])) for _ in range(3)]
again = values_of(graphs([picture(seed=1)]))
same = [torch.equal(a, b) for one in (*found, again) for a, b in zip(one, expected)]
print(len(graphs.graphs), all(same))
"""


@pytest.mark.parametrize(
    ("setting", "count"), [("backend:cudaMallocAsync", 0), ("expandable_segments:True", 2)]
)
def test_other_allocators(setting: str, count: int) -> None:
    names = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")  # until torch 2.8, and later
    printed = run(ALLOCATED, **dict.fromkeys(names, setting))
    assert printed.split() == [str(count), "True"]


# Raises the error of an operator that has no deterministic form.
DETERMINISTIC = """
import torch
from tests.conftest import picture
from tests.gpu.test_cuda_graphs import make
from tests.modeling.test_cuda_graphs import CASES, values_of

torch.use_deterministic_algorithms(True)
for method in CASES:
    model = make(method)
    one, other = (values_of(model([picture(seed=1)])) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True)), method
print("done")
"""


def test_deterministic_algorithms() -> None:
    assert run(DETERMINISTIC, CUBLAS_WORKSPACE_CONFIG=":4096:8").split() == ["done"]


def eighths(*shape: int) -> Tensor:
    """Every sum of a few of their products is exact."""
    return (torch.randn(shape, device="cuda") * 8).round() / 8


def test_features_of_a_large_picture() -> None:
    """Of 8,192 x 8,448 pixels at stride 4: more parts than programs along y or z."""
    kernels, features = eighths(70, 16).half(), eighths(16, 2048, 2112).half()
    assert gpu_kernels.runs("decode", features)
    found = decode_masks(kernels, features, 0.6)
    for row in (0, 69):
        logits = torch.einsum("e,ehw->hw", kernels[row].float(), features.float())
        expected = logits.double().sigmoid() > 0.6
        assert int(found.areas[row]) == int(expected.sum())
        alone = decode_masks(kernels[row : row + 1], features[:, 1024:].contiguous(), 0.6)
        assert int(alone.areas[0]) == int(expected[1024:].sum())


class Waiting(nn.Module):
    """A layer that can't be recorded."""

    def forward(self, x: Tensor) -> Tensor:
        return x * float(x.flatten()[0] * 0 + 1)


def test_after_a_failed_recording_memory_is_given_back() -> None:
    """Also what another stream has used, which waits for the end of every capture."""
    model = make("SparseInst")
    model.graphs.enabled = True
    model.encoder.fusion = nn.Sequential(model.encoder.fusion, Waiting()).eval()
    model([picture()])
    with pytest.warns(RuntimeWarning, match="without CUDA graphs"):
        model([picture()])
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    block, stream = torch.empty(2**28, dtype=torch.uint8, device="cuda"), torch.cuda.Stream()
    with torch.cuda.stream(stream):
        block.add_(1)
    block.record_stream(stream)
    del block
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() - before < 2**27


def test_auto_precision_of_a_model_that_was_moved() -> None:
    options: dict[str, Any] = {"precision": "auto", "cuda_graph": True, "optimize": True}
    model = prepare_for_inference(make("SparseInst"), **options)
    if model.first_inference is None:
        pytest.skip("this GPU has no tensor cores for bfloat16")
    model.to("cpu")
    (found,) = model([picture(seed=1)])
    assert found["instances"].scores.device.type == "cpu"
    assert model.first_inference is None
    assert len(found["instances"])


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("method", ["SOLOv2", "MaskFormer", "InstanceFCN"])
def test_another_gpu_than_the_current_one(method: str) -> None:
    """With graphs, and with nothing in the memory of the current one."""
    model = make(method)
    options: dict[str, Any] = {"cuda_graph": True, "optimize": True}
    expected = values_of(prepare_for_inference(model, **options)([picture(seed=1)]))
    there = prepare_for_inference(model.to("cuda:1"), **options)
    torch.cuda.synchronize(0)
    before = torch.cuda.memory_allocated(0)
    for _ in range(4):
        found = values_of(there([picture(seed=1)]))
    assert len(there.graphs) == 1
    assert torch.cuda.memory_allocated(0) == before
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other.cpu(), rtol=1e-4, atol=1e-4)
