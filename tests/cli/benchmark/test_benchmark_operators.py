"""The benchmark of operators: that both ways do the same, and what the table says."""

import argparse
import json
from pathlib import Path

import pytest
import torch

from solo_family.__main__ import main
from solo_family.cli.benchmark import plain
from solo_family.cli.benchmark.benchmark_operators import measure_case, operator_table
from solo_family.cli.benchmark.operator_cases import CASES, Case
from solo_family.cli.benchmark.timing import median_seconds, peak_bytes
from solo_family.heap import keep_freed_memory
from solo_family.modeling import order

CPU = torch.device("cpu")


def test_the_two_ways_of_matrix_nms_give_the_same() -> None:
    case = CASES["matrix-nms"](40, (20, 33), torch.float16, 3, CPU)
    (order, decayed), (expected_order, expected) = case.ours(), case.plain()
    assert torch.equal(order, expected_order)
    torch.testing.assert_close(decayed, expected)
    assert case.inputs == 40 * 20 * 33 * 2 + 40 * 8 + 40 * 4


def test_the_two_ways_of_decoding_give_the_same() -> None:
    case = CASES["decode"](12, (20, 33), torch.float32, 1, CPU)
    packed, (soft, area, maskness) = case.ours(), case.plain()
    assert soft.shape == (12, 20, 33)
    assert torch.equal(packed.areas, area)
    torch.testing.assert_close(packed.maskness, maskness)


def test_the_two_ways_of_resizing_give_the_same() -> None:
    case = CASES["resize"](12, (20, 33), torch.float32, 1, CPU)
    for result, expected in zip(case.ours(), case.plain()):
        assert torch.equal(result, expected)
    assert case.outputs == 12 * 60 * 99


def test_the_two_ways_of_assembling_give_the_same() -> None:
    case = CASES["assemble"](0, (13, 17), torch.float32, 1, CPU)
    result, expected = case.ours(), case.plain()
    assert expected.shape == (13, 17, 21, 21)
    torch.testing.assert_close(result, expected)


def test_the_two_ways_of_boxing_windows_give_the_same() -> None:
    case = CASES["windows"](0, (40, 17), torch.float32, 1, CPU)
    found, expected = case.ours(), case.plain()
    filled = expected[:, 2] > 0
    assert torch.equal(found.filled, filled)
    places = torch.arange(40 * 17)
    corner = torch.stack([places % 17, places // 17] * 2, dim=1) - 10
    assert torch.equal(found.boxes[filled], (expected + corner)[filled])


def test_the_two_ways_of_pasting_give_the_same() -> None:
    """Masks that the image cuts off, and some that are all in it."""
    case = CASES["paste"](12, (60, 99), torch.float32, 1, CPU)
    (masks, boxes), (expected, around) = case.ours(), case.plain()
    assert (masks != expected).sum() <= 2
    assert masks.flatten(1).any(1).all()
    torch.testing.assert_close(boxes, around, rtol=0, atol=1)


@pytest.mark.parametrize("at_once", [False, True], ids=["in chunks", "at once"])
def test_the_two_ways_of_post_processing_give_the_same(
    at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As models do it on a CPU, and on a GPU."""
    monkeypatch.setattr(order, "waits", lambda _: at_once)
    case = CASES["post-process"](60, (16, 24), torch.float32, 3, CPU)
    result, (masks, boxes, labels, scores) = case.ours(), case.plain()
    assert 10 < len(masks) <= 60
    assert torch.equal(result.pred_masks, masks)
    assert torch.equal(result.pred_boxes.tensor, boxes)
    assert torch.equal(result.pred_classes, labels)
    torch.testing.assert_close(result.scores, scores)


def test_post_processing_asks_as_models_do_which_way_to_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    monkeypatch.setattr(order, "waits", lambda tensor: bool(asked.append(tensor)))
    case = CASES["post-process"](5, (16, 24), torch.float32, 3, CPU)
    case.ours()
    assert [tensor.device for tensor in asked] == [CPU]


def test_the_plain_post_processing_returns_instances() -> None:
    generator = torch.Generator().manual_seed(0)
    kernels, features = torch.randn(30, 8, generator=generator), torch.ones(8, 16, 16)
    masks, boxes, labels, scores = plain.plain_post_process(
        kernels,
        features,
        torch.zeros(30, dtype=torch.int64),
        torch.rand(30, generator=generator),
        torch.full((30,), 8),
        ((64, 64), (60, 64), (30, 32)),
    )
    assert 0 < len(masks) == len(boxes) == len(labels) == len(scores)
    assert masks.shape[1:] == (30, 32)
    # Constant features make masks full or empty, and the empty are too small.
    assert boxes.tolist() == [[0, 0, 32, 30]] * len(masks)


def test_functions_take_turns() -> None:
    calls: list[str] = []
    functions = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = median_seconds(functions, CPU, repeats=2, warm_up=1)
    assert calls == ["a", "b", "a", "b", "a", "b"]
    assert set(seconds) == {"a", "b"}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux forgets peaks there")
def test_the_peak_is_that_of_the_function_alone() -> None:
    keep_freed_memory()  # as the verb does
    size = 200 * 2**20
    torch.ones(2 * size, dtype=torch.uint8)
    peak = peak_bytes(lambda: torch.ones(size, dtype=torch.uint8), CPU)
    assert peak is not None
    assert 0.9 * size < peak < 1.9 * size


def test_a_row_is_made_of_its_times(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"ours": 0.002, "plain": 0.01, "copy": 0.001}
    monkeypatch.setattr(
        "solo_family.cli.benchmark.benchmark_operators.median_seconds", lambda *_, **__: times
    )
    case = Case(lambda: None, lambda: None, inputs=3_000_000, outputs=1_000_000)
    args = argparse.Namespace(no_compile=True, repeats=1, warm_up=0)
    row = measure_case(case, CPU, args)
    assert row["milliseconds"] == pytest.approx(2)
    assert row["plain_ratio"] == pytest.approx(5)
    assert row["copies"] == pytest.approx(2)
    assert row["megabytes"] == 4
    # 4 MB in 2 ms, where the copy reads 3 MB and writes 3 MB in 1 ms.
    assert row["bandwidth_share"] == pytest.approx(1 / 3)
    assert row["compiled_ratio"] is row["graph_milliseconds"] is None
    full = {"count": 5, "size": "1x2", "dtype": "bool", "classes": 1} | row
    header, _, line = operator_table([full]).splitlines()
    assert "compiled" not in header
    assert line.split()[:7] == ["5", "1x2", "bool", "1", "2.00", "5.00", "4.00"]


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--counts 3 5 --sizes 8x9 16x20 --classes 2 --repeats 1 --warm-up 0 --no-compile"
    file = ["--json", str(tmp_path / "x.json")]
    assert main(["benchmark", "--op", "matrix-nms", *flags.split(), *file]) == 0
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert [(row["count"], row["size"]) for row in rows] == [
        (3, "8x9"),
        (3, "16x20"),
        (5, "8x9"),
        (5, "16x20"),
    ]
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    assert f"matrix-nms, {where}" in capsys.readouterr().out


def test_what_the_host_waits_in_is_no_graph() -> None:
    waiting = {
        name
        for name, make in CASES.items()
        if not make(3, (16, 24), torch.float32, 3, CPU).capturable
    }
    assert waiting == {"post-process"}


@pytest.mark.parametrize("op", sorted(CASES))
def test_every_operator_has_a_row(op: str, tmp_path: Path) -> None:
    flags = "--counts 5 --sizes 16x24 --classes 2 --repeats 1 --warm-up 0 --no-compile"
    file = ["--json", str(tmp_path / "x.json")]
    assert main(["benchmark", "--op", op, *flags.split(), *file]) == 0
    (row,) = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert row["milliseconds"] > 0
    has_graph = torch.cuda.is_available() and op != "post-process"
    assert (row["graph_milliseconds"] is not None) is has_graph


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--op", "decode", "--dtypes", "bool"], "--dtypes bool"),
        ([], "--config-file FILE to time a model, or --op"),
    ],
)
def test_mistakes_are_one_line(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", *flags]) == 2
    assert message in capsys.readouterr().err
