"""What the check's stages have in common: rows, references, what other programs print."""

import math
from pathlib import Path

import pytest
import torch

from .stages import compiled, pytest_rows, references, rows
from .stages.rows import Row


@pytest.fixture
def row_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(rows.FILE, str(tmp_path / "rows.jsonl"))
    monkeypatch.setenv(rows.STAGE, "stage")
    return tmp_path / "rows.jsonl"


def test_an_exception_is_a_row(row_file: Path) -> None:
    with rows.case("a case"):
        raise KeyError("what\nis missing")
    with rows.case("another"):
        rows.add("fine", value=2, unit="ms")
    expected = Row("stage", "a case", False, note="KeyError: 'what\\nis missing'")
    assert rows.read(row_file) == [expected, Row("stage", "fine", True, 2, "ms")]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_fails(row_file: Path, value: float) -> None:
    rows.add("bad", True, value, "ms", "note")
    assert rows.read(row_file) == [Row("stage", "bad", False, None, "ms", f"{value} note")]


def test_failures_of_pytest_are_rows(row_file: Path, tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2, 'no'\n"
        "@pytest.mark.skip(reason='because')\n"
        "def test_skipped(): pass\n"
        "@pytest.mark.skip(reason='needs two GPUs')\n"
        "def test_of_two(): pass\n"
    )
    # Its collections of garbage would take longer than all else.
    quick = ["-p", "no:cacheprovider", "-p", "no:unraisableexception"]
    words = ["-q", *quick, "--no-skips", "--may-skip=needs two GPUs", "--rootdir", str(tmp_path)]
    assert pytest.main([*words, str(tmp_path)], plugins=[pytest_rows]) == 1
    found = {row.name.split("::")[-1]: row for row in rows.read(row_file)}
    assert found["test_bad"].note == "AssertionError: no"
    assert found["test_skipped"].note == "skipped: Skipped: because"
    assert found["test_of_two"].note == "skipped: Skipped: needs two GPUs"
    assert [name for name, row in found.items() if row.ok] == ["test_of_two"]
    assert found["pytest"].note == "exit status 1: 1 passed, 1 failed, 2 skipped"
    assert len(found) == 4


def test_the_reference_of_matrix_nms() -> None:
    """By hand: the second repeats the first, the third shares a third of what they cover."""
    masks = torch.zeros(4, 1, 6, dtype=torch.bool)
    masks[0, 0, :2] = masks[1, 0, :2] = masks[2, 0, 1:3] = masks[3, 0, :2] = True
    labels, scores = torch.tensor([0, 0, 0, 1]), torch.tensor([0.9, 0.8, 0.7, 0.6])
    gaussian = references.matrix_nms(masks, labels, scores, "gaussian")
    # By the first: exp(-2 / 9); by the second, itself held at 1, more than that.
    expected = [0.9, 0.8 * math.exp(-2), 0.7 * math.exp(-2 / 9), 0.6]
    torch.testing.assert_close(gaussian.tolist(), expected, rtol=1e-6, atol=0)
    linear = references.matrix_nms(masks, labels, scores, "linear")
    torch.testing.assert_close(linear.tolist(), [0.9, 0.0, 0.7 * 2 / 3, 0.6], rtol=1e-6, atol=1e-9)


def test_the_reference_of_boxes() -> None:
    masks = torch.zeros(2, 4, 6, dtype=torch.bool)
    masks[0, 1:3, 2:6] = True
    assert references.boxes(masks).tolist() == [[2, 1, 6, 3], [0, 0, 0, 0]]


def test_what_a_kernel_needs_is_read_from_cuobjdump() -> None:
    printed = (
        "Resource usage:\n Common:\n  GLOBAL:0\n"
        " Function decay:\n  REG:32 STACK:8 SHARED:33928 LOCAL:0 CONSTANT[0]:688 TEXTURE:0\n"
    )
    usage = {"REG": 32, "STACK": 8, "SHARED": 33928, "LOCAL": 0, "TEXTURE": 0}
    assert compiled.resource_usage(printed) == {"decay": usage}
