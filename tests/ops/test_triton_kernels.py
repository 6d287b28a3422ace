"""The Triton kernels, compiled where there is a GPU and else in Triton's interpreter: no skips."""

import importlib
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from solo_family.ops import gpu_kernels, matrix_nms_triton, pack_masks, packing_triton
from solo_family.ops.decode_masks import decode_masks
from solo_family.ops.matrix_nms import matrix_nms, matrix_nms_decay

from .matrix_nms_reference import assert_equals_reference, reference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
HALVES = [torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def every_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_kernels, "runs", lambda kernel, tensor: kernel in gpu_kernels.TRITON)
    module = importlib.import_module("solo_family.ops.matrix_nms")
    monkeypatch.setattr(module, "_TRITON_FROM", 0)


@pytest.fixture
def large_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes as long for a program whatever the number of its elements."""
    if DEVICE == "cpu":
        for name in ("_TILE", "_ROWS", "_COLUMNS"):
            monkeypatch.setattr(matrix_nms_triton, name, 512)
        # As few as 40 x 64 pixels need.
        monkeypatch.setattr(packing_triton, "_BLOCK_WORDS", 128)


def random_logits(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Rectangles around which values fall off, away from 0 by more than bfloat16's rounding."""
    rng = np.random.default_rng(seed)
    top, left = (rng.integers(0, side, (count, 1, 1)) for side in size)
    bottom, right = (
        start + rng.integers(1, side + 1, (count, 1, 1))
        for start, side in ((top, size[0]), (left, size[1]))
    )
    y, x = np.arange(size[0])[:, None], np.arange(size[1])
    inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    values = rng.uniform(0.25, 3, (count, *size)) * np.where(inside, 1, -1)
    return torch.from_numpy(values.astype(np.float32))


def assert_matrix_nms(masks: Tensor, labels: Tensor, kernel: str, inside: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(len(labels), generator=generator)
    inputs = (masks.to(DEVICE), labels.to(DEVICE), scores.to(DEVICE))
    threshold = 0.0 if masks.is_floating_point() else None
    order, decayed = matrix_nms_decay(*inputs, kernel, 2.0, False, threshold)
    by_index = reference(inside.numpy(), labels.numpy(), scores.double().numpy(), kernel)
    assert_equals_reference(order, decayed, scores.numpy(), by_index)
    expected = np.array([by_index[n] for n in range(len(labels))])
    kept, _ = matrix_nms(
        *inputs, kernel=kernel, mask_threshold=threshold, pre_nms=None, post_nms=None, threshold=0.3
    )
    unsure = np.abs(expected - 0.3) <= 1e-6
    assert {n for n in kept.tolist() if not unsure[n]} == set(
        np.flatnonzero((expected >= 0.3) & ~unsure).tolist()
    )


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
@pytest.mark.parametrize(
    ("count", "size"),
    [
        (0, (5, 7)),
        (1, (1, 1)),
        (1, (5, 7)),
        (67, (8, 4)),
        pytest.param(70, (13, 17), marks=pytest.mark.slow),
    ],
)
def test_matrix_nms(count: int, size: tuple[int, int], kernel: str) -> None:
    inside = random_logits(count, size) > 0
    labels = torch.randint(0, 3, (count,), generator=torch.Generator().manual_seed(1))
    assert_matrix_nms(inside, labels, kernel, inside)


@pytest.mark.slow
def test_masks_of_more_words_than_a_part() -> None:
    inside = random_logits(3, (91, 97)) > 0
    assert_matrix_nms(inside, torch.zeros(3, dtype=torch.int64), "gaussian", inside)


@pytest.mark.slow
@pytest.mark.usefixtures("large_blocks")
def test_five_hundred_masks() -> None:
    logits = random_logits(500, (40, 64))
    labels = torch.randint(0, 7, (500,), generator=torch.Generator().manual_seed(1))
    # Packed once: a program for each mask is what takes the interpreter long.
    words = pack_masks(logits.half().to(DEVICE), 0.0).words
    assert_matrix_nms(words, labels, "gaussian", logits > 0)


@pytest.mark.slow
@pytest.mark.usefixtures("large_blocks")
@pytest.mark.parametrize(("size", "classes"), [((32, 32), 80), ((5, 7), 1)])
def test_two_thousand_packed_masks(size: tuple[int, int], classes: int) -> None:
    inside = random_logits(2000, size) > 0
    octets = np.packbits(inside.flatten(1).numpy(), axis=1, bitorder="little")
    octets = np.pad(octets, ((0, 0), (0, -octets.shape[1] % 4)))
    labels = torch.randint(0, classes, (2000,), generator=torch.Generator().manual_seed(1))
    assert_matrix_nms(torch.from_numpy(octets.view(np.int32)), labels, "linear", inside)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, *HALVES])
def test_masks_of_every_dtype(dtype: torch.dtype) -> None:
    logits = random_logits(9, (7, 11))
    masks = logits > 0 if dtype == torch.bool else logits.to(dtype)
    assert_matrix_nms(masks, torch.zeros(9, dtype=torch.int64), "gaussian", logits > 0)


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
@pytest.mark.parametrize("value", [False, True])
def test_equal_masks_without_and_with_pixels(value: bool, kernel: str) -> None:
    inside = torch.full((5, 6, 9), value)
    assert_matrix_nms(inside, torch.zeros(5, dtype=torch.int64), kernel, inside)


def test_classes_decay_each_other_only_when_agnostic() -> None:
    masks = torch.ones(2, 4, 4, dtype=torch.bool, device=DEVICE)
    labels, scores = torch.tensor([4, 1], device=DEVICE), torch.tensor([0.9, 0.8], device=DEVICE)
    apart = matrix_nms_decay(masks, labels, scores, "gaussian", 2.0, False)[1]
    together = matrix_nms_decay(masks, labels, scores, "gaussian", 2.0, True)[1]
    assert apart.tolist() == pytest.approx([0.9, 0.8])
    assert together.tolist() == pytest.approx([0.9, 0.8 * math.exp(-2)])


def test_the_best_before_nms_take_part() -> None:
    inside = (random_logits(9, (7, 11)) > 0).to(DEVICE)
    scores = torch.arange(9.0, device=DEVICE) / 9
    order, _ = matrix_nms_decay(
        inside, torch.arange(9, device=DEVICE), scores, "gaussian", 2.0, False, None, 4
    )
    assert order.tolist() == [8, 7, 6, 5]


def expected_words(inside: Tensor) -> list[list[int]]:
    words = []
    for mask in inside.flatten(1).tolist():
        parts = [mask[start : start + 32] for start in range(0, len(mask), 32)]
        values = [sum(bit << place for place, bit in enumerate(part)) for part in parts]
        words.append([value - 2**32 if value >= 2**31 else value for value in values])
    return words


def assert_packed(packed, inside: Tensor, probability: Tensor) -> None:
    areas = inside.flatten(1).sum(1)
    maskness = (probability * inside).double().flatten(1).sum(1) / areas.clamp(min=1)
    assert packed.words.tolist() == expected_words(inside)
    assert packed.areas.tolist() == areas.tolist()
    np.testing.assert_allclose(packed.maskness.tolist(), maskness, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("size", [(1, 1), (7, 11), (8, 4), (103, 97)])
def test_packing(size: tuple[int, int], dtype: torch.dtype) -> None:
    logits = random_logits(4, size).to(dtype)
    logits[2] = -1
    packed = pack_masks(logits.to(DEVICE), 0.0, logits=True)
    assert_packed(packed, logits > 0, logits.float().sigmoid())
    probability = logits.float().sigmoid()
    assert_packed(pack_masks(probability.to(DEVICE), 0.5), logits > 0, probability)


def test_packing_of_bool_masks() -> None:
    inside = random_logits(4, (7, 11)) > 0
    assert_packed(pack_masks(inside.to(DEVICE)), inside, inside.float())


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize(
    ("count", "channels", "size"),
    [(0, 8, (5, 7)), (1, 1, (1, 1)), (70, 40, (13, 17)), (3, 33, (8, 32))],
)
def test_decoding(count: int, channels: int, size: tuple[int, int], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    # Eighths: every sum is exact, and a probability away from 0.6 or its pixel left to chance.
    weights = (torch.randn(count, channels, generator=generator) * 8).round().div(8).to(dtype)
    features = (torch.randn(channels, *size, generator=generator) * 8).round().div(8).to(dtype)
    logits = torch.einsum("ne,ehw->nhw", weights.double(), features.double())
    probability = logits.sigmoid()
    packed = decode_masks(weights.to(DEVICE), features.to(DEVICE), 0.6)
    assert (probability - 0.6).abs().min() > 1e-6 if count else True
    assert_packed(packed, probability > 0.6, probability)
