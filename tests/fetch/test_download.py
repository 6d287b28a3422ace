"""What can go wrong with a download: one message each, and no file that is not whole."""

import errno
import ssl
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from iopath.common.file_io import HTTPURLHandler

from solo_family.checkpoint.load import check_weights_file
from solo_family.errors import DataError
from solo_family.fetch.cache import cache_folder
from solo_family.fetch.download import download

from .server import Files

DATA = bytes(range(256)) * 40


def names(folder: Path) -> list[str]:
    """Returns the files of a folder, but for the locks of downloads."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in found if path.suffix != ".lock")


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_file_is_fetched_once_and_checked(kind: str, tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "new" / "file.pth"
    checksum = f"{kind}:{hashlib.new(kind, DATA).hexdigest()[:6]}"
    with Files({"/file.pth": DATA}) as server:
        for _ in range(2):
            assert download(f"{server.address}/file.pth", path, checksum) == path
    assert path.read_bytes() == DATA
    assert names(path.parent) == ["file.pth"]
    assert len(server.requests) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_taken_up_where_it_stopped(ranges: bool, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    with Files({"/file.pth": DATA}, break_after=4000, ranges=True) as server:
        download(f"{server.address}/file.pth", path, Files.checksum(DATA))
    assert path.read_bytes() == DATA
    assert [sent for _, sent in server.requests] == [None, "bytes=4000-", "bytes=8000-"]
    # Where a server can't, it begins anew.
    path.rename(tmp_path / "file.pth.part")
    (tmp_path / "file.pth.part").write_bytes(DATA[:100])
    with Files({"/file.pth": DATA}, ranges=ranges) as server:
        download(f"{server.address}/file.pth", path, Files.checksum(DATA))
    assert path.read_bytes() == DATA


def test_an_interrupted_download_goes_on_with_the_next_call(tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    with Files({"/file.pth": DATA}, break_after=1000) as server:
        with pytest.raises(DataError, match=r"interrupted 3 times .* Run the same command again"):
            download(f"{server.address}/file.pth", path)
        assert not path.exists()
    with Files({"/file.pth": DATA}) as server:
        download(f"{server.address}/file.pth", path, Files.checksum(DATA))
    assert server.requests == [("/file.pth", "bytes=3000-")]
    assert names(tmp_path) == ["file.pth"]


def test_of_several_at_once_one_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, count = tmp_path / "file.pth", 3
    together = threading.Barrier(count)
    # All have seen that the file does not exist before one begins.
    monkeypatch.setattr("solo_family.fetch.download.offline", lambda: together.wait() and "")
    with Files({"/file.pth": DATA}) as server, ThreadPoolExecutor(count) as pool:
        address = f"{server.address}/file.pth"
        found = [pool.submit(download, address, path) for _ in range(count)]
        assert [future.result() for future in found] == [path] * count
    assert len(server.requests) == 1
    assert path.read_bytes() == DATA


def test_a_wrong_checksum_leaves_nothing(tmp_path: Path) -> None:
    with (
        Files({"/file.pth": DATA}) as server,
        pytest.raises(
            DataError,
            match=r"not the published .* sha256 is [0-9a-f]{64}, and does not begin with 0{8}",
        ),
    ):
        download(f"{server.address}/file.pth", tmp_path / "file.pth", "sha256:00000000")
    assert names(tmp_path) == []


def test_a_file_that_is_gone_is_said_so(tmp_path: Path) -> None:
    with (
        Files({}) as server,
        pytest.raises(DataError, match=r"does not exist any more \(404 .*docs/model_zoo\.md"),
    ):
        download(f"{server.address}/file.pth", tmp_path / "file.pth")
    assert names(tmp_path) == []


def test_a_redirection_is_followed(tmp_path: Path) -> None:
    with Files({"/new.pth": DATA}, moved={"/old.pth": "/new.pth"}) as server:
        download(f"{server.address}/old.pth", tmp_path / "file.pth")
    assert (tmp_path / "file.pth").read_bytes() == DATA


def test_a_web_page_is_not_taken_for_weights(tmp_path: Path) -> None:
    with (
        Files({"/file.pth": b"<html>"}, kind="text/html; charset=utf-8") as server,
        pytest.raises(DataError, match="is a web page"),
    ):
        download(f"{server.address}/file.pth", tmp_path / "file.pth")
    assert names(tmp_path) == []


def test_no_network_is_said_so(tmp_path: Path) -> None:
    with Files({}) as server:
        address = server.address
    with pytest.raises(DataError, match=r"can't be reached .* Check the network"):
        download(f"{address}/file.pth", tmp_path / "file.pth")
    assert names(tmp_path) == []


def test_a_read_only_cache_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    # Not by permissions, which root does not have.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"Read-only file system.*SOLO_FAMILY_CACHE"):
        download("http://127.0.0.1:9/file.pth", tmp_path / "file.pth")


def test_a_cache_that_can_not_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"can't be written .*SOLO_FAMILY_CACHE"):
        download("http://127.0.0.1:9/file.pth", tmp_path / "taken" / "file.pth")


def test_the_cache_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOLO_FAMILY_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/solo_family")
    monkeypatch.setenv("SOLO_FAMILY_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")


def test_what_detectron2_takes_by_address_is_resumed_and_forbidden_as_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    monkeypatch.delenv("SOLO_FAMILY_OFFLINE", raising=False)
    with Files({"/a/b.pkl": DATA}, break_after=4000) as server:
        monkeypatch.setattr("solo_family.fetch.addresses._ITS_HOST", f"{server.address}/")
        monkeypatch.setenv("SOLO_FAMILY_OFFLINE", "1")
        with pytest.raises(DataError, match=r"a/b\.pkl is not in the cache .*OFFLINE=1 forbids"):
            check_weights_file("detectron2://a/b.pkl")
        monkeypatch.delenv("SOLO_FAMILY_OFFLINE")
        check_weights_file("detectron2://a/b.pkl?matching_heuristics=True")
    assert [sent for _, sent in server.requests] == [None, "bytes=4000-", "bytes=8000-"]
    # Where detectron2's own handler of such addresses finds it.
    found = HTTPURLHandler()._get_local_path(f"{server.address}/a/b.pkl")
    assert Path(found).read_bytes() == DATA
    monkeypatch.setenv("SOLO_FAMILY_OFFLINE", "1")
    check_weights_file("detectron2://a/b.pkl")


def test_messages_have_nothing_that_lets_others_download_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An address of a private file is signed in its query, and so is as good as a password."""
    query = "X-Amz-Signature=secret"
    with Files({f"/file.pth?{query}": DATA}) as server:
        download(f"{server.address}/file.pth?{query}", tmp_path / "file.pth")
        assert f"{server.address}/file.pth: no checksum is published" in caplog.text
        with pytest.raises(DataError, match=r"/other\.pth does not exist") as raised:
            download(f"{server.address}/other.pth?{query}", tmp_path / "other.pth")
    assert "secret" not in caplog.text + str(raised.value)


def test_a_connection_whose_encryption_breaks_is_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[download.__module__]
    write = module._write
    broken: list[Path] = []

    def write_once(response: Any, part: Path, done: int, total: int | None) -> None:
        if broken:
            write(response, part, done, total)
            return
        broken.append(part)
        part.write_bytes(DATA[:100])
        raise ssl.SSLError("decryption failed or bad record mac")

    monkeypatch.setattr(module, "_write", write_once)
    with Files({"/file.pth": DATA}) as server:
        download(f"{server.address}/file.pth", tmp_path / "file.pth", Files.checksum(DATA))
    assert (tmp_path / "file.pth").read_bytes() == DATA
    assert server.requests[-1] == ("/file.pth", "bytes=100-")
