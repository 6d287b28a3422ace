"""Pictures in storage that pyarrow opens: which an address names, and what is read of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from solo_family.cli.inputs import Finding, find_sources
from solo_family.cli.many import storage
from solo_family.cli.many.storage import find_stored
from solo_family.errors import DataError

FILES = ["b.png", "a.jpg", "notes.txt", ".c.png", "z/d.png", "z/y/e.tif", "x/f.png", "x y#1.png"]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what `s3://bucket/` has; its paths begin with the bucket, as S3's do."""
    from pyarrow import fs

    folder = tmp_path / "bucket"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    inner = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())

    def opened(address: str) -> tuple[Any, str]:
        return inner, address.removeprefix("s3://").partition("?")[0].rstrip("/")

    monkeypatch.setattr(storage, "open_file_system", opened)
    return folder


def names(address: str, recursive: bool = False) -> list[str]:
    return [str(source) for source in find_stored(f"s3://{address}", recursive)]


@pytest.mark.parametrize(
    ("address", "recursive", "expected"),
    [
        ("bucket", False, ["a.jpg", "b.png", "x y#1.png"]),
        ("bucket/", True, ["a.jpg", "b.png", "x y#1.png", "x/f.png", "z/d.png", "z/y/e.tif"]),
        ("bucket/*.png", False, ["b.png", "x y#1.png"]),
        ("bucket/.*.png", False, [".c.png"]),
        ("bucket/*/*.png", False, ["x/f.png", "z/d.png"]),
        ("bucket/z/**/*.[pt][ni][gf]", False, ["z/d.png", "z/y/e.tif"]),
        ("bucket/z/y", False, ["z/y/e.tif"]),
        ("bucket/notes.txt", False, ["notes.txt"]),
        ("bucket/none", False, []),
        ("bucket/none/*.png", False, []),
    ],
)
def test_what_an_address_names(
    bucket: Path, address: str, recursive: bool, expected: list[str]
) -> None:
    assert names(address, recursive) == [f"s3://bucket/{name}" for name in expected]


def test_a_stored_picture_is_read_through_a_copy_that_has_its_name(bucket: Path) -> None:
    (source,) = find_stored("s3://bucket/x/f.png?region=eu", False)
    assert source.file_name == "s3://bucket/x/f.png"  # without options, which may be secrets
    with source.file() as path:
        assert (path.name, path.read_bytes()) == ("f.png", b"x/f.png")
    assert not path.exists()
    (bucket / "x/f.png").unlink()
    with pytest.raises(DataError, match=r"s3://bucket/x/f.png: can't be read"), source.file():
        pass


def test_addresses_stand_among_other_inputs(bucket: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "here.png")
    (tmp_path / "list.txt").write_text("s3://bucket/z/d.png\nhere.png\ns3://bucket/none\n")
    given = [f"@{tmp_path}/list.txt", "s3://bucket/x"]
    sources, unmatched = find_sources(given, Finding(storage=find_stored))
    assert [source.name for source in sources] == ["d.png", "here.png", "f.png"]
    assert unmatched == ["s3://bucket/none"]
    with pytest.raises(DataError, match="--allow-network"):  # demo opens no storage
        find_sources(["s3://bucket/x"], Finding())


def test_a_file_address_and_one_that_no_storage_has(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a b.png")
    (tmp_path / "a b.png").rename(tmp_path / "a%20b #?.png")
    (source,) = find_stored(f"file://{tmp_path}", False)
    assert str(source) == f"file://{tmp_path}/a%20b #?.png"
    assert find_stored(str(source), False) == [replace(source, address=str(source))]
    with pytest.raises(DataError, match=r"rtsp://camera/1: there is no such storage"):
        find_stored("rtsp://me:secret@camera/1", False)
