"""Rows that come in any order, and more than once, are in whole shards in the order of input."""

import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from solo_family.cli.many.folder import Folder
from solo_family.cli.many.rows import as_table
from solo_family.cli.many.shards import Shards
from solo_family.errors import DataError


def table(*ids: int, error: str | None = None, height: int = 5) -> Any:
    rows = [{"image_id": i, "file_name": f"{i}.png", "height": height} for i in ids]
    return as_table([row | {"error": error} for row in rows])


def content(folder: Path) -> dict[str, list[int]]:
    files = sorted(folder.glob("*.parquet"))
    return {file.name: pq.read_table(file)["image_id"].to_pylist() for file in files}


def test_rows_in_any_order_and_twice(tmp_path: Path) -> None:
    with Folder(str(tmp_path)) as folder:
        shards = Shards(folder, 23, 10, {b"key": b"value"})
        ids = [*range(1, 24), 4, 4, 17]
        random.Random(3).shuffle(ids)
        added = 0
        for start in range(0, len(ids), 4):
            some = ids[start : start + 4]
            given = table(*dict.fromkeys(some))
            added += shards.add(given)
            seen = set(ids[: start + 4])
            whole = [s for s in range(3) if seen >= set(range(s * 10 + 1, min(s * 10 + 11, 24)))]
            # A shard is there as soon as it has all its rows, and not before.
            assert sorted(shards.finished) == whole == [int(n[:5]) for n in content(tmp_path)]
        assert added == 23
        assert shards.missing() == []
    assert content(tmp_path) == {
        "00000.parquet": [*range(1, 11)],
        "00001.parquet": [*range(11, 21)],
        "00002.parquet": [21, 22, 23],
    }
    metadata = pq.read_schema(tmp_path / "00000.parquet").metadata
    assert metadata[b"key"] == b"value"


def test_a_second_start_misses_what_no_shard_has(tmp_path: Path) -> None:
    with Folder(str(tmp_path)) as folder:
        shards = Shards(folder, 7, 3, {})
        shards.add(table(1, 4, 5, 6))
        assert shards.missing() == [2, 3, 7]
        again = Shards(folder, 7, 3, {})
        assert (again.finished, again.missing()) == ({1}, [1, 2, 3, 7])
        assert again.add(table(4)) == 0


def test_errors_are_listed_and_taken_back(tmp_path: Path) -> None:
    with Folder(str(tmp_path)) as folder:
        shards = Shards(folder, 4, 2, {})
        shards.add(table(1, 3, 4))
        shards.add(table(2, error="broken"))
        assert list(shards.errors()) == [("2.png", "broken")]
        shards.take_back_errors()
        assert shards.missing() == [2]
        assert shards.add(table(1, 2, height=9)) == 1  # the first has a result
        assert list(shards.errors()) == []
    assert pq.read_table(tmp_path / "00000.parquet")["height"].to_pylist() == [5, 9]


def test_a_shard_that_was_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "00000.parquet").write_bytes(b"PAR1 not")
    with Folder(str(tmp_path)) as folder:
        shards = Shards(folder, 4, 2, {})
        with pytest.raises(DataError, match=r"00000\.parquet can't be read .* Remove it"):
            list(shards.errors())
