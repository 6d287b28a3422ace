import math
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from solo_family.ops import gpu_kernels, matrix_nms_bits, pack_masks
from solo_family.ops.matrix_nms import _way, matrix_nms, matrix_nms_decay
from solo_family.ops.matrix_nms_torch import decay_all_pairs, decay_factors, matrix_nms_plain

from .matrix_nms_reference import assert_equals_reference, reference

KERNELS = ["gaussian", "linear"]
FLOAT_DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


class Candidates(NamedTuple):
    masks: Tensor
    labels: Tensor
    scores: Tensor


@st.composite
def candidates(draw: st.DrawFn) -> Candidates:
    """Up to 12 masks out of 5, one of them without pixels, so that duplicates are usual."""
    shape = (5, draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    pool = draw(hnp.arrays(bool, shape))
    pool[0] = False
    count = draw(st.integers(0, 12))
    picks = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 4)))
    labels = draw(hnp.arrays(np.int64, count, elements=st.integers(0, draw(st.integers(0, 3)))))
    # Sixteenths are exact in every float dtype, and often tied.
    sixteenths = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 16)))
    dtype = draw(st.sampled_from(FLOAT_DTYPES))
    return Candidates(
        masks=torch.from_numpy(pool[picks]),
        labels=torch.from_numpy(labels),
        scores=(torch.from_numpy(sixteenths) / 16).to(dtype),
    )


def reference_iou(a: Tensor, b: Tensor) -> float:
    pixels_a = {tuple(pixel) for pixel in a.nonzero().tolist()}
    pixels_b = {tuple(pixel) for pixel in b.nonzero().tolist()}
    union = len(pixels_a | pixels_b)
    return len(pixels_a & pixels_b) / union if union else 0.0


def reference_decayed_scores(
    inputs: Candidates, kernel: str, sigma: float, pre_nms: int | None, class_agnostic: bool
) -> dict[int, float]:
    """The decayed score of each mask that takes part, by its place in the input."""
    values, labels = inputs.scores.tolist(), inputs.labels.tolist()
    order = sorted(range(len(values)), key=lambda n: -values[n])[:pre_nms]

    def f(iou: float) -> float:
        return math.exp(-sigma * iou**2) if kernel == "gaussian" else 1 - iou

    def overlaps_with_better(rank: int) -> dict[int, float]:
        n = order[rank]
        return {
            better: reference_iou(inputs.masks[better], inputs.masks[n])
            for better in order[:rank]
            if class_agnostic or labels[better] == labels[n]
        }

    decayed: dict[int, float] = {}
    compensation: dict[int, float] = {}
    for rank, n in enumerate(order):
        overlaps = overlaps_with_better(rank)
        compensation[n] = max(overlaps.values(), default=0.0)
        decay = 1.0
        for better, iou in overlaps.items():
            if f(compensation[better]) > 0:
                decay = min(decay, f(iou) / f(compensation[better]))
        decayed[n] = values[n] * decay
    return decayed


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    inputs=candidates(),
    kernel=st.sampled_from(KERNELS),
    sigma=st.sampled_from([0.5, 2.0]),
    pre_nms=st.sampled_from([None, 1, 5]),
    class_agnostic=st.booleans(),
)
def test_matches_the_reference(
    inputs: Candidates, kernel: str, sigma: float, pre_nms: int | None, class_agnostic: bool
) -> None:
    keep, scores = matrix_nms(
        *inputs,
        kernel=kernel,
        sigma=sigma,
        pre_nms=pre_nms,
        post_nms=None,
        threshold=0.0,
        class_agnostic=class_agnostic,
    )
    expected = reference_decayed_scores(inputs, kernel, sigma, pre_nms, class_agnostic)
    assert keep.dtype == torch.int64
    assert scores.dtype == torch.float32
    assert sorted(keep.tolist()) == sorted(expected)
    np.testing.assert_allclose(scores.tolist(), [expected[n] for n in keep.tolist()], atol=1e-6)

    original = inputs.scores.tolist()
    ranks = [(-score, -original[n], n) for score, n in zip(scores.tolist(), keep.tolist())]
    assert ranks == sorted(ranks)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    inputs=candidates(),
    kernel=st.sampled_from(KERNELS),
    post_nms=st.integers(0, 5),
    threshold=st.sampled_from([0.05, 0.25, 0.5]),
)
def test_threshold_and_post_nms_cut_the_whole_result(
    inputs: Candidates, kernel: str, post_nms: int, threshold: float
) -> None:
    whole_keep, whole_scores = matrix_nms(*inputs, kernel=kernel, post_nms=None, threshold=0.0)
    keep, scores = matrix_nms(*inputs, kernel=kernel, post_nms=post_nms, threshold=threshold)
    confident = whole_scores >= threshold
    assert torch.equal(keep, whole_keep[confident][:post_nms])
    assert torch.equal(scores, whole_scores[confident][:post_nms])


@settings(deadline=None, max_examples=100, derandomize=True)
@given(inputs=candidates(), kernel=st.sampled_from(KERNELS))
def test_unsorted_equals_sorted(inputs: Candidates, kernel: str) -> None:
    order = inputs.scores.float().argsort(descending=True, stable=True)
    keep, scores = matrix_nms(*inputs, kernel=kernel)
    keep_sorted, scores_sorted = matrix_nms(*(x[order] for x in inputs), kernel=kernel)
    assert torch.equal(keep, order[keep_sorted])
    assert torch.equal(scores, scores_sorted)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(inputs=candidates(), dtype=st.sampled_from(FLOAT_DTYPES), autocast=st.booleans())
def test_probabilities_equal_their_masks(
    inputs: Candidates, dtype: torch.dtype, autocast: bool
) -> None:
    probabilities = torch.where(inputs.masks, 0.75, 0.5).to(dtype)
    expected = matrix_nms(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        keep, scores = matrix_nms(probabilities, inputs.labels, inputs.scores, mask_threshold=0.5)
    assert torch.equal(keep, expected[0])
    assert torch.equal(scores, expected[1])


def identical(count: int) -> Tensor:
    masks = torch.zeros(count, 4, 4, dtype=torch.bool)
    masks[:, 1:3, 1:3] = True
    return masks


SAME_CLASS = torch.zeros(3, dtype=torch.int64)
DESCENDING = torch.tensor([0.9, 0.8, 0.7])


def test_three_identical_masks_gaussian() -> None:
    keep, scores = matrix_nms(identical(3), SAME_CLASS, DESCENDING)
    assert keep.tolist() == [0, 1, 2]
    assert scores.tolist() == pytest.approx([0.9, 0.8 * math.exp(-2), 0.7 * math.exp(-2)])
    assert scores.tolist() == pytest.approx([0.9, 0.108, 0.095], abs=5e-4)


def test_three_identical_masks_linear() -> None:
    keep, scores = matrix_nms(identical(3), SAME_CLASS, DESCENDING, kernel="linear", threshold=0.0)
    assert keep.tolist() == [0, 1, 2]
    assert scores.tolist() == pytest.approx([0.9, 0.0, 0.0])


def test_linear_leaves_out_a_fully_compensated_row() -> None:
    # Row 1 repeats row 0, so what it would say of column 2 is 0.5 / 0; row 0 says 0.5 / 1.
    iou = torch.tensor([[1.0, 1.0, 0.5], [1.0, 1.0, 0.5], [0.5, 0.5, 1.0]])
    assert decay_factors(iou, SAME_CLASS, kernel="linear").tolist() == [1.0, 0.0, 0.5]


@pytest.mark.parametrize("kernel", KERNELS)
def test_compensation_by_hand(kernel: str) -> None:
    iou = torch.tensor([[1.0, 0.6, 0.1], [0.6, 1.0, 0.7], [0.1, 0.7, 1.0]])
    # Row 1 is suppressed itself (c_1 = 0.6), so its hold on column 2 is loosened.
    expected = {
        "gaussian": [1.0, math.exp(-2 * 0.36), math.exp(-2 * (0.49 - 0.36))],
        "linear": [1.0, 0.4, 0.3 / 0.4],
    }
    decay = decay_factors(iou, SAME_CLASS, kernel=kernel)
    assert decay.tolist() == pytest.approx(expected[kernel])


@pytest.mark.parametrize("kernel", KERNELS)
def test_zero_area_masks_decay_nothing(kernel: str) -> None:
    masks = torch.cat([identical(1), torch.zeros(2, 4, 4, dtype=torch.bool)])
    keep, scores = matrix_nms(masks, SAME_CLASS, DESCENDING, kernel=kernel)
    assert keep.tolist() == [0, 1, 2]
    assert torch.equal(scores, DESCENDING)


@pytest.mark.parametrize("sigma", [0.0, 2.0, 1e4, 1e38])
def test_any_sigma_gives_numbers(sigma: float) -> None:
    masks = identical(3)
    masks[2, 0, 0] = True
    keep, scores = matrix_nms(masks, SAME_CLASS, DESCENDING, sigma=sigma, threshold=0.0)
    assert len(keep) == 3
    assert scores.isfinite().all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_no_masks(dtype: torch.dtype, kernel: str) -> None:
    keep, scores = matrix_nms(
        torch.zeros(0, 4, 4, dtype=torch.bool),
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0, dtype=dtype),
        kernel=kernel,
    )
    assert keep.shape == scores.shape == (0,)
    assert keep.dtype == torch.int64
    assert scores.dtype == torch.float32
    assert keep.device == scores.device == torch.device("cpu")


def test_pre_nms_takes_the_best_and_breaks_ties_by_place() -> None:
    scores = torch.tensor([0.5, 0.9, 0.5, 0.5])
    masks = torch.zeros(4, 2, 2, dtype=torch.bool)
    keep, _ = matrix_nms(masks, torch.zeros(4, dtype=torch.int64), scores, pre_nms=3)
    assert keep.tolist() == [1, 0, 2]


def test_classes_decay_each_other_only_when_agnostic() -> None:
    masks, labels, scores = identical(3), torch.tensor([0, 1, 2]), DESCENDING
    _, by_class = matrix_nms(masks, labels, scores)
    _, agnostic = matrix_nms(masks, labels, scores, class_agnostic=True)
    _, one_class = matrix_nms(masks, SAME_CLASS, scores)
    assert torch.equal(by_class, scores)
    assert torch.equal(agnostic, one_class)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("side", [47, 259])
def test_large_masks_are_exact_under_autocast(side: int, dtype: torch.dtype) -> None:
    # 47 * 47 pixels are beyond float16's exact integers, 259 * 259 beyond its range.
    masks = torch.ones(2, side, side, dtype=torch.bool)
    masks[1, 0, 0] = False
    labels = torch.zeros(2, dtype=torch.int64)
    scores = torch.tensor([1.0, 0.5], dtype=dtype)
    area = side * side
    with torch.autocast("cpu", dtype=dtype):
        _, gaussian = matrix_nms(masks, labels, scores)
        _, linear = matrix_nms(masks, labels, scores, kernel="linear", threshold=0.0)
    iou = (area - 1) / area
    assert gaussian.tolist() == pytest.approx([1.0, 0.5 * math.exp(-2 * iou**2)], rel=1e-6)
    assert linear.tolist() == pytest.approx([1.0, 0.5 / area], abs=1e-7)


def test_mask_threshold_is_not_rounded_to_the_masks_dtype() -> None:
    # The bfloat16 nearest to 0.3 is above 0.3: these pixels belong to their masks.
    probabilities = torch.full((2, 2, 2), 0.3, dtype=torch.bfloat16)
    labels, scores = torch.zeros(2, dtype=torch.int64), torch.ones(2)
    _, decayed = matrix_nms(probabilities, labels, scores, mask_threshold=0.3)
    assert decayed.tolist() == pytest.approx([1.0, math.exp(-2)])


def test_rejects_probabilities_without_mask_threshold() -> None:
    with pytest.raises(ValueError, match="need a mask_threshold"):
        matrix_nms(torch.rand(3, 4, 4), SAME_CLASS, DESCENDING)


def test_rejects_integer_masks() -> None:
    with pytest.raises(ValueError, match=r"but are torch\.uint8"):
        matrix_nms(identical(3).to(torch.uint8), SAME_CLASS, DESCENDING)


@pytest.mark.parametrize("count", [0, 3])
def test_rejects_unknown_kernel(count: int) -> None:
    with pytest.raises(ValueError, match="'mask': choose one of 'gaussian', 'linear'"):
        matrix_nms(identical(count), SAME_CLASS[:count], DESCENDING[:count], kernel="mask")


def some_candidates(count: int = 12) -> Candidates:
    generator = torch.Generator().manual_seed(0)
    return Candidates(
        masks=torch.rand(count, 5, 7, generator=generator) > 0.4,
        labels=torch.randint(0, 3, (count,), generator=generator),
        scores=torch.rand(count, generator=generator),
    )


@settings(deadline=None, max_examples=100, derandomize=True)
@given(inputs=candidates(), kernel=st.sampled_from(KERNELS), agnostic=st.booleans())
def test_the_plain_form_equals_the_operator(
    inputs: Candidates, kernel: str, agnostic: bool
) -> None:
    order, decayed = matrix_nms_decay(*inputs, kernel, 2.0, agnostic, None, 7)
    plain_order, plain = matrix_nms_plain(*inputs, kernel, 2.0, agnostic, None, 7)
    assert torch.equal(order, plain_order)
    torch.testing.assert_close(decayed, plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_packed_masks_equal_bool_masks(kernel: str) -> None:
    inputs = some_candidates()
    expected = matrix_nms(*inputs, kernel=kernel)
    words = pack_masks(inputs.masks).words
    for result, one in zip(matrix_nms(words, *inputs[1:], kernel=kernel), expected):
        assert torch.equal(result, one)


@pytest.mark.parametrize("pre_nms", [None, 5])
def test_the_operator_declares_its_outputs(pre_nms: int | None) -> None:
    arguments = (*some_candidates(), "gaussian", 2.0, False, None, pre_nms)
    torch.library.opcheck(
        matrix_nms_decay, arguments, test_utils=("test_schema", "test_faketensor")
    )


def test_the_operator_stays_one_in_an_exported_graph() -> None:
    class Module(torch.nn.Module):
        def forward(self, masks: Tensor, labels: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
            return matrix_nms_decay(masks, labels, scores, "gaussian", 2.0, False)

    inputs = some_candidates()
    exported = torch.export.export(Module(), tuple(inputs))
    calls = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
    assert calls.count("solo_family.matrix_nms_decay.default") == 1
    for result, expected in zip(exported.module()(*inputs), Module()(*inputs)):
        assert torch.equal(result, expected)


@pytest.mark.parametrize("short", [0, 1, 2])
def test_rejects_candidates_that_differ_in_number(short: int) -> None:
    inputs = list(some_candidates())
    inputs[short] = inputs[short][1:]
    counts = " masks, .*".join(str(len(part)) for part in inputs[:2])
    with pytest.raises(ValueError, match=f"a label and a score for each mask.*{counts} labels"):
        matrix_nms(*inputs)


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_rejects_candidates_on_several_devices(moved: int) -> None:
    inputs = list(some_candidates())
    inputs[moved] = inputs[moved].to("meta")
    with pytest.raises(ValueError, match="must be on one device, but are on"):
        matrix_nms_decay._init_fn(*inputs, "gaussian", 2.0, False)


def test_scores_that_are_no_usual_numbers() -> None:
    """NaN is above every number, decays others, and is never kept."""
    masks, labels, _ = some_candidates(8)
    scores = torch.tensor([0.5, math.nan, 0.0, -0.0, math.nan, 0.5, -0.5, 0.25])
    order, decayed = matrix_nms_decay(masks, labels, scores, "gaussian", 2.0, False)
    expected = reference(masks.numpy(), labels.numpy(), scores.double().numpy(), "gaussian")
    assert_equals_reference(order, decayed, scores.numpy(), expected)
    assert order[:2].tolist() == [1, 4]
    kept, _ = matrix_nms(masks, labels, scores, threshold=0.0)
    assert sorted(kept.tolist()) == [0, 2, 3, 5, 7]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_labels_of_either_dtype_and_sign(dtype: torch.dtype) -> None:
    masks, labels, scores = some_candidates()
    expected = matrix_nms(masks, labels, scores)
    for result, value in zip(matrix_nms(masks, (labels - 2).to(dtype), scores), expected):
        assert torch.equal(result, value)


class Operators(TorchDispatchMode):
    """Lists the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func.overloadpacket))
        return func(*args, **(kwargs or {}))


def test_what_is_kept_is_waited_for_once() -> None:
    with Operators() as operators:
        matrix_nms(*some_candidates())
    waits = ("aten.nonzero", "aten._local_scalar_dense", "aten.masked_select")
    assert [name for name in operators.names if name in waits] == ["aten.nonzero"]
    bool_index = [name for name in operators.names if name == "aten.index"]
    assert len(bool_index) == 2  # by the places that `nonzero` has found


def test_the_kernels_for_single_bits_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def bits(masks, labels, scores, *others):
        taken.append((labels is None, *others))
        return torch.arange(len(scores)), scores.clone()

    monkeypatch.setattr(gpu_kernels, "runs", lambda kernel, _: kernel == "bits")
    monkeypatch.setattr(matrix_nms_bits, "matrix_nms_bits", bits)
    masks, labels, scores = some_candidates()
    matrix_nms_decay(masks, labels, scores, "linear", 2.0, False, None, 7)
    matrix_nms_decay(masks.half(), labels, scores, "gaussian", 0.5, True, 0.5)
    assert taken == [
        (False, "linear", 2.0, None, 7),
        (True, "gaussian", 0.5, 0.5, None),
    ]
    # float64 is compared in float64, which those kernels don't do.
    matrix_nms_decay(masks.double(), labels, scores, "gaussian", 0.5, True, 0.5)
    assert len(taken) == 2


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float32])
def test_all_pairs_at_once_decay_as_class_by_class(dtype: torch.dtype, kernel: str) -> None:
    masks, labels, _ = some_candidates()
    given = pack_masks(masks).words if dtype == torch.int32 else masks.to(dtype)
    threshold = 0.5 if dtype == torch.float32 else None
    rows = torch.randperm(12, generator=torch.Generator().manual_seed(1))[:9]
    factors = decay_all_pairs(given, rows, labels[rows], kernel, 2.0, threshold)
    expected = reference(masks[rows].numpy(), labels[rows].numpy(), np.ones(9), kernel)
    np.testing.assert_allclose(factors, [expected[n] for n in range(9)], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("count", "class_agnostic", "way"),
    [
        (207, False, "decay_by_class"),
        (208, False, "decay_by_class_triton"),
        (999, True, "decay_by_class_triton"),
        (1000, True, "decay_by_class"),
        (1000, False, "decay_by_class_triton"),
    ],
)
def test_the_cheapest_way_that_was_measured(
    count: int, class_agnostic: bool, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_kernels, "runs", lambda kernel, _: kernel == "nms")
    chosen = _way(torch.zeros(1, 2, 2, dtype=torch.bool), count, class_agnostic)
    assert isinstance(chosen, partial)
    assert chosen.args[0].__name__ == way
    no_cpu = torch.zeros(1, 2, 2, dtype=torch.bool, device="meta")
    elsewhere = _way(no_cpu, count, class_agnostic)
    assert (elsewhere is decay_all_pairs) == (way == "decay_by_class")
