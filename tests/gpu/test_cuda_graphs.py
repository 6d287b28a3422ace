"""What only a GPU can show of CUDA graphs: that they give the results of running eagerly."""

import copy
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from solo_family import METHODS
from solo_family.modeling import cuda_graphs
from solo_family.modeling.base import MaskSegmentor
from solo_family.modeling.inference import inference_model, prepare_for_inference

from ..conftest import eager_to_find, picture, tiny_cfg, tiny_model
from ..modeling.test_cuda_graphs import CASES, OPTS, values_of
from ..modeling.test_inference import share_found
from ..waits import count_waits

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

SIZES = [(64, 96), (70, 60), (64, 96)]


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Float32 means float32, and sums come in one order."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = before


def make(method: str, *, found: bool = True, opts: tuple[Any, ...] = ()) -> MaskSegmentor:
    """Returns a model of a method, or of a case that begins with its name."""
    model = tiny_model(method.split()[0], opts=[*OPTS.get(method, []), *opts])
    return eager_to_find(model, found).to("cuda")


def with_graphs(model: MaskSegmentor) -> MaskSegmentor:
    model = copy.deepcopy(model)
    model.graphs.enabled = True
    return model


def pictures() -> list[dict]:
    return [picture(*size, seed=seed) for seed, size in enumerate(SIZES)]


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def assert_same_results(eager: nn.Module, graphs: nn.Module, graphs_of: int = 2) -> list[Tensor]:
    """Predicts all pictures four times, and looks at the results after the last."""
    expected = [values_of(eager([one])) for one in pictures()] * 4
    found = [values_of(graphs([one])) for one in pictures() * 4]
    assert len(graphs.graphs) == graphs_of
    assert graphs.graphs.enabled
    for one, other in zip(found, expected, strict=True):
        assert_equal(one, other)
    return found[0]


@pytest.mark.parametrize("method", CASES)
def test_results_are_those_of_running_eagerly(method: str) -> None:
    model = make(method)
    first = assert_same_results(model, with_graphs(model))
    assert any(len(values) for values in first)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", CASES)
def test_under_autocast(method: str, dtype: torch.dtype) -> None:
    model = make(method)
    with torch.autocast("cuda", dtype=dtype):
        assert_same_results(model, with_graphs(model))


@pytest.mark.parametrize("method", CASES)
def test_nothing_found(method: str) -> None:
    model = make(method, found=False)
    assert_same_results(model, with_graphs(model))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("method", CASES)
def test_weights_of_half_precision(method: str, precision: str, channels_last: bool) -> None:
    options: dict[str, Any] = {"precision": precision, "channels_last": channels_last}
    model = make(method)
    half = prepare_for_inference(model, **options)
    assert_same_results(half, prepare_for_inference(model, cuda_graph=True, **options))
    (found,), (expected,) = half([picture(seed=1)]), model([picture(seed=1)])
    for values in values_of([found]):
        assert not values.is_floating_point() or values.isfinite().all()
    assert share_found(found["instances"], expected["instances"]) >= 0.8


@pytest.mark.parametrize("method", CASES)
def test_replays_wait_for_the_number_of_results(method: str) -> None:
    """At most once: for the number of results; more where masks are made after that."""
    model = with_graphs(make(method))
    for _ in range(3):
        model([picture()])
    with count_waits("cuda") as waits:
        model([picture()])
    allowed = {"SOLO": 2, "DecoupledSOLO": 2, "MaskFormer": 2, "InstanceFCN": 3}
    assert waits.total <= allowed.get(method.split()[0], 1), waits.where


def test_regions_and_queries() -> None:
    """What makes constants in the network."""
    for method, *opts in (
        ("SOLO", "MODEL.SOLO.CATEGORY_ALIGN", "region_grid"),
        ("SparseInst", "MODEL.SPARSE_INST.DECODER.NAME", "CrossAttentionDecoder"),
    ):
        model = make(method, opts=tuple(opts))
        assert_same_results(model, with_graphs(model))


def test_panoptic_results_of_a_set() -> None:
    model = make(
        "SparseInst",
        opts=(
            *("MODEL.SPARSE_INST.PANOPTIC_ON", True, "MODEL.STUFF_IDS", [2]),
            *("MODEL.SPARSE_INST.OBJECT_MASK_THRESHOLD", 0.0),
        ),
    )
    assert_same_results(model, with_graphs(model))


@pytest.mark.parametrize("method", CASES)
def test_a_batch(method: str) -> None:
    model = make(method)
    graphs = with_graphs(model)
    batch = pictures()
    expected = values_of(model(batch))
    for _ in range(3):
        found = values_of(graphs(batch))
    assert_equal(found, expected)
    assert len(graphs.graphs) == 2


def test_no_more_than_so_many_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """All share their memory, and the one that was not used for longest makes room."""
    model = make("SparseInst")
    graphs = with_graphs(model)
    sizes = [(32 * rows, 32 * columns) for rows in range(1, 8) for columns in range(1, 7)]
    images = [picture(max(24, h), max(24, w)) for h, w in sizes[: cuda_graphs.MAX_GRAPHS + 1]]
    images = [{"image": image["image"]} for image in images]
    expected = [values_of(model([image])) for image in images]
    for _ in range(2):
        for image, values in zip(images, expected):
            for _ in range(3):
                assert_equal(values_of(graphs([image])), values)
    assert len(graphs.graphs) == cuda_graphs.MAX_GRAPHS


def test_graphs_share_their_memory() -> None:
    """Of ten like the largest one."""
    model = with_graphs(make("SOLOv2"))

    def reserved_after(*widths: int) -> int:
        for width in widths:
            for _ in range(2):
                model([picture(512, width)])
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved()

    one = reserved_after(1024)
    ten = reserved_after(*range(704, 1024, 32))
    assert len(model.graphs) == 11
    assert ten - one < one


def test_weights_that_move_and_change() -> None:
    model = make("SOLOv2")
    graphs = with_graphs(model)
    for one in (model, graphs):
        for _ in range(3):
            one([picture()])
        with torch.no_grad():
            one.backbone.bottom_up.stem.conv1.weight.mul_(0.5)
    assert len(graphs.graphs) == 1
    assert_equal(values_of(graphs([picture()])), values_of(model([picture()])))
    for one in (model, graphs):
        one.backbone.bottom_up.stem.conv1.weight.data = (
            one.backbone.bottom_up.stem.conv1.weight.data * 3
        )
    assert_equal(values_of(graphs([picture()])), values_of(model([picture()])))
    assert len(graphs.graphs) == 0
    graphs.to("cpu").to("cuda")
    assert_same_results(model, graphs)


def test_a_hook_runs() -> None:
    model = with_graphs(make("SOLOv2"))
    for _ in range(3):
        model([picture()])
    seen = []
    model.backbone.register_forward_hook(lambda *_: seen.append(1))
    model([picture()])
    assert seen == [1]


def test_what_waits_is_not_recorded_and_goes_on() -> None:
    model = make("SparseInst")
    expected = values_of(model([picture()]))

    class Waiting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * float(x.flatten()[0] * 0 + 1)

    graphs = with_graphs(model)
    graphs.encoder.fusion = nn.Sequential(graphs.encoder.fusion, Waiting()).eval()
    assert_equal(values_of(graphs([picture()])), expected)
    with pytest.warns(RuntimeWarning, match="without CUDA graphs"):
        found = values_of(graphs([picture()]))
    assert_equal(found, expected)
    assert_equal(values_of(graphs([picture()])), expected)
    # Random numbers and other graphs are as they were.
    torch.rand(3, device="cuda")
    assert_same_results(model, with_graphs(model))


def test_random_numbers_are_as_without_graphs() -> None:
    model = with_graphs(make("SOLOv2"))
    torch.manual_seed(3)
    expected = torch.rand(3, device="cuda")
    torch.manual_seed(3)
    for _ in range(3):
        model([picture()])
    assert torch.equal(torch.rand(3, device="cuda"), expected)


def test_threads_with_streams_of_their_own() -> None:
    model = make("SOLOv2")
    graphs = with_graphs(model)
    images = pictures()
    expected = [values_of(model([one])) for one in images]
    for _ in range(2):
        for one in images:
            graphs([one])
    wrong: list[BaseException] = []

    def work(first: int) -> None:
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                for turn in range(30):
                    index = (first + turn) % len(images)
                    found = values_of(graphs([images[index]]))
                    torch.cuda.current_stream().synchronize()
                    assert_equal(found, expected[index])
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]


def test_inference_mode_and_back() -> None:
    model = make("SOLOv2")
    graphs = with_graphs(model)
    expected = values_of(model([picture()]))
    with torch.inference_mode():
        for _ in range(3):
            assert_equal(values_of(graphs([picture()])), expected)
    assert_equal(values_of(graphs([picture()])), expected)
    assert len(graphs.graphs) == 1


@pytest.mark.parametrize("method", METHODS)
def test_what_predictor_and_demo_run(method: str) -> None:
    """Their model is optimised for inference, and records graphs, by default."""
    model = make(method)
    cfg = tiny_cfg(method)
    graphs = inference_model(model, cfg)
    cfg.MODEL.INFERENCE.CUDA_GRAPH = False
    assert_same_results(inference_model(model, cfg), graphs)


def test_threads_that_record_while_others_run() -> None:
    """Also with what waits for the whole device, as other code may do at any time."""
    model = make("SOLOv2")
    graphs = with_graphs(model)
    images = [picture(64, 32 * (3 + index), seed=index) for index in range(8)]
    expected = [values_of(model([one])) for one in images]
    wrong: list[BaseException] = []

    def work(first: int) -> None:
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                for turn in range(24):
                    index = (first + turn) % len(images)
                    found = values_of(graphs([images[index]]))
                    torch.cuda.current_stream().synchronize()
                    assert_equal(found, expected[index])
                    torch.cuda.synchronize()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]
    assert graphs.graphs.enabled


def test_graphs_are_dropped_where_memory_runs_out() -> None:
    """A batch that fits only without them gets its results."""
    model = with_graphs(make("SOLOv2"))
    large = picture(1024, 1024)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    expected = values_of(model([large]))
    needed = torch.cuda.max_memory_allocated() - before
    for _ in range(2):
        model([picture(1024, 992)])
    assert len(model.graphs) == 1
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    room = before + needed + model.graphs._recorder._held // 2
    torch.cuda.set_per_process_memory_fraction(room / total)
    try:
        with pytest.warns(RuntimeWarning, match="Memory of the GPU has run out"):
            found = values_of(model([large]))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    # Where memory is short cuDNN takes other algorithms, whose sums have another order.
    assert [values.shape for values in found] == [values.shape for values in expected]
    assert len(model.graphs) == 0


def test_a_graph_that_takes_more_than_it_leaves_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = with_graphs(make("SOLOv2"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (0, 1))
    torch.cuda.empty_cache()
    for _ in range(4):
        model([picture(512, 512)])
    assert len(model.graphs) == 0
    assert model.graphs.enabled
