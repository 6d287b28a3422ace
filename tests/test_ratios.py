"""`make bench`: how ratios are measured, compared and kept; the times are the tests' own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import pairs, ratios
from benchmarks.ratios import Pair, main, ratio


def pair_of(other: float, ours: float) -> Callable[[Path], Pair]:
    return lambda folder: Pair(lambda: other, lambda: ours)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of kept ratios: both pairs twice as fast as the other."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(pairs, "use_one_thread", lambda: None)
    path = tmp_path / "expected.json"
    content = {ratios.this_machine(): {"a": 2.0, "b": 2.0}, "another CPU": {"a": 1.0, "c": 9.0}}
    path.write_text(json.dumps(content))
    return path


def run(kept: Path, *words: str) -> int:
    return main(["--seconds", "0", "--expected", str(kept), *words])


def test_a_ratio_is_the_median_of_turns() -> None:
    others, ours = iter([9.0, 4.0, 4.0, 100.0, 4.0, 4.0]), iter([9.0, 2.0, 1.0, 2.0, 4.0, 2.0])
    # The first of each warms up; of 2, 4, 50, 1, 2 the median is 2.
    assert ratio(Pair(lambda: next(others), lambda: next(ours)), 0) == 2


def test_what_fell_is_named(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pairs, "PAIRS", {"a": pair_of(1.72, 1.0), "b": pair_of(1.68, 1.0)})
    assert run(kept) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["a", "1.72", "kept:", "2.00", "(-14", "%)"]
    assert printed[-1] == "More than 15 % slower than before: b."
    assert run(kept, "--only", "a") == 0
    assert json.loads(kept.read_text())[ratios.this_machine()] == {"a": 2.0, "b": 2.0}


def test_a_fall_is_measured_again(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other work of the machine, which is over by then."""
    seconds = iter([1.0] * 6 + [2.0] * 6)
    pair = Pair(lambda: next(seconds), lambda: 1.0)
    monkeypatch.setattr(pairs, "PAIRS", {"a": lambda folder: pair})
    assert run(kept) == 0


def test_new_ratios_are_kept(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pairs, "PAIRS", {"b": pair_of(1.0, 1.0), "c": pair_of(3.0, 1.0)})
    assert run(kept, "--update") == 0
    content = json.loads(kept.read_text())
    assert content.pop(ratios.this_machine()) == {"a": 2.0, "b": 1.0, "c": 3.0}
    assert content == {"another CPU": {"a": 1.0, "c": 9.0}}
    assert run(kept) == 0
    assert "not kept" not in capsys.readouterr().out


def test_a_cpu_of_which_none_is_kept_is_compared_with_the_lowest(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pairs, "PAIRS", {"a": pair_of(1.0, 1.0), "b": pair_of(1.0, 1.0)})
    kept.write_text(json.dumps({"one": {"a": 2.0}, "two": {"a": 1.1, "b": 2.0}}))
    assert run(kept) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:4] == ["a", "1.00", "kept:", "1.10"]
    machine = ratios.this_machine()
    assert printed[-2].startswith(f"Of this CPU ({machine}) these are not kept: a, b. They were")
    assert printed[-2].endswith("compared with the lowest of one; two.")
    assert printed[-1] == "More than 15 % slower than before: b."
    # After an update of one of them the others are compared as before.
    assert run(kept, "--only", "a", "--update") == 0
    capsys.readouterr()
    assert run(kept) == 1
    assert f"Of this CPU ({machine}) these are not kept: b. They" in capsys.readouterr().out
    kept.write_text("{}")
    assert run(kept) == 0  # there is nothing to compare with


def test_a_name_that_is_not_there_is_refused(kept: Path) -> None:
    with pytest.raises(SystemExit, match="There is no 'nms'; there are: matrix NMS"):
        run(kept, "--only", "nms")


def test_every_kept_ratio_has_its_pair() -> None:
    content = json.loads(ratios.EXPECTED.read_text(encoding="utf-8"))
    assert content
    for kept in content.values():
        assert kept.keys() <= pairs.PAIRS.keys()
        assert all(value > 0 for value in kept.values())


def test_the_papers_pseudo_code() -> None:
    """Two masks of one class that overlap by half, and the same one of another class."""
    masks = torch.zeros(3, 2, 4, dtype=torch.bool)
    masks[:, 0, :2] = True
    masks[1, 1, :2] = True
    labels, scores = torch.tensor([0, 0, 1]), torch.tensor([0.9, 0.8, 0.7])
    decayed = pairs.matrix_nms_of_the_paper(masks, labels, scores)
    expected = torch.tensor([0.9, 0.8 * torch.tensor(-2 * 0.25).exp(), 0.7])
    assert torch.allclose(decayed, expected)


@pytest.mark.parametrize(
    "name",
    [
        "matrix NMS, 500 masks, 80 classes",
        "convolution, 256 channels, 50 x 68",
        "mapper",
    ],
)
def test_pairs_run(name: str, tmp_path: Path) -> None:
    pair = pairs.PAIRS[name](tmp_path)
    assert pair.other() > 0
    assert pair.ours() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["import solo_family, torch", "evaluation of masks"])
def test_pairs_that_take_longer_run(name: str, tmp_path: Path) -> None:
    test_pairs_run(name, tmp_path)
