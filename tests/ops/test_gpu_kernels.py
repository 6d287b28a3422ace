"""Which kernels are run: where they work, where they don't, and where somebody decides.

Without a GPU a CPU stands for one: its kernels run in Triton's interpreter, or with a driver that
compiles and doesn't launch.
"""

import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor

from solo_family.ops import PackedMasks, gpu_kernels, pack_masks, packing_triton
from solo_family.ops.gpu_kernels import CUDA, TRITON, runs
from solo_family.ops.jit_triton import jit

from ..conftest import ROOT
from ..versions import compiles_environment, interpreted

HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda:0" if HAS_GPU else "cpu")
MASKS = [[[0.9, 0.2, 0.7]]]


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been asked for yet, and tensors count as a GPU's."""
    monkeypatch.delenv("SOLO_FAMILY_KERNELS", raising=False)
    monkeypatch.setattr(gpu_kernels, "_failures", {})
    monkeypatch.setattr(gpu_kernels, "_on_gpu", lambda tensor: True)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that are checked, one after another, all of them with success."""
    names: list[str] = []
    checks = {name: lambda device, name=name: names.append(name) for name in (*TRITON, *CUDA)}
    monkeypatch.setattr(gpu_kernels, "CHECKS", checks)
    return names


def masks() -> Tensor:
    return torch.tensor(MASKS, device=DEVICE)


def caught(function: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        function()
    messages = [str(warning.message) for warning in found]
    # Triton's interpreter has warnings of numpy's besides.
    return [message for message in messages if "kernel is" in message]


def test_an_older_triton_lacks_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    """As version 3.0, of torch 2.4."""
    given: list[object] = []

    def older(do_not_specialize: object = None) -> None:
        given.append(do_not_specialize)

    monkeypatch.setattr("triton.jit", older)
    jit(do_not_specialize=("count",), do_not_specialize_on_alignment=("masks",))
    assert given == [("count",)]


def test_every_kernel_has_a_check() -> None:
    assert set(gpu_kernels.CHECKS) == {*TRITON, *CUDA}


# The interpreter takes ten seconds for these; other tests run their kernels on small maps, too.
LONG = () if HAS_GPU else ("group_norm", "resize_maps")


@interpreted
@pytest.mark.parametrize(
    "kernel",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in LONG else name
        for name in (*TRITON, *(CUDA if HAS_GPU else ()))
    ],
)
def test_every_kernel_passes_its_check(kernel: str) -> None:
    assert gpu_kernels.failure(kernel, DEVICE) is None
    assert caught(lambda: runs(kernel, masks())) == []
    assert runs(kernel, masks())


def test_a_check_is_done_once_for_a_device(checked: list[str]) -> None:
    for _ in range(3):
        assert runs("pack", masks())
        assert runs("nms", masks())
    assert checked == ["pack", "nms"]


def test_an_unknown_kernel_is_never_run(checked: list[str]) -> None:
    assert not runs("other", masks())
    assert checked == []


def test_a_kernel_that_is_asked_for_by_its_own_check_is_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[bool] = []

    def check(device: torch.device) -> None:
        answers.append(runs("pack", masks()))

    monkeypatch.setitem(gpu_kernels.CHECKS, "pack", check)
    assert runs("pack", masks())
    assert answers == [False]


def test_threads_share_one_check(checked: list[str]) -> None:
    threads = [threading.Thread(target=runs, args=("pack", masks())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert checked == ["pack"]


# What stands for a kernel that is wrong: the results of each launch function, changed a little.
WRONG = {
    "pack": ("packing_triton", "pack_masks_triton", 0),
    "decode": ("decode_masks_triton", "decode_masks_triton", 1),
    "resize": ("resize_masks_triton", "resize_masks_triton", 1),
    "nms": ("matrix_nms_triton", "decay_by_class_triton", None),
    "windows": ("window_boxes_triton", "window_boxes_triton", 1),
    "paste": ("paste_masks_triton", "paste_masks_triton", 1),
}


@interpreted
@pytest.mark.parametrize(
    "kernel",
    [
        *("pack", "nms", "windows", "paste"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("decode", "resize")),
    ],
)
def test_wrong_numbers_fall_back_with_one_warning(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module_name, name, part = WRONG[kernel]
    module = __import__(f"solo_family.ops.{module_name}", fromlist=[name])
    right = getattr(module, name)

    def wrong(*args: object, **kwargs: object) -> object:
        results = right(*args, **kwargs)
        if part is None:
            return results + 1e-3
        results[part].view(-1)[0] += 1
        return results

    monkeypatch.setattr(module, name, wrong)
    messages = caught(lambda: [runs(kernel, masks()) for _ in range(3)])
    assert len(messages) == 1
    for words in (f"The {kernel} kernel is not used on {DEVICE}", "other results", "report it"):
        assert words in messages[0]
    assert "\n" not in messages[0]
    assert not runs(kernel, masks())


def failing(*_: object, **__: object) -> PackedMasks:
    raise RuntimeError("no kernel image\n" + "is available " * 100)


def test_a_launch_that_fails_falls_back_to_the_right_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packing_triton, "pack_masks_triton", failing)
    results: list[PackedMasks] = []
    (message,) = caught(lambda: [results.append(pack_masks(masks(), 0.5)) for _ in range(2)])
    assert "RuntimeError: no kernel image is available" in message
    assert len(message) < 600
    for packed in results:
        assert packed.words.tolist() == [[5]]


def test_triton_lets_a_failure_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLO_FAMILY_KERNELS", "triton")
    monkeypatch.setattr(packing_triton, "pack_masks_triton", failing)
    with pytest.raises(RuntimeError, match="no kernel image"):
        pack_masks(masks(), 0.5)


@pytest.mark.skipif(find_spec("triton.knobs") is None, reason="this Triton has no knobs")
def test_triton_means_wherever_a_kernel_can_be_launched(
    monkeypatch: pytest.MonkeyPatch, checked: list[str]
) -> None:
    monkeypatch.setenv("SOLO_FAMILY_KERNELS", "triton")
    for on_gpu, in_interpreter in ((True, False), (False, True), (False, False)):
        monkeypatch.setattr(gpu_kernels, "_on_gpu", lambda tensor, answer=on_gpu: answer)
        monkeypatch.setattr("triton.knobs.runtime.interpret", in_interpreter)
        assert all(runs(kernel, masks()) is (on_gpu or in_interpreter) for kernel in TRITON)
        assert not any(runs(kernel, masks()) for kernel in (*CUDA, "other"))
    assert checked == []


def test_torch_means_never(monkeypatch: pytest.MonkeyPatch, checked: list[str]) -> None:
    monkeypatch.setenv("SOLO_FAMILY_KERNELS", "torch")
    assert not any(runs(kernel, masks()) for kernel in (*TRITON, *CUDA))
    assert checked == []


@pytest.mark.parametrize("value", ["auto", ""])
def test_auto_is_the_default(
    value: str, monkeypatch: pytest.MonkeyPatch, checked: list[str]
) -> None:
    monkeypatch.setenv("SOLO_FAMILY_KERNELS", value)
    assert runs("pack", masks())
    monkeypatch.setattr(gpu_kernels, "_on_gpu", lambda tensor: False)
    assert not runs("pack", masks())


def test_another_value_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLO_FAMILY_KERNELS", "fast")
    with pytest.raises(ValueError, match=r"SOLO_FAMILY_KERNELS is 'fast'.*auto, torch, triton"):
        pack_masks(masks(), 0.5)


def test_float64_is_left_to_torch(checked: list[str]) -> None:
    assert not runs("pack", masks().double())
    assert checked == []


def test_a_tensor_without_values_is_left_to_torch(checked: list[str]) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        assert not runs("pack", torch.empty(1, 2, 3))
    assert checked == []


def test_nothing_is_checked_while_a_graph_is_captured(
    monkeypatch: pytest.MonkeyPatch, checked: list[str]
) -> None:
    monkeypatch.setattr(gpu_kernels, "_is_capturing", lambda device: True)
    answers: list[bool] = []
    (message,) = caught(lambda: answers.append(runs("pack", masks())))
    assert "before the capture" in message
    assert answers == [False]
    assert checked == []
    monkeypatch.setattr(gpu_kernels, "_is_capturing", lambda device: False)
    assert runs("pack", masks())
    monkeypatch.setattr(gpu_kernels, "_is_capturing", lambda device: True)
    assert runs("pack", masks())


@pytest.mark.skipif(not HAS_GPU, reason="a CUDA graph is needed")
def test_a_capture_goes_on_without_the_kernel() -> None:
    inputs = masks()
    pack_masks(inputs, 0.5)
    gpu_kernels._failures.clear()
    graph = torch.cuda.CUDAGraph()
    with warnings.catch_warnings(), torch.cuda.graph(graph):
        warnings.simplefilter("ignore")
        packed = pack_masks(inputs, 0.5)
    graph.replay()
    assert packed.words.tolist() == [[5]]
    assert gpu_kernels._failures == {}


@pytest.mark.skipif(not HAS_GPU, reason="waits for a GPU are needed")
@pytest.mark.parametrize("kernel", [*TRITON, *CUDA])
def test_a_check_may_wait_where_others_may_not(kernel: str) -> None:
    tensor = masks()
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert runs(kernel, tensor)
        assert torch.cuda.get_sync_debug_mode() == 2
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("kind", [torch.cuda.OutOfMemoryError, RuntimeError])
def test_no_memory_says_nothing_about_a_kernel(
    kind: type[RuntimeError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch says it in a class of its own, CUDA and Triton don't."""

    def check(device: torch.device) -> None:
        raise kind("CUDA out of memory")

    monkeypatch.setitem(gpu_kernels.CHECKS, "pack", check)
    assert caught(lambda: runs("pack", masks())) == []
    monkeypatch.setitem(gpu_kernels.CHECKS, "pack", lambda device: None)
    assert runs("pack", masks())


@pytest.mark.parametrize(
    ("kernel", "advice"),
    [("pack", "triton raises the whole error"), ("bits", "triton selects Triton's kernels")],
)
def test_what_the_other_choice_does_to_a_kernel_that_fails(
    kernel: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(device: torch.device) -> None:
        raise RuntimeError("CUDA reports an invalid image")

    monkeypatch.setitem(gpu_kernels.CHECKS, kernel, check)
    why = gpu_kernels.failure(kernel, DEVICE)
    assert why is not None
    assert f"invalid image. SOLO_FAMILY_KERNELS={advice}; SOLO_FAMILY_KERNELS=torch" in why
    monkeypatch.setenv("SOLO_FAMILY_KERNELS", "triton")
    monkeypatch.setattr(gpu_kernels, "_interpreted", lambda: True)
    assert runs(kernel, masks()) is (kernel == "pack")


@pytest.mark.slow
def test_a_check_disturbs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def check(device: torch.device) -> None:
        seen.extend([torch.is_grad_enabled(), torch.is_autocast_enabled(device.type)])

    monkeypatch.setitem(gpu_kernels.CHECKS, "pack", check)
    state = torch.get_rng_state()
    with torch.enable_grad(), torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        assert runs("pack", masks())
        assert torch.is_autocast_enabled(DEVICE.type)
        assert torch.is_grad_enabled()
        assert runs("decode", masks())
    assert seen == [False, False]
    assert torch.equal(torch.get_rng_state(), state)


@compiles_environment
def test_torch_compile_takes_the_answer_for_a_constant() -> None:
    def choose(tensor: Tensor) -> Tensor:
        return tensor + 1 if runs("pack", tensor) else tensor - 1

    compiled = torch.compile(choose, fullgraph=True, backend="eager")
    assert compiled(torch.zeros(1, device=DEVICE)).tolist() == [1]


# A process in which Triton is not in its interpreter yet, and children of it: one without Triton,
# one without a C compiler, with which Triton makes its launchers, and one that has both. The
# offline driver launches nothing: with it a check gets as far as the comparison, which fails.
MACHINES = """
import json, os, sys, warnings
sys.path.insert(0, "tests/ops")
import torch
from solo_family.ops import gpu_kernels, pack_masks
gpu_kernels._on_gpu = lambda tensor: True
source = '''
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "launcher", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_launcher(void) { return PyModule_Create(&module); }
'''

def use_driver():
    from triton.runtime.build import compile_module_from_src
    from offline_driver import OfflineDriver
    driver = OfflineDriver(90, lambda: compile_module_from_src(source, "launcher")).install()
    return driver

def without_triton():
    sys.modules["triton"] = None

def without_compiler():
    os.environ["PATH"] = "/nowhere"
    os.environ.pop("CC", None)
    use_driver()

for machine in (without_triton, without_compiler, use_driver):
    child = os.fork()
    if not child:
        machine()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            packed = [pack_masks(torch.tensor([[[0.9, 0.2, 0.7]]]), 0.5) for _ in range(3)]
        assert [masks.words.tolist() for masks in packed] == [[[5]]] * 3
        print(json.dumps([str(warning.message) for warning in caught]), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, machine
"""


@pytest.mark.slow
def test_machines_that_lack_something_fall_back_with_one_warning(tmp_path: Path) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    process = subprocess.run(
        [sys.executable, "-c", MACHINES], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    # Triton has warnings of its own; 3.9 announces another default of its compiler's.
    said = [
        [message for message in json.loads(line) if "TRITON_" not in message]
        for line in process.stdout.splitlines()
    ]
    assert [len(messages) for messages in said] == [1, 1, 1]
    no_triton, no_compiler, wrong = (messages[0] for messages in said)
    assert all("pack kernel is not used on cpu" in message for (message,) in said)
    assert "Install it with `pip install triton`" in no_triton
    assert "Failed to find C compiler" in no_compiler
    assert "name a compiler in the environment variable CC" in no_compiler
    assert "gives other results than torch" in wrong
