"""Pictures whose process ends are predicted again, none twice, and end no run."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from solo_family.cli.inputs import Source
from solo_family.cli.many import engine as engine_module
from solo_family.cli.many.engine import predict_all
from solo_family.cli.many.rows import as_table
from solo_family.errors import SoloFamilyError

TODO = {number: Source(Path(f"{number}.png"), is_video=False) for number in range(1, 41)}


def engine(lost: Callable[[list[int]], bool], seen: list[list[int]]) -> Any:
    def run(chunks: Sequence[Sequence[tuple[int, Source]]]) -> Iterator[Any]:
        for chunk in chunks:
            ids = [image_id for image_id, _ in chunk]
            seen.append(ids)
            if not lost(ids):
                yield as_table([{"image_id": i, "file_name": "", "height": 1} for i in ids])

    return run


def rows(lost: Callable[[list[int]], bool], seen: list[list[int]]) -> list[dict[str, Any]]:
    tables = predict_all(engine(lost, seen), TODO, 6)
    return [row for table in tables for row in table.to_pylist()]


def test_those_of_a_chunk_that_was_lost_are_done_one_by_one() -> None:
    seen: list[list[int]] = []
    found = rows(lambda ids: len(ids) > 1 and 8 in ids, seen)
    assert sorted(row["image_id"] for row in found) == [*range(1, 41)]
    assert all(row["error"] is None for row in found)
    assert seen[:2] == [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]
    assert seen[7:] == [[7], [8], [9], [10], [11], [12]]


def test_a_picture_that_always_ends_its_process_has_an_error() -> None:
    found = rows(lambda ids: 8 in ids or 31 in ids, [])
    assert sorted(row["image_id"] for row in found) == [*range(1, 41)]
    errors = {row["file_name"]: row["error"] for row in found if row["error"]}
    assert list(errors) == ["8.png", "31.png"]
    assert errors["8.png"].startswith("8.png: its process ended each time")


def test_a_machine_that_ends_everything_gives_no_errors_to_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_module, "MOST_FATAL", 30)
    tables = predict_all(engine(lambda ids: ids[0] > 6, []), TODO, 6)
    assert next(tables)["image_id"].to_pylist() == [1, 2, 3, 4, 5, 6]
    with pytest.raises(SoloFamilyError, match=r"predicted 34 pictures.* goes on"):
        next(tables)
