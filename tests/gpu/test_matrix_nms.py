"""What only a GPU can show of matrix NMS: the host never waits, and a graph replays it."""

import pytest
import torch
from torch import Tensor

from solo_family.ops.matrix_nms import matrix_nms_decay, matrix_nms_plain

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def inputs(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(count, 40, 64, generator=generator).half().cuda()
    labels = torch.randint(0, 5, (count,), generator=generator).cuda()
    return masks, labels, torch.rand(count, generator=generator).cuda()


def decay(masks: Tensor, labels: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    return matrix_nms_decay(masks, labels, scores, "gaussian", 2.0, False, 0.5)


def test_the_host_never_waits() -> None:
    arguments = inputs(100, 0)
    decay(*arguments)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        decay(*arguments)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_graph_replays_it_on_other_masks() -> None:
    static = inputs(100, 0)
    decay(*static)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        order, decayed = decay(*static)
    for seed in (1, 2):
        for buffer, value in zip(static, inputs(100, seed)):
            buffer.copy_(value)
        graph.replay()
        expected_order, expected = matrix_nms_plain(*static, "gaussian", 2.0, False, 0.5)
        torch.testing.assert_close(decayed, expected, rtol=0, atol=1e-6)
        assert torch.equal(order, expected_order)


def test_it_is_deterministic() -> None:
    arguments = inputs(500, 0)
    first = decay(*arguments)
    for _ in range(5):
        for result, expected in zip(decay(*arguments), first):
            assert torch.equal(result, expected)
