"""What only a GPU can show of matrix NMS: its kernels' results, no waits, and graphs."""

import importlib
import threading

import numpy as np
import pytest
import torch
from torch import Tensor

from solo_family.ops import gpu_kernels, matrix_nms_bits, pack_masks
from solo_family.ops.matrix_nms import matrix_nms, matrix_nms_decay

from ..ops.matrix_nms_reference import assert_equals_reference, by_score

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

KERNELS = ["gaussian", "linear"]
# Kernels that an operator runs, by the name of what is left.
WAYS = {"bits": ("bits", "pack"), "triton": gpu_kernels.TRITON, "torch": ()}


def need_single_bits() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    if not gpu_kernels.suits("bits", device):
        pytest.skip("this GPU has no tensor cores for single bits")
    assert gpu_kernels.failure("bits", device) is None


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "bits":
        need_single_bits()
    monkeypatch.setattr(gpu_kernels, "runs", lambda kernel, _: kernel in WAYS[request.param])
    module = importlib.import_module("solo_family.ops.matrix_nms")
    monkeypatch.setattr(module, "_TRITON_FROM", 0)
    return request.param


def inputs(
    count: int, size: tuple[int, int] = (40, 64), classes: int = 5, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Soft rectangles with holes, 0.75 inside and 0.25 outside; scores of which some are equal."""
    generator = torch.Generator("cuda").manual_seed(seed)
    random = torch.rand(4, count, 1, 1, generator=generator, device="cuda")
    y, x = (torch.arange(side, device="cuda") / side for side in size)
    inside = ((y[:, None] - random[0]).abs() < random[2]) & ((x - random[1]).abs() < random[3])
    holes = torch.rand(inside.shape, generator=generator, device="cuda") < 0.1
    inside &= ~holes
    inside[4::5] = inside[: len(inside[4::5])].clone()
    masks = torch.where(inside, 0.75, 0.25).half()
    labels = torch.randint(-1, classes - 1, (count,), generator=generator, device="cuda")
    scores = torch.randint(1, 10**6, (count,), generator=generator, device="cuda") / 10**6
    scores[2::7] = scores[: len(scores[2::7])].clone()
    return masks, labels, scores


def reference(masks: Tensor, labels: Tensor, scores: Tensor, kernel: str) -> dict[int, float]:
    """Decayed scores in float64, on the GPU, one column after another."""
    order = torch.tensor(by_score(scores.cpu().numpy()), device="cuda")
    flat = masks[order].flatten(1).double()
    areas, common = flat.sum(1), flat @ flat.T
    union = areas[:, None] + areas - common
    same = labels[order][:, None] == labels[order]
    iou = (same * common / union.clamp(min=1)).triu(1)
    held = iou.amax(0)
    decayed = {}
    for j, n in enumerate(order.tolist()):
        if kernel == "gaussian":
            ratios = torch.exp(-2 * iou[:j, j] ** 2) / torch.exp(-2 * held[:j] ** 2)
        else:
            kept = held[:j] < 1
            ratios = (1 - iou[:j, j][kept]) / (1 - held[:j][kept])
        decayed[n] = torch.cat([ratios, ratios.new_ones(1)]).amin() * scores[n].double()
    values = torch.stack(list(decayed.values())).tolist()
    return dict(zip(decayed, values))


def check(inside: Tensor, given: Tensor, labels: Tensor, scores: Tensor, kernel: str) -> None:
    threshold = 0.5 if given.is_floating_point() else None
    order, decayed = matrix_nms_decay(given, labels, scores, kernel, 2.0, False, threshold)
    expected = reference(inside, labels, scores, kernel)
    assert_equals_reference(order, decayed, scores.cpu().numpy(), expected)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("classes", [1, 80])
@pytest.mark.parametrize("count", [1, 16, 100, 500, 2000, 5000])
def test_packed_masks(way: str, count: int, classes: int, kernel: str) -> None:
    masks, labels, scores = inputs(count, classes=classes)
    inside = masks > 0.5
    check(inside, pack_masks(inside).words, labels, scores, kernel)


@pytest.mark.parametrize("count", [999, 1000])
@pytest.mark.parametrize("words", [1, 2, 3, 4, 5, 6, 15, 16, 17, 63, 300])
def test_any_number_of_words(way: str, words: int, count: int) -> None:
    masks, labels, scores = inputs(count, (words, 32))
    inside = masks > 0.5
    check(inside, pack_masks(inside).words, labels, scores, "linear")


@pytest.mark.parametrize("size", [(40, 64), (7, 11), (33, 31), (200, 336)])
@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.float16, torch.bfloat16, torch.float32, torch.float64]
)
def test_masks_of_every_dtype(way: str, dtype: torch.dtype, size: tuple[int, int]) -> None:
    masks, labels, scores = inputs(200, size)
    inside = masks > 0.5
    check(inside, inside if dtype == torch.bool else masks.to(dtype), labels, scores, "gaussian")


def test_a_part_of_unaligned_masks(way: str) -> None:
    masks, labels, scores = inputs(51, (7, 11))
    for given in (masks, masks > 0.5, pack_masks(masks > 0.5).words):
        check(masks[1:] > 0.5, given[1:], labels[1:], scores[1:], "gaussian")


def test_the_best_before_nms_take_part(way: str) -> None:
    masks, labels, scores = inputs(300)
    best = scores.argsort(descending=True, stable=True)[:100]
    arguments = ("gaussian", 2.0, False, 0.5)
    order, decayed = matrix_nms_decay(masks, labels, scores, *arguments, 100)
    alone = matrix_nms_decay(masks[best], labels[best], scores[best], *arguments)
    assert torch.equal(order, best[alone[0]])
    assert torch.equal(decayed, alone[1])


def test_scores_that_are_no_usual_numbers(way: str) -> None:
    masks, labels, scores = inputs(100)
    scores[[3, 50]] = torch.nan
    scores[[4, 51]] = torch.tensor([0.0, -0.0], device="cuda")
    check(masks > 0.5, masks, labels.int(), scores, "gaussian")


def test_the_ways_agree_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as they share a division: only exponentials may differ."""
    need_single_bits()
    masks, labels, scores = inputs(500, (200, 336), classes=1)
    results = []
    for kernels in (WAYS["bits"], WAYS["torch"]):
        monkeypatch.setattr(gpu_kernels, "runs", lambda kernel, _, on=kernels: kernel in on)
        results.append(matrix_nms_decay(masks, labels, scores, "linear", 2.0, False, 0.5))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def decay(masks: Tensor, labels: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    return matrix_nms_decay(masks, labels, scores, "gaussian", 2.0, False, 0.5)


@pytest.mark.parametrize("count", [16, 100, 1200, 5000])
def test_the_host_never_waits(way: str, count: int) -> None:
    arguments = inputs(count)
    decay(*arguments)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        decay(*arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_whole_waits_once(way: str) -> None:
    arguments = inputs(100)
    matrix_nms(*arguments, mask_threshold=0.5)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with pytest.warns(UserWarning, match="synchronizing") as warned:
            matrix_nms(*arguments, mask_threshold=0.5)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([w for w in warned if "synchronizing" in str(w.message)]) == 1


@pytest.mark.parametrize("count", [100, 1200, 5000])
def test_a_graph_replays_it_on_other_masks(way: str, count: int) -> None:
    static = inputs(count)
    decay(*static)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        order, decayed = decay(*static)
    for seed in (1, 2):
        for buffer, value in zip(static, inputs(count, seed=seed)):
            buffer.copy_(value)
        graph.replay()
        expected_order, expected = decay(*static)
        assert torch.equal(decayed, expected)
        assert torch.equal(order, expected_order)


# Triton compiles a kernel when it first runs, which a capture forbids.
@pytest.mark.parametrize("way", ["bits"], indirect=True)
def test_a_graph_of_a_kernel_that_has_not_run_yet(way: str) -> None:
    decay(*inputs(3))
    static = inputs(1200, (5, 32))
    masks = pack_masks(static[0] > 0.5).words
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        order, decayed = matrix_nms_decay(masks, *static[1:], "linear", 2.0, False)
    graph.replay()
    expected = matrix_nms_decay(masks, *static[1:], "linear", 2.0, False)
    assert torch.equal(order, expected[0])
    assert torch.equal(decayed, expected[1])


@pytest.mark.parametrize("count", [500, 1500])
def test_it_is_deterministic(way: str, count: int) -> None:
    arguments = inputs(count)
    first = decay(*arguments)
    for _ in range(5):
        for result, expected in zip(decay(*arguments), first):
            assert torch.equal(result, expected)


def test_other_streams_and_threads(way: str) -> None:
    """A thread that has not called CUDA yet, on a stream of its own, as many times as there are."""
    arguments = inputs(300)
    expected = decay(*arguments)
    torch.cuda.synchronize()
    results: list[tuple[Tensor, Tensor]] = []

    def work() -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            results.extend(decay(*arguments) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.cuda.synchronize()
    assert len(results) == 60
    for order, decayed in results:
        assert torch.equal(order, expected[0])
        assert torch.equal(decayed, expected[1])


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_another_gpu_than_the_current_one(way: str) -> None:
    arguments = inputs(100)
    expected = decay(*arguments)
    for result, value in zip(decay(*(x.to("cuda:1") for x in arguments)), expected):
        assert result.device.index == 1
        np.testing.assert_array_equal(result.cpu(), value.cpu())


def test_tile_sizes_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    need_single_bits()
    arguments = inputs(700)
    expected = decay(*arguments)
    monkeypatch.setattr(matrix_nms_bits, "_LARGE_SQUARES_FROM", 1)
    for result, value in zip(decay(*arguments), expected):
        assert torch.equal(result, value)
