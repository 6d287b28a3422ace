"""The CUDA kernels of matrix NMS: their results on an emulator, and their machine code."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from solo_family.ops import matrix_nms_bits as bits
from solo_family.ops import nvrtc, pack_masks

from .emulated_cuda import EmulatedModule, compile_emulated
from .matrix_nms_reference import assert_equals_reference, reference

COMPILER = shutil.which("g++")
KERNELS = ["gaussian", "linear"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if COMPILER is None:
        pytest.skip("the emulator needs g++")
    folder = tmp_path_factory.mktemp("emulated")
    return compile_emulated(bits._SOURCE, folder / "matrix_nms.so", COMPILER)


@pytest.fixture
def emulated(library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> EmulatedModule:
    module = EmulatedModule(library)
    monkeypatch.setattr(nvrtc, "load_module", lambda source, kernels, device: module)
    return module


def random_masks(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Bool rectangles with holes, of which every fifth repeats another one."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, *size), dtype=bool)
    for mask in masks:
        top, left = (int(rng.integers(0, side)) for side in size)
        mask[top : top + size[0] // 2 + 1, left : left + size[1] // 2 + 1] = True
    masks &= rng.random(masks.shape) > 0.1
    masks[4::5] = masks[: len(masks[4::5])]
    return masks


def random_labels(count: int, classes: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-1, classes - 1, count)


def random_scores(count: int) -> np.ndarray:
    """Sixteenths, so that many are equal."""
    return (np.random.default_rng(2).integers(1, 17, count) / 16).astype(np.float32)


def check(
    inside: np.ndarray,
    labels: np.ndarray | None,
    scores: np.ndarray,
    kernel: str,
    *,
    masks: Tensor | None = None,
    threshold: float | None = None,
    pre_nms: int | None = None,
    sigma: float = 2.0,
) -> None:
    if masks is None:
        masks = pack_masks(torch.from_numpy(inside)).words
    order, decayed = bits.matrix_nms_bits(
        masks,
        None if labels is None else torch.from_numpy(labels),
        torch.from_numpy(scores),
        kernel,
        sigma,
        threshold,
        pre_nms,
    )
    classes = np.zeros(len(scores), dtype=np.int64) if labels is None else labels
    expected = reference(inside, classes, scores.astype(np.float64), kernel, sigma, pre_nms)
    assert order.dtype == torch.int64
    assert decayed.dtype == torch.float32
    assert_equals_reference(order, decayed, scores, expected)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("count", [1, 2, 17, 33, 70])
def test_any_number_of_masks(count: int, kernel: str) -> None:
    check(random_masks(count, (9, 13)), random_labels(count, 3), random_scores(count), kernel)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("squares", [1, 2])
@pytest.mark.parametrize(
    "words",
    [1, 2, 17, 150, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4, 15, 16, 20, 130))],
)
def test_any_number_of_words(words: int, squares: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits, "_LARGE_SQUARES_FROM", 1 if squares == 2 else 10**6)
    inside = random_masks(35, (words, 31), seed=words)
    check(inside, random_labels(35, 2), random_scores(35), "gaussian")


@pytest.mark.slow
@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("squares", [1, 2])
@pytest.mark.parametrize("classes", [1, 2, 40])
@pytest.mark.parametrize("words", [1, 2, 4, 17])
@pytest.mark.parametrize("count", [1, 31, 32, 64, 65, 130])
def test_squares_of_pairs(
    count: int, words: int, classes: int, squares: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bits, "_LARGE_SQUARES_FROM", 1 if squares == 2 else 10**6)
    inside = random_masks(count, (words, 32), seed=count)
    check(inside, random_labels(count, classes), random_scores(count), "linear")


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("classes", [1, 2, 60])
def test_any_number_of_classes(classes: int, kernel: str) -> None:
    check(random_masks(60, (8, 8)), random_labels(60, classes), random_scores(60), kernel)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("size", [(4, 4), (5, 7), (16, 20), (33, 31), (48, 64)])
@pytest.mark.parametrize("dtype", [torch.bool, torch.float16, torch.bfloat16, torch.float32])
def test_masks_of_every_dtype(dtype: torch.dtype, size: tuple[int, int]) -> None:
    inside = random_masks(18, size)
    masks, threshold = torch.from_numpy(inside), None
    if dtype != torch.bool:
        # The half-precision numbers nearest to the threshold are above it, or below it.
        masks, threshold = torch.where(masks, 0.3, 0.29).to(dtype), 0.3 - 1e-4
        masks[masks.isclose(torch.tensor(0.29, dtype=dtype))] = -0.0
    check(
        inside,
        random_labels(18, 2),
        random_scores(18),
        "gaussian",
        masks=masks,
        threshold=threshold,
    )


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_values_are_compared_in_float32(dtype: torch.dtype) -> None:
    """Every kind of number, and a threshold that half precision doesn't have."""
    special = [0.0, -0.0, float("nan"), float("inf"), -float("inf"), 6e-8, -6e-8, 65504.0, 0.3]
    values = torch.tensor([special, special[::-1]]).to(dtype)
    masks = values.repeat(1, 9).unflatten(1, (9, 9))
    for threshold in (0.0, 0.3, 1e-8, -1e-8):
        inside = masks.float().numpy() > np.float32(threshold)
        check(inside, None, random_scores(2), "gaussian", masks=masks, threshold=threshold)


@pytest.mark.usefixtures("emulated")
def test_bools_that_cannot_be_read_sixteen_at_a_time() -> None:
    inside = random_masks(5, (4, 16))
    storage = torch.zeros(5 * 64 + 1, dtype=torch.bool)
    masks = storage[1:].unflatten(0, (5, 4, 16))
    masks.copy_(torch.from_numpy(inside))
    check(inside, None, random_scores(5), "gaussian", masks=masks)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("value", [False, True])
def test_equal_masks_without_and_with_pixels(value: bool, kernel: str) -> None:
    check(np.full((5, 6, 9), value), None, random_scores(5), kernel)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("shape", [(0, 4, 4), (3, 0, 4), (3, 4, 0)])
def test_no_masks_and_no_pixels(shape: tuple[int, int, int]) -> None:
    inside = np.zeros(shape, dtype=bool)
    scores = random_scores(len(inside))
    check(inside, None, scores, "linear", masks=torch.from_numpy(inside))
    check(inside, None, scores, "linear", masks=torch.zeros(len(inside), 0, dtype=torch.int32))


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("pre_nms", [1, 20, 40, 50])
@pytest.mark.parametrize("packed", [False, True])
def test_the_best_before_nms_take_part(packed: bool, pre_nms: int) -> None:
    inside = random_masks(40, (7, 11))
    masks = None if packed else torch.from_numpy(inside)
    check(inside, random_labels(40, 3), random_scores(40), "gaussian", masks=masks, pre_nms=pre_nms)


@pytest.mark.usefixtures("emulated")
def test_scores_that_are_no_usual_numbers() -> None:
    scores = random_scores(40)
    scores[[3, 17, 18]] = np.nan, -np.nan, np.nan
    scores[[5, 30]] = 0.0
    scores[[6, 29]] = -0.0
    scores[7] = np.inf
    scores[[8, 9]] = -0.5
    inside = random_masks(40, (7, 11))
    inside[7] = False
    check(inside, random_labels(40, 3), scores, "gaussian")


@pytest.mark.usefixtures("emulated")
def test_labels_and_scores_of_other_dtypes() -> None:
    inside, scores = random_masks(9, (4, 9)), random_scores(9)
    labels = random_labels(9, 3)
    check(inside, labels.astype(np.int32), scores, "gaussian")
    check(inside, labels * 2**40, scores, "gaussian")
    check(inside, labels, scores.astype(np.float16), "gaussian")


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("sigma", [0.0, 1e38])
def test_any_sigma_gives_numbers(sigma: float) -> None:
    """Three equal masks and one that is nearly so: squares of equal numbers cancel exactly."""
    masks = torch.ones(4, 3, 11, dtype=torch.bool)
    masks[3, 0, 0] = False
    _, decayed = bits.matrix_nms_bits(masks, None, torch.ones(4), "gaussian", sigma, None, None)
    assert decayed.tolist() == [1.0] * 4 if sigma == 0 else [1.0, 0.0, 0.0, 0.0]


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("count", [3, 40])
def test_torch_sorts_what_a_block_cannot(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bits, "_MAX_SORTED", 2)
    check(random_masks(count, (4, 9)), random_labels(count, 2), random_scores(count), "gaussian")


@pytest.mark.slow
@pytest.mark.usefixtures("emulated")
def test_more_masks_than_threads_of_a_block() -> None:
    check(random_masks(1100, (2, 16)), random_labels(1100, 9), random_scores(1100), "linear")


def test_three_launches(emulated: EmulatedModule) -> None:
    check(random_masks(9, (4, 9)), random_labels(9, 2), random_scores(9), "gaussian")
    assert emulated.launched == ["prepare_words", "intersect_1_2", "decay_gaussian"]


def test_the_order_of_threads_does_not_matter(
    library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = torch.from_numpy(random_masks(40, (5, 13)))
    labels, scores = torch.from_numpy(random_labels(40, 2)), torch.from_numpy(random_scores(40))
    results = []
    for seed in range(4):
        module = EmulatedModule(library, seed)
        monkeypatch.setattr(nvrtc, "load_module", lambda *_, module=module: module)
        results.append(bits.matrix_nms_bits(masks, labels, scores, "linear", 2.0, None, None))
    for order, decayed in results[1:]:
        assert torch.equal(order, results[0][0])
        assert torch.equal(decayed, results[0][1])


def test_a_row_is_read_in_the_widest_way() -> None:
    assert [bits._vector(64, width) for width in (4, 8, 6, 7, 1)] == [4, 4, 2, 1, 1]
    assert [bits._vector(address, 8) for address in (16, 8, 24, 4, 12)] == [4, 2, 2, 1, 1]


# ---- machine code


@pytest.fixture(scope="module", params=["sm_80", "sm_90"])
def cubin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("cuda.bindings.nvrtc")
    path = tmp_path_factory.mktemp("cubin") / f"{request.param}.cubin"
    path.write_bytes(nvrtc.compile_cuda(bits._SOURCE, request.param))
    return path


def output_of(tool: str, option: str, cubin: Path) -> str:
    tools = Path(pytest.importorskip("triton").__file__).parent / "backends/nvidia/bin"
    result = subprocess.run(
        [tools / tool, option, cubin], capture_output=True, text=True, check=True
    )
    return result.stdout + result.stderr


@pytest.mark.slow
def test_single_bits_are_multiplied_by_tensor_cores(cubin: Path) -> None:
    functions = re.split(r"^\.text\.(\w+):", output_of("nvdisasm", "-c", cubin), flags=re.M)[1:]
    code = dict(zip(functions[::2], functions[1::2]))
    assert set(code) == set(bits._KERNELS)
    for name, instructions in code.items():
        assert ("BMMA.168256.AND.POPC" in instructions) == name.startswith("intersect")


@pytest.mark.slow
def test_nothing_is_spilled(cubin: Path) -> None:
    usage = re.findall(
        r"Function (\w+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)",
        output_of("cuobjdump", "-res-usage", cubin),
    )
    assert {name for name, *_ in usage} == set(bits._KERNELS)
    for name, registers, stack, shared, local in usage:
        # Two blocks of a multiprocessor, which has 65,536 registers.
        assert int(registers) <= (64 if name.startswith("decay") else 128)
        assert int(shared) <= 48 * 1024
        assert (stack, local) == ("0", "0")


def test_an_error_has_the_compilers_log(tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings.nvrtc")
    source = tmp_path / "broken.cu"
    source.write_text("int no_semicolon")
    with pytest.raises(RuntimeError, match=r"(?s)broken\.cu does not compile for sm_90.*expected"):
        nvrtc.compile_cuda(source, "sm_90")
