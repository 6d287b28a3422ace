"""Which calls a model's graphs take over: all but the recording itself, which needs a GPU."""

import copy
import math
import pickle
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from solo_family import METHODS
from solo_family.methods.sparse_inst.selection import SetRanking
from solo_family.modeling import cuda_graphs, graph_conditions, recording
from solo_family.modeling.base import MaskSegmentor
from solo_family.modeling.cuda_graphs import CudaGraphs
from solo_family.modeling.recording import Recording, map_tensors
from solo_family.ops import gpu_kernels

from ..conftest import eager_to_find, picture, tiny_model


class FakeRecording:
    """Computes anew, and writes into the memory of the first time, as a graph does."""

    def __init__(self, recorder: "FakeRecorder", function: Callable, batch: Tensor) -> None:
        self.recorder, self.function = recorder, function
        self.outputs = map_tensors(torch.clone, function(batch))

    def replay(self, batch: Tensor) -> Any:
        self.recorder.queued += 1
        values: list[Tensor] = []
        map_tensors(lambda tensor: values.append(tensor) or tensor, self.function(batch))
        places: list[Tensor] = []
        map_tensors(lambda tensor: places.append(tensor) or tensor, self.outputs)
        for place, value in zip(places, values, strict=True):
            place.copy_(value)
        return self.outputs


class FakeRecorder:
    """Records on a CPU."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.recorded: list[tuple[int, ...]] = []
        self.made: list[FakeRecording] = []
        # How often a graph ran, and how often its outputs were taken.
        self.queued = self.replays = self.forgotten = 0
        # The most values of a batch for which there is memory, and what is then left for others.
        self.room = self.spare = 10**9

    def suits(self, batch: Tensor) -> bool:
        return True

    def forget(self) -> None:
        self.forgotten += 1

    def record(self, function: Callable[[Tensor], Any], batch: Tensor) -> FakeRecording:
        if self.error is not None:
            raise self.error
        if batch.numel() > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        self.recorded.append(tuple(batch.shape))
        self.made.append(FakeRecording(self, function, batch))
        return self.made[-1]

    def leaves_enough(self) -> bool:
        return math.prod(self.recorded[-1]) <= self.spare

    def in_turn(self, batch: Tensor) -> Any:
        return nullcontext()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.ReLU())
        self.eval()


@pytest.fixture
def recorder() -> FakeRecorder:
    return FakeRecorder()


@pytest.fixture
def graphs(recorder: FakeRecorder) -> CudaGraphs:
    return CudaGraphs(True, recorder)


@torch.no_grad()
def call(graphs: CudaGraphs, net: nn.Module, width: int = 4, settings: Any = ()) -> Tensor:
    batch = torch.full((1, 3, 4, width), float(width))

    def finish(fixed: Tensor) -> Tensor:
        if isinstance(graphs._recorder, FakeRecorder):
            graphs._recorder.replays += any(one.outputs is fixed for one in graphs._recorder.made)
        return fixed[0, 0]

    return graphs.run(net, net.inner, finish, batch, settings)


def test_a_size_is_recorded_when_it_comes_again(graphs: CudaGraphs, recorder: FakeRecorder) -> None:
    net = Net()
    results = [call(graphs, net, width) for width in (4, 8, 4, 8, 8, 4)]
    assert recorder.recorded == [(1, 3, 4, 4), (1, 3, 4, 8)]
    assert recorder.replays == 4
    assert len(graphs) == 2
    for result, width in zip(results, (4, 8, 4, 8, 8, 4)):
        expected = net.inner(torch.full((1, 3, 4, width), float(width)))[0, 0]
        assert torch.equal(result, expected)


def test_the_least_recently_used_makes_room(
    graphs: CudaGraphs, recorder: FakeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cuda_graphs.MAX_GRAPHS == 40
    monkeypatch.setattr(cuda_graphs, "MAX_GRAPHS", 3)
    monkeypatch.setattr(cuda_graphs, "_REPLACE_AFTER", 1)
    net = Net()
    for width in (1, 1, 2, 2, 3, 3, 1, 4, 4):
        call(graphs, net, width)
    assert len(graphs) == 3
    replays = recorder.replays
    for width in (1, 3, 4):
        call(graphs, net, width)
    assert recorder.replays == replays + 3
    call(graphs, net, 2)
    assert recorder.replays == replays + 3
    assert len(recorder.recorded) == 4


def test_more_sizes_than_graphs_are_seldom_recorded(
    graphs: CudaGraphs, recorder: FakeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graphs, "MAX_GRAPHS", 2)
    net = Net()
    for _ in range(20):
        for width in (1, 2, 3, 4, 5):
            call(graphs, net, width)
    assert 100 // 16 <= len(recorder.recorded) <= 2 + 1 + 100 // 16
    # A size that stays gets its graph nevertheless.
    for _ in range(18):
        call(graphs, net, 7)
    assert recorder.recorded[-1][-1] == 7


def test_the_largest_go_without_where_memory_is_short(
    graphs: CudaGraphs, recorder: FakeRecorder
) -> None:
    net = Net()
    recorder.room = 3 * 4 * 6
    for width in (4, 4):
        call(graphs, net, width)
    call(graphs, net, 8)
    with pytest.warns(RuntimeWarning, match="Memory of the GPU has run out.*CUDA_GRAPH False"):
        result = call(graphs, net, 8)
    assert torch.equal(result, net.inner(torch.full((1, 3, 4, 8), 8.0))[0, 0])
    assert len(graphs) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for width in (8, 8, 4, 4, 4, 7, 7):
            call(graphs, net, width)
    assert [shape[-1] for shape in recorder.recorded] == [4, 4]
    assert len(graphs) == 1


def test_graphs_leave_memory_for_others(graphs: CudaGraphs, recorder: FakeRecorder) -> None:
    net = Net()
    recorder.spare = 3 * 4 * 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for width in (4, 4, 8, 8, 8, 8, 4, 4, 4):
            call(graphs, net, width)
    # 8 was recorded once, and let go with all others.
    assert [shape[-1] for shape in recorder.recorded] == [4, 8, 4]
    assert len(graphs) == 1


def test_graphs_give_way_to_what_needs_their_memory(
    graphs: CudaGraphs, recorder: FakeRecorder
) -> None:
    """Here to a batch that came once, and to results after a replay."""
    net, full = Net(), [True]

    @torch.no_grad()
    def predict(width: int) -> Tensor:
        def finish(fixed: Tensor) -> Tensor:
            if len(graphs) and full:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return fixed[0, 0]

        return graphs.run(net, net.inner, finish, torch.full((1, 3, 4, width), float(width)))

    full.clear()
    for width in (4, 4):
        predict(width)
    full.append(True)
    for width, warns in ((8, True), (2, False), (2, False)):
        context = pytest.warns(RuntimeWarning, match="run out") if warns else nullcontext()
        with context:
            result = predict(width)
        assert torch.equal(result, net.inner(torch.full((1, 3, 4, width), float(width)))[0, 0])
        assert len(graphs) == 0
    with torch.no_grad(), pytest.raises(torch.cuda.OutOfMemoryError):
        graphs.run(net, net.inner, lambda _: no_memory(), torch.zeros(1, 3, 4, 4))


def no_memory() -> Any:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(("held", "enough"), [(40, True), (70, False)])
def test_memory_that_torch_keeps_is_left_for_others(
    held: int, enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 200 bytes 100 are weights; torch has reserved 20 besides these and the graphs' own."""
    ours = recording.Recorder()
    ours._held = held
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 100)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 120 + held)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (200 - 120 - held, 200))
    assert ours.leaves_enough() is enough


@pytest.mark.parametrize("backend", ["native", "cudaMallocAsync", "pluggable"])
def test_only_memory_of_pytorch_s_own_allocator_stays_a_graph_s(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch: Any = SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: backend)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert recording.Recorder().suits(batch) is (backend == "native")


@pytest.mark.parametrize(
    "name", ["_cuda_endAllocateCurrentStreamToPool", "_cuda_endAllocateToPool"]
)
def test_after_a_failed_capture_memory_is_no_graph_s_whatever_torch_calls_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until 2.7 it had another name. What other threads do is not forbidden meanwhile."""
    ended: list[tuple[Any, ...]] = []
    modes: list[str] = []

    def graph(_: Any, stream: Any, capture_error_mode: str = "global") -> Any:
        modes.append(capture_error_mode)
        return nullcontext()

    for known in ("_cuda_endAllocateCurrentStreamToPool", "_cuda_endAllocateToPool"):
        monkeypatch.delattr(torch._C, known, raising=False)
    monkeypatch.setattr(torch._C, name, lambda *words: ended.append(words), raising=False)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    recorder = recording.Recorder()
    recorder._pool = (0, 7)
    recorder._recover(torch.device("cuda", 1))
    assert ended == [(1, (0, 7))]
    assert modes == ["thread_local"]


def test_sizes_that_came_once_are_forgotten_in_the_end(
    graphs: CudaGraphs, recorder: FakeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graphs, "_MAX_SEEN", 2)
    for width in (1, 2, 3, 1):
        call(graphs, Net(), width)
    assert not recorder.recorded


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setenv(gpu_kernels.VARIABLE, "torch"),
        lambda patch: patch.setattr(torch.backends.cudnn, "deterministic", True),
        lambda patch: patch.setattr(torch.backends.cudnn, "benchmark", True),
        lambda patch: patch.setattr(graph_conditions, "tf32_allowed", lambda: "other"),
    ],
    ids=["kernels", "deterministic", "benchmark", "tf32"],
)
def test_other_settings_are_another_graph(
    change: Callable, graphs: CudaGraphs, recorder: FakeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Net()
    monkeypatch.delenv(gpu_kernels.VARIABLE, raising=False)
    for _ in range(3):
        call(graphs, net)
    change(monkeypatch)
    call(graphs, net)
    assert recorder.replays == 2
    call(graphs, net)
    assert len(recorder.recorded) == 2
    call(graphs, net, settings="a threshold")
    assert recorder.replays == 3


def test_autocast_is_another_graph(graphs: CudaGraphs, recorder: FakeRecorder) -> None:
    net = Net()
    for _ in range(2):
        call(graphs, net)
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            call(graphs, net)
    with torch.autocast("cpu", dtype=torch.float16):
        call(graphs, net)
    assert len(recorder.recorded) == 2


def hook(net: nn.Module) -> Any:
    return net.inner[1].register_forward_hook(lambda *_: None)


def pre_hook(net: nn.Module) -> Any:
    return net.inner.register_forward_pre_hook(lambda *_: None)


def hook_of_the_model(net: nn.Module) -> Any:
    return net.register_forward_hook(lambda *_: None)


class Undo:
    def __init__(self, function: Callable[[], Any]) -> None:
        self.remove = function


def global_hook(net: nn.Module) -> Any:
    return nn.modules.module.register_module_forward_hook(lambda *_: None)


def part_in_training(net: nn.Module) -> Any:
    net.inner[1].train()
    return Undo(net.eval)


def compiled(net: nn.Module) -> Any:
    net.inner[0].compile(backend="eager")
    return Undo(lambda: setattr(net.inner[0], "_compiled_call_impl", None))


def wrapped(net: nn.Module) -> Any:
    before = net.inner[0]
    net.inner[0] = torch.compile(before, backend="eager")
    return Undo(lambda: net.inner.__setitem__(0, before))


def replica(net: nn.Module) -> Any:
    """As `nn.DataParallel` makes them."""
    before = net.inner[0]
    net.inner[0] = before._replicate_for_data_parallel()
    for name, value in before.named_parameters():
        setattr(net.inner[0], name, value.detach())
    return Undo(lambda: net.inner.__setitem__(0, before))


def another_forward(net: nn.Module) -> Any:
    net.inner[0].forward = net.inner[0].forward
    return Undo(lambda: delattr(net.inner[0], "forward"))


@pytest.mark.parametrize(
    "forbid",
    [
        *(hook, pre_hook, hook_of_the_model, global_hook),
        *(part_in_training, compiled, wrapped, replica, another_forward),
    ],
)
def test_hooks_and_compiled_parts_run(
    forbid: Callable, graphs: CudaGraphs, recorder: FakeRecorder
) -> None:
    net = Net()
    undo = forbid(net)
    try:
        for _ in range(3):
            call(graphs, net)
        assert not recorder.recorded
    finally:
        undo.remove()
    for _ in range(3):
        call(graphs, net)
    assert recorder.replays == 2


class Counter(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


def test_what_sees_every_operator_sees_them_all(graphs: CudaGraphs, recorder: FakeRecorder) -> None:
    net = Net()
    for _ in range(2):
        call(graphs, net)
    with Counter() as counter:
        call(graphs, net)
    assert (counter.count, recorder.queued) == (1, 1)
    with torch.overrides.BaseTorchFunctionMode():
        call(graphs, net)
    assert recorder.queued == 1
    # The default device is also such a mode, but graphs know their own device.
    with torch.device("cpu"):
        call(graphs, net)
    assert recorder.queued == 2


def test_a_hook_that_comes_later_runs(graphs: CudaGraphs, recorder: FakeRecorder) -> None:
    net, seen = Net(), []
    for _ in range(3):
        call(graphs, net)
    handle = net.inner[0].register_forward_hook(lambda *_: seen.append(1))
    call(graphs, net)
    handle.remove()
    assert seen
    assert recorder.replays == 2
    call(graphs, net)
    assert (recorder.replays, len(recorder.recorded)) == (3, 1)


def test_nothing_is_recorded_with_a_hook(graphs: CudaGraphs, recorder: FakeRecorder) -> None:
    """Which may well do what can't be recorded."""
    net = Net()
    for width in (4, 4, 4, 8):
        call(graphs, net, width)
    handle = net.inner.register_forward_hook(lambda *_: None)
    call(graphs, net, 8)
    handle.remove()
    assert recorder.recorded == [(1, 3, 4, 4)]
    for width in (8, 8, 4):
        call(graphs, net, width)
    assert len(recorder.recorded) == 2
    assert recorder.replays == 5


def test_weights_that_move_before_the_recording(graphs: CudaGraphs, recorder: FakeRecorder) -> None:
    net = Net()
    for width in (4, 4, 4, 8):
        call(graphs, net, width)
    swap(net)
    for _ in range(2):
        call(graphs, net, 8)
    assert recorder.recorded == [(1, 3, 4, 4), (1, 3, 4, 8)]
    assert len(graphs) == 1


def test_hooks_that_stay_cost_one_replay(graphs: CudaGraphs, recorder: FakeRecorder) -> None:
    net = Net()
    for _ in range(3):
        call(graphs, net)
    net.inner.register_forward_hook(lambda *_: None)
    for _ in range(3):
        call(graphs, net)
    assert (recorder.queued, recorder.replays) == (3, 2)


def test_gradients_and_what_is_switched_off_run_as_ever(recorder: FakeRecorder) -> None:
    net, graphs = Net(), CudaGraphs(True, recorder)
    batch = torch.zeros(1, 3, 4, 4)
    for _ in range(3):
        assert graphs.run(net, net.inner, lambda fixed: fixed, batch).requires_grad
        call(CudaGraphs(False, recorder), net)
    assert not recorder.recorded


def test_a_cpu_has_no_graphs() -> None:
    graphs, net = CudaGraphs(True), Net()
    for _ in range(3):
        call(graphs, net)
    assert len(graphs) == 0


def swap(net: nn.Module) -> None:
    net.inner[0].weight.data = net.inner[0].weight.data + 1


def replace_a_buffer(net: nn.Module) -> None:
    net.inner[1].running_mean = torch.ones(2)


def assign(net: nn.Module) -> None:
    net.load_state_dict({name: t.clone() for name, t in net.state_dict().items()}, assign=True)


def other_layer(net: nn.Module) -> None:
    net.inner[2] = nn.GELU().eval()


MOVES = [swap, replace_a_buffer, assign, other_layer, lambda net: net.double().float()]


@pytest.mark.parametrize("move", MOVES)
def test_weights_that_are_elsewhere(
    move: Callable, graphs: CudaGraphs, recorder: FakeRecorder
) -> None:
    net = Net()
    for _ in range(3):
        call(graphs, net)
    move(net)
    result = call(graphs, net)
    assert torch.equal(result, net.inner(torch.full((1, 3, 4, 4), 4.0))[0, 0])
    assert recorder.replays == 2
    assert len(graphs) == 0


def test_weights_that_change_in_place_stay(graphs: CudaGraphs, recorder: FakeRecorder) -> None:
    """As an exponential moving average's do."""
    net = Net()
    for _ in range(3):
        call(graphs, net)
    with torch.no_grad():
        net.inner[0].weight.add_(1)
    result = call(graphs, net)
    assert torch.equal(result, net.inner(torch.full((1, 3, 4, 4), 4.0))[0, 0])
    assert recorder.replays == 3


def test_what_cannot_be_recorded_is_said_once() -> None:
    recorder = FakeRecorder(RuntimeError("operation not permitted\nwhen stream is capturing"))
    graphs, net = CudaGraphs(True, recorder), Net()
    call(graphs, net)
    with pytest.warns(
        RuntimeWarning, match="not permitted when stream.*MODEL.INFERENCE.CUDA_GRAPH"
    ):
        result = call(graphs, net)
    assert torch.equal(result, net.inner(torch.full((1, 3, 4, 4), 4.0))[0, 0])
    recorder.error = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for width in (4, 4, 8, 8):
            call(graphs, net, width)
    assert not recorder.recorded


def test_while_one_thread_has_the_graphs_another_does_without(
    graphs: CudaGraphs, recorder: FakeRecorder
) -> None:
    net = Net()
    for _ in range(3):
        call(graphs, net)
    inside, go_on = threading.Event(), threading.Event()
    results: list[Tensor] = []

    def finish(fixed: Tensor) -> Tensor:
        inside.set()
        assert go_on.wait(10)
        return fixed[0, 0]

    @torch.no_grad()
    def first_thread() -> None:
        results.append(graphs.run(net, net.inner, finish, torch.zeros(1, 3, 4, 4)))

    thread = threading.Thread(target=first_thread)
    thread.start()
    assert inside.wait(10)
    replays = recorder.replays
    other = call(graphs, net)
    go_on.set()
    thread.join()
    assert recorder.replays == replays
    assert torch.equal(other, net.inner(torch.full((1, 3, 4, 4), 4.0))[0, 0])
    assert torch.equal(results[0], net.inner(torch.zeros(1, 3, 4, 4))[0, 0])
    call(graphs, net)
    assert recorder.replays == replays + 1


def test_an_error_afterwards_leaves_the_graphs_free(
    graphs: CudaGraphs, recorder: FakeRecorder
) -> None:
    net = Net()
    for _ in range(2):
        call(graphs, net)
    with torch.no_grad(), pytest.raises(ZeroDivisionError):
        graphs.run(net, net.inner, lambda _: 1 / 0, torch.zeros(1, 3, 4, 4))
    before = recorder.replays
    call(graphs, net)
    assert recorder.replays == before + 1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_begins_without_graphs(copied: Callable, recorder: FakeRecorder) -> None:
    model = tiny_model("SOLOv2").eval()
    model.graphs = CudaGraphs(True, recorder)
    for _ in range(3):
        model([picture()])
    assert len(model.graphs) == 1
    other = copied(model)
    assert len(other.graphs) == 0
    assert other.graphs.enabled
    assert other.graphs is not model.graphs
    assert not any("graph" in key for key in model.state_dict())


@pytest.mark.parametrize(
    "move",
    [
        lambda model: model.to(torch.float64),
        lambda model: model.train().eval(),
        lambda model: model.load_state_dict(model.state_dict()),
    ],
)
def test_models_forget_them(move: Callable, recorder: FakeRecorder) -> None:
    model = tiny_model("SOLOv2").eval()
    model.graphs = CudaGraphs(True, recorder)
    for _ in range(2):
        model([picture()])
    assert len(model.graphs) == 1
    move(model)
    assert len(model.graphs) == 0
    # The memory that all had together goes with the last of them.
    assert recorder.forgotten >= 2


ONE_SCALE = "InstanceFCN of one scale"
OPTS: dict[str, list] = {
    ONE_SCALE: ["MODEL.INSTANCE_FCN.TEST_SCALES", ()],
    "SparseInst": ["MODEL.SPARSE_INST.DECODER.OUTPUT_IAM", True],
}
# Each begins with the name of its method.
CASES = (*METHODS, ONE_SCALE)


def eager_case(case: str) -> MaskSegmentor:
    return eager_to_find(tiny_model(case.split()[0], opts=OPTS.get(case)))


def values_of(results: list[dict]) -> list[Tensor]:
    """All tensors of results, instances and segments."""
    values = []
    for result in results:
        if "instances" in result:
            fields = result["instances"].get_fields()
            values += [getattr(field, "tensor", field) for field in fields.values()]
        values += [result[key] for key in ("sem_seg",) if key in result]
        values += [result["panoptic_seg"][0]] if "panoptic_seg" in result else []
    return values


@pytest.mark.parametrize("case", CASES)
def test_results_are_those_without_graphs_and_stay(case: str, recorder: FakeRecorder) -> None:
    model = eager_case(case)
    pictures = [picture(seed=1), picture(seed=2), picture(70, 60, seed=3), picture(seed=4)] * 2
    expected = [values_of(model([one])) for one in pictures]
    model.graphs = CudaGraphs(True, recorder)
    found = [values_of(model([one])) for one in pictures]
    # Only now: each result has outlived the replays after it.
    for one, other in zip(found, expected, strict=True):
        assert len(one) == len(other) > 0
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    assert len(recorder.recorded) == 2
    assert recorder.queued == 6


@pytest.mark.parametrize("case", CASES)
def test_no_result_lies_in_a_graphs_memory(case: str, recorder: FakeRecorder) -> None:
    model = eager_case(case)
    model.graphs = CudaGraphs(True, recorder)
    for _ in range(3):
        results = model([picture()])
    (only,) = recorder.made
    places: set[int] = set()
    map_tensors(lambda t: places.add(t.untyped_storage().data_ptr()) or t, only.outputs)
    values = values_of(results)
    assert any(len(value) for value in values)
    assert not [v for v in values if v.untyped_storage().data_ptr() in places - {0}]


@pytest.mark.parametrize("method", METHODS)
def test_other_thresholds_are_another_graph(method: str) -> None:
    model = tiny_model(method)
    assert isinstance(hash(model.fixed_settings), int)


def test_several_scales_are_one_graph_for_a_size_of_image_and_output(
    recorder: FakeRecorder,
) -> None:
    """The padded size isn't enough: all scales are resized from the image without padding."""
    model = eager_case("InstanceFCN")
    images = [picture(64, 96), picture(64, 95), picture(64, 96) | {"height": 32, "width": 48}]
    expected = [values_of(model([image])) for image in images]
    model.graphs = CudaGraphs(True, recorder)
    for _ in range(3):
        for image, values in zip(images, expected):
            found = values_of(model([image]))
            assert all(torch.equal(*pair) for pair in zip(found, values, strict=True))
    assert recorder.recorded == [(1, 3, 64, 96), (1, 3, 64, 95), (1, 3, 64, 96)]


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model, "test_scales", (48,)),
        lambda model: setattr(model, "max_size", 80),
        lambda model: setattr(model, "selector", replace(model.selector, score="product")),
    ],
    ids=["scales", "limit", "score"],
)
def test_other_scales_and_selection_are_another_graph(
    change: Callable, recorder: FakeRecorder
) -> None:
    model = eager_case("InstanceFCN")
    model.graphs = CudaGraphs(True, recorder)
    for _ in range(3):
        before = values_of(model([picture()]))
    change(model)
    model.graphs.enabled = False
    expected = values_of(model([picture()]))
    model.graphs.enabled = True
    found = values_of(model([picture()]))
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert not torch.equal(found[0], before[0])


def test_a_threshold_that_changes(recorder: FakeRecorder) -> None:
    model = eager_to_find(tiny_model("SparseInst"))
    model.graphs = CudaGraphs(True, recorder)
    for _ in range(3):
        assert len(model([picture()])[0]["instances"])
    model.selector = replace(model.selector, class_threshold=1.0)
    assert not len(model([picture()])[0]["instances"])


def test_a_replay_copies_its_input_first() -> None:
    given, order = torch.zeros(2), []

    class Graph:
        def replay(self) -> None:
            order.append(given.tolist())

    graph: Any = Graph()
    assert Recording(graph, given, "outputs").replay(torch.ones(2)) == "outputs"
    assert order == [[1.0, 1.0]]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(24.0).view(2, 3, 4),
        torch.arange(48, dtype=torch.bfloat16)
        .view(1, 4, 3, 4)
        .to(memory_format=torch.channels_last),
        torch.arange(24).view(4, 6)[1:3, ::2],
        torch.arange(3, dtype=torch.uint8)[:, None].expand(3, 5),
        torch.tensor(7),
        torch.tensor([True, False, True]),
    ],
    ids=["contiguous", "channels last", "part", "expanded", "number", "bool"],
)
def test_the_memory_of_a_tensor_is_all_that_it_reaches(tensor: Tensor) -> None:
    """numpy reads the same description of memory on a CPU."""
    interface = recording._Memory(tensor).__cuda_array_interface__

    class OnTheHost:
        __array_interface__ = interface

    its_bytes = torch.from_numpy(np.asarray(OnTheHost()))
    assert its_bytes.data_ptr() == tensor.data_ptr()
    same = its_bytes.view(tensor.dtype).as_strided(tensor.shape, tensor.stride())
    assert torch.equal(same, tensor)


def test_tensors_are_found_in_what_a_model_returns() -> None:
    ranking = SetRanking(*(torch.tensor(float(value)) for value in range(6)))
    given = {"one": [ranking, None], "two": (torch.tensor(9.0), "name")}
    doubled = map_tensors(lambda tensor: 2 * tensor, given)
    assert doubled["two"] == (torch.tensor(18.0), "name")
    assert doubled["one"][0].count == 10
    assert doubled["one"][1] is None
    assert ranking.count == 5


@pytest.mark.parametrize("enabled", [False, True])
def test_autocast_is_recorded_as_it_is(enabled: bool) -> None:
    """But that casts are recorded too, where a cache would give out those of before."""
    with torch.autocast("cpu", dtype=torch.float16, enabled=enabled):
        with recording._uncached(torch.device("cpu")):
            assert torch.is_autocast_enabled("cpu") == enabled
            assert not torch.is_autocast_cache_enabled()
            assert not enabled or torch.get_autocast_dtype("cpu") == torch.float16
        assert torch.is_autocast_cache_enabled()
