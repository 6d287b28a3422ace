"""What an operator accepts, refuses and returns: the same on a GPU as on a CPU.

Its kernel runs compiled where there is a GPU, and else in Triton's interpreter.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from solo_family.ops import PackedMasks, pack_masks
from solo_family.ops.decode_masks import decode_masks
from solo_family.ops.matrix_nms import matrix_nms
from solo_family.ops.resize import resize_masks, resize_masks_with_boxes

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAN, INF = float("nan"), float("inf")


@pytest.fixture(params=["torch", "triton"], autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SOLO_FAMILY_KERNELS", request.param)
    return request.param


def tensor(values: Any, dtype: torch.dtype | None = None) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=DEVICE)


def assert_packed(packed: PackedMasks, words: list, areas: list, maskness: list) -> None:
    assert packed.words.tolist() == words
    assert packed.areas.tolist() == areas
    assert packed.maskness.tolist() == pytest.approx(maskness)
    dtypes = torch.int32, torch.int64, torch.float32
    assert tuple(part.dtype for part in packed) == dtypes


PACKED: dict[str, tuple[Callable[[], PackedMasks], list, list, list]] = {
    "float64 keeps its precision": (
        lambda: pack_masks(tensor([[[0.5 + 1e-12, 0.4]]], torch.float64), 0.5),
        *([[1]], [1], [0.5]),
    ),
    "float64 logits": (
        lambda: pack_masks(tensor([[[1e-300, -1.0]]], torch.float64), 0.0, logits=True),
        *([[1]], [1], [0.5]),
    ),
    "NaN is outside": (
        lambda: pack_masks(tensor([[[NAN, 0.9]], [[NAN, 0.2]]]), 0.5),
        *([[2], [0]], [1, 0], [0.9, 0]),
    ),
    "NaN logits are outside": (
        lambda: pack_masks(tensor([[[NAN, 40.0]]]), 0.0, logits=True),
        *([[2]], [1], [1]),
    ),
    "infinite logits": (
        lambda: pack_masks(tensor([[[INF, -INF]]]), 0.0, logits=True),
        *([[1]], [1], [1]),
    ),
    "a half-precision threshold is not rounded": (
        # The nearest bfloat16 of 0.3 is 0.30078125, which is above 0.3.
        lambda: pack_masks(tensor([[[0.30078125, 0.25]]], torch.bfloat16), 0.3),
        *([[1]], [1], [0.30078125]),
    ),
    "bool masks have no logits": (
        lambda: pack_masks(tensor([[[True, False]]]), logits=True),
        *([[1]], [1], [1]),
    ),
    "bool masks have no threshold": (
        lambda: pack_masks(tensor([[[True, False]]]), 3.0),
        *([[1]], [1], [1]),
    ),
    "no masks": (lambda: pack_masks(tensor([]).view(0, 4, 4), 0.5), [], [], []),
    "no pixels": (
        lambda: pack_masks(tensor([]).view(3, 0, 4), 0.5),
        *([[], [], []], [0] * 3, [0] * 3),
    ),
    "no pixels of bool masks": (
        lambda: pack_masks(tensor([], torch.bool).view(2, 4, 0)),
        *([[], []], [0, 0], [0, 0]),
    ),
    "strides of any kind": (
        lambda: pack_masks(tensor([[[0.9, 0.1], [0.8, 0.2], [0.1, 0.7]]]).permute(2, 1, 0), 0.5),
        *([[3], [4]], [2, 1], [0.85, 0.7]),
    ),
    "decoded without mask features": (
        lambda: decode_masks(tensor([]).view(2, 0), tensor([]).view(0, 2, 2), 0.4),
        *([[15], [15]], [4, 4], [0.5, 0.5]),
    ),
    "decoded without pixels": (
        lambda: decode_masks(tensor([[1.0, 2]] * 3), tensor([]).view(2, 0, 2), 0.4),
        *([[], [], []], [0] * 3, [0] * 3),
    ),
    "decoded without masks": (
        lambda: decode_masks(tensor([]).view(0, 2), torch.ones(2, 2, 2, device=DEVICE), 0.4),
        *([], [], []),
    ),
    "decoded of NaN": (
        lambda: decode_masks(tensor([[NAN, 1.0], [4, 4]]), tensor([[[1.0]], [[1]]]), 0.4),
        *([[0], [1]], [0, 1], [0, 1 / (1 + 2.718281828459045**-8)]),
    ),
    "decoded of float64, rounded": (
        # In float64 the first logit would be 1e-9, in float32 it is 0.
        lambda: decode_masks(
            tensor([[1.0, -1.0]], torch.float64),
            tensor([[[1 + 1e-9, 1.0]], [[1.0, 0.0]]], torch.float64),
            0.5,
        ),
        *([[2]], [1], [1 / (1 + 2.718281828459045**-1)]),
    ),
    "decoded of two dtypes": (
        lambda: decode_masks(tensor([[1.0]], torch.float16), tensor([[[2.0, -2.0]]]), 0.5),
        *([[1]], [1], [1 / (1 + 2.718281828459045**-2)]),
    ),
}


@pytest.mark.parametrize("name", PACKED)
def test_packed_masks(name: str) -> None:
    run, *expected = PACKED[name]
    assert_packed(run(), *expected)


def ones(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(shape, dtype=dtype, device=DEVICE)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "integers": (lambda: pack_masks(ones(1, 2, 2, dtype=torch.int64)), "int64.*masks.bool"),
    "integers with a threshold": (lambda: pack_masks(ones(1, 2, 2).int(), 0.5), "torch.int32"),
    "uint8": (lambda: pack_masks(ones(1, 2, 2, dtype=torch.uint8)), "torch.uint8"),
    "no threshold": (lambda: pack_masks(ones(1, 2, 2)), "need a mask_threshold"),
    "one mask": (lambda: pack_masks(ones(2, 2), 0.5), r"\[N, h, w\].*\(2, 2\)"),
    "four dimensions": (lambda: pack_masks(ones(1, 1, 2, 2), 0.5), r"\(1, 1, 2, 2\)"),
    "mask features that differ": (
        lambda: decode_masks(ones(1, 3), ones(2, 2, 2), 0.4),
        r"kernels \(1, 3\) and mask features \(2, 2, 2\)",
    ),
    "more mask features than kernels have": (
        lambda: decode_masks(ones(1, 2), ones(3, 2, 2), 0.4),
        r"kernels \(1, 2\) and mask features \(3, 2, 2\)",
    ),
    "a batch of mask features": (
        lambda: decode_masks(ones(1, 2), ones(1, 2, 2, 2), 0.4),
        r"\(1, 2, 2, 2\)",
    ),
    "kernels with spatial dimensions": (
        lambda: decode_masks(ones(1, 2, 1, 1), ones(2, 2, 2), 0.4),
        r"\(1, 2, 1, 1\)",
    ),
    "integer kernels": (lambda: decode_masks(ones(1, 2).int(), ones(2, 2, 2), 0.4), "torch.int32"),
    "resized integers": (
        lambda: resize_masks(ones(1, 2, 2).int(), (8, 8), (8, 8), (4, 4), 0.5),
        "floating-point.*torch.int32",
    ),
    "resized bool masks": (
        lambda: resize_masks_with_boxes(ones(1, 2, 2) > 0, (8, 8), (8, 8), (4, 4), 0.5),
        "floating-point.*torch.bool",
    ),
    "resized masks of one dimension too few": (
        lambda: resize_masks(ones(2, 2), (8, 8), (8, 8), (4, 4), 0.5),
        r"\(2, 2\)",
    ),
    "resized masks without pixels": (
        lambda: resize_masks_with_boxes(ones(1, 0, 2), (8, 8), (8, 8), (4, 4), 0.5),
        "every side",
    ),
    "an output without pixels": (
        lambda: resize_masks_with_boxes(ones(1, 2, 2), (8, 8), (8, 8), (4, 0), 0.5),
        r"\(4, 0\).*every side",
    ),
    "an image larger than the input": (
        lambda: resize_masks_with_boxes(ones(1, 2, 2), (8, 8), (8, 9), (4, 4), 0.5),
        r"\(8, 9\) is not part.*\(8, 8\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    run, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        run()


@pytest.mark.skipif(DEVICE == "cpu", reason="two devices are needed")
def test_two_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="on cpu and cuda:0"):
        decode_masks(torch.ones(1, 2), ones(2, 2, 2), 0.4)


SOFT = [[[0.9, 0.1, 0.2], [0.1, 0.2, 0.1]], [[0.1, 0.1, 0.7], [0.2, 0.1, 0.8]]]
SIZES = (4, 6), (4, 6), (8, 12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_resized_masks_of_every_dtype(dtype: torch.dtype) -> None:
    masks, boxes = resize_masks_with_boxes(tensor(SOFT, dtype), *SIZES, 0.5)
    soft = torch.tensor([SOFT])
    for size in (SIZES[0], SIZES[2]):
        soft = F.interpolate(soft, size=size, mode="bilinear", align_corners=False)
    assert (soft - 0.5).abs().min() > 1e-3
    assert torch.equal(masks.cpu(), soft[0] > 0.5)
    assert boxes.tolist() == [[0, 0, 4, 4], [8, 0, 12, 8]]
    assert torch.equal(resize_masks(tensor(SOFT, dtype), *SIZES, 0.5), masks)


def test_no_resized_masks() -> None:
    masks, boxes = resize_masks_with_boxes(tensor(SOFT)[:0], *SIZES, 0.5)
    assert (masks.shape, boxes.shape) == ((0, 8, 12), (0, 4))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_value_without_neighbours_stays_alone(value: float) -> None:
    """Between sizes that are the same nothing is interpolated: no zero times infinity."""
    soft = tensor(SOFT)
    soft[0, 0, 1] = value
    masks, _ = resize_masks_with_boxes(soft, (2, 3), (2, 3), (2, 3), 0.5)
    expected = [[[True, value == INF, False], [False] * 3], [[False] * 2 + [True]] * 2]
    assert masks.tolist() == expected


# Three masks of four pixels: the first two share half of theirs.
SHARING = [[[True, True, True, False]], [[False, True, True, True]], [[True, False, False, False]]]


def decayed(labels: Tensor, scores: list[float]) -> dict[int, float]:
    keep, decayed = matrix_nms(tensor(SHARING), labels, tensor(scores), threshold=0.0)
    return dict(zip(keep.tolist(), decayed.tolist()))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("label", [0, -1])
def test_labels_of_any_kind(label: int, dtype: torch.dtype) -> None:
    scores = decayed(tensor([label, label, 7], dtype), [0.9, 0.8, 0.7])
    assert scores == pytest.approx({0: 0.9, 1: 0.8 * 2.718281828459045**-0.5, 2: 0.7})


def test_a_score_that_is_nan_decays_the_others_as_the_best_and_is_not_kept() -> None:
    scores = decayed(tensor([0, 0, 1]), [NAN, 0.8, 0.7])
    assert scores == pytest.approx({1: 0.8 * 2.718281828459045**-0.5, 2: 0.7})


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
def test_matrix_nms_of_masks_without_pixels_and_of_duplicates(kernel: str) -> None:
    labels, scores = tensor([0, 0, 0]), tensor([0.9, 0.8, 0.7])
    empty = torch.zeros(3, 0, 2, dtype=torch.bool, device=DEVICE)
    keep, decayed = matrix_nms(empty, labels, scores, kernel=kernel, threshold=0.0)
    assert keep.tolist() == [0, 1, 2]
    assert decayed.tolist() == pytest.approx([0.9, 0.8, 0.7])
    full = torch.ones(3, 4, 4, dtype=torch.bool, device=DEVICE)
    keep, decayed = matrix_nms(full, labels, scores, kernel=kernel, threshold=0.0)
    factor = 2.718281828459045**-2 if kernel == "gaussian" else 0
    expected = [0.9, 0.8 * factor, 0.7 * factor]
    assert keep.tolist() == [0, 1, 2]
    assert decayed.tolist() == pytest.approx(expected)


def test_matrix_nms_of_no_masks() -> None:
    masks, labels = torch.zeros(0, 4, 4, dtype=torch.bool), torch.zeros(0, dtype=torch.int64)
    keep, scores = matrix_nms(masks.to(DEVICE), labels.to(DEVICE), tensor([]))
    assert (keep.shape, scores.shape) == ((0,), (0,))
