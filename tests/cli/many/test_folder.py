"""Files of an output folder appear complete or not at all, on a disk and in storage."""

import os
from pathlib import Path
from typing import Any

import pytest

from solo_family.cli.many import folder as folder_module
from solo_family.cli.many.folder import Folder
from solo_family.errors import DataError


class Failing:
    """A file system whose streams take three bytes."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def open_output_stream(self, path: str) -> Any:
        stream = self._inner.open_output_stream(path)

        class Stream:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                stream.close()  # and so publishes what it has, as an object store does

            def write(self, content: bytes) -> None:
                stream.write(content[:3])
                raise OSError(28, "No space left on device")

        return Stream()


@pytest.mark.parametrize("place", ["path", "address", "storage"])
def test_a_file_appears_complete_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    from pyarrow import fs

    root = tmp_path / "b" / "out"
    if place == "storage":
        inner = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
        monkeypatch.setattr(folder_module, "open_file_system", lambda _: (inner, "b/out"))
    words = {"path": str(root), "address": f"file://{root}", "storage": "s3://me:word@b/out"}
    with Folder(words[place]) as folder:
        assert (folder.local is None) == (place == "storage")
        assert "word" not in str(folder)
        folder.write("a.txt", b"before")
        with folder.open("a.txt") as file:
            assert file.read() == b"before"
        monkeypatch.setattr(folder, "_fs", Failing(folder._fs))
        with pytest.raises(DataError, match=r"a\.txt can't be written .*No space"):
            folder.write("a.txt", b"after")
        with pytest.raises(DataError, match=r"b\.txt can't be written"):
            folder.write("b.txt", b"after")
        taken = tmp_path / "c.txt"
        taken.write_text("moved")
        if place != "storage":
            folder.take(taken)
    files = {path.name: path.read_text() for path in root.iterdir() if path.name[0] != "."}
    assert files == {"a.txt": "before"} | ({} if place == "storage" else {"c.txt": "moved"})


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it could have its name and be empty after a power failure."""
    synced: list[tuple[bytes, bool]] = []

    def fsync(descriptor: int) -> None:
        synced.append((os.pread(descriptor, 99, 0), (tmp_path / "a.txt").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with Folder(str(tmp_path)) as folder:
        folder.write("a.txt", b"content")
    assert synced == [(b"content", False)]


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".00000.parquet.tmp").write_text("half")
    (tmp_path / ".datasets-1").mkdir()
    (tmp_path / ".datasets-1" / "coco.json").write_text("half")
    (tmp_path / "mine.tmp").write_text("other")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / ".00000.parquet.tmp").write_text("half")
    with Folder(str(tmp_path)) as folder:
        assert folder.names() == [".predict_many.lock", "mine.tmp"]
        assert folder.inner("shards").names() == []
    assert not (tmp_path / ".datasets-1").exists()


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with (
        Folder(str(tmp_path)),
        pytest.raises(DataError, match="another predict-many is writing"),
        Folder(str(tmp_path)),
    ):
        pass
    with Folder(str(tmp_path)):  # which a run that has ended does not hold
        pass


def test_a_drive_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "can_lock", lambda _: False)
    with Folder(str(tmp_path)) as folder:
        folder.write("a", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="can't write to this output folder"):
        Folder(str(tmp_path / "out"))
