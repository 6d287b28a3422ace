"""Finding pictures, videos, lists, addresses and cameras, with real files of each kind."""

import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from solo_family.cli.addresses import Network
from solo_family.cli.inputs import Finding, find_sources, split_pages
from solo_family.data.loading.images import Reading
from solo_family.errors import DataError

from .test_video import write_video


def _paths(patterns: list[str | Path]) -> list[Path | None]:
    sources, _ = find_sources([str(pattern) for pattern in patterns])
    return [source.path for source in sources]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, one in capitals, a text file, and a picture in a subfolder."""
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "A.JPG", "sub/c.png"):
        Image.new("RGB", (4, 3)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("nothing to see")
    return tmp_path


def test_a_folder_gives_its_own_pictures_sorted(folder: Path) -> None:
    assert _paths([folder]) == [folder / "A.JPG", folder / "b.png"]


def test_globs_are_expanded_and_each_file_comes_once(folder: Path) -> None:
    assert _paths([folder / "b.png", folder / "*.png"]) == [folder / "b.png"]
    assert _paths([folder / "**" / "*.png"]) == [folder / "b.png", folder / "sub" / "c.png"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob(folder: Path) -> None:
    bracketed = folder / "b[1].png"
    (folder / "b.png").rename(bracketed)
    assert _paths([bracketed]) == [bracketed]


def test_patterns_without_a_match_are_told(folder: Path) -> None:
    _, unmatched = find_sources([str(folder), "nowhere/*.jpg"])
    assert unmatched == ["nowhere/*.jpg"]
    with pytest.raises(DataError, match=r"nowhere/\*\.jpg"):
        find_sources(["nowhere/*.jpg"])


def test_without_a_known_suffix_the_content_tells_a_video(folder: Path) -> None:
    picture, text = folder / "picture", folder / "notes.txt"
    (folder / "b.png").rename(picture)
    video = write_video(folder / "clip.avi", frames=3).rename(folder / "clip")
    sources, _ = find_sources([str(picture), str(text), str(video)])
    assert [source.is_video for source in sources] == [False, False, True]


DEMO = Finding(takes_videos=True)


def test_folders_give_videos_and_with_recursive_inner_folders_after_their_own(folder: Path) -> None:
    (folder / "sub" / "deep").mkdir()
    write_video(folder / "sub" / "deep" / "v.avi", frames=1)
    write_video(folder / "0.mp4", frames=1)
    (folder / "out").mkdir()
    for hidden in (".cache/x.png", "._A.JPG", "out/A.JPG"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 3)).save(folder / "x.png")
        (folder / "x.png").rename(folder / hidden)
    (folder / "sub" / "above").symlink_to(folder)
    sources, _ = find_sources([str(folder)], DEMO)
    assert [source.name for source in sources] == ["0.mp4", "A.JPG", "b.png"]
    assert [source.is_video for source in sources] == [True, False, False]
    deep = Finding(recursive=True, takes_videos=True, leave_out=folder / "out")
    sources, _ = find_sources([str(folder)], deep)
    own = [(source.below.as_posix(), source.name) for source in sources]
    inner = [("sub", "c.png"), ("sub/deep", "v.avi")]
    assert own == [(".", "0.mp4"), (".", "A.JPG"), (".", "b.png"), *inner]


def test_a_folder_of_folders_names_the_flag_that_helps(folder: Path) -> None:
    (folder / "top").mkdir()
    (folder / "sub").rename(folder / "top" / "sub")
    with pytest.raises(DataError, match="--recursive looks into"):
        find_sources([str(folder / "top")])
    assert len(find_sources([str(folder / "top")], Finding(recursive=True))[0]) == 1


def test_a_file_named_in_two_ways_comes_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    ways = ["b.png", f"{folder}/b.png", "sub/../b.png", "*.png", str(folder)]
    assert _paths([*ways]) == [Path("b.png"), folder / "A.JPG"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_has_files_folders_globs_and_comments(
    folder: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    Image.new("RGB", (4, 3)).save(folder / "größe 1.png")
    lines = ["# a comment", "", f"{folder}/größe 1.png", "sub", "b.*", "nowhere.png"]
    (folder / "list.txt").write_text("\r\n".join(lines), encoding=encoding, newline="")
    sources, unmatched = find_sources([f"@{folder}/list.txt"])
    # Those that are not here are looked for beside the list.
    assert [source.path for source in sources] == [
        folder / "größe 1.png",
        folder / "sub" / "c.png",
    ]
    assert unmatched == ["b.*", "nowhere.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"\x89PNG\r\n\x1a\n\0\0", "this is no text"), (b"\n", "empty list")],
)
def test_a_list_that_cannot_be_read_is_told(
    folder: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (folder / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        find_sources([f"@{folder}/list.txt"])


def _standard_input(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_standard_input_is_a_file_or_a_list(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _standard_input(monkeypatch, f"{folder}/b.png\n{folder}/A.JPG\n".encode())
    assert _paths(["-"]) == [folder / "b.png", folder / "A.JPG"]
    for path, is_video in [
        (folder / "b.png", False),
        (write_video(folder / "v.avi", frames=2), True),
    ]:
        _standard_input(monkeypatch, path.read_bytes())
        (source,), _ = find_sources(["-"], DEMO)
        assert (source.name, source.is_video) == ("stdin", is_video)
        with source.file() as file:
            assert file.read_bytes() == path.read_bytes()
        assert not file.exists()
    _standard_input(monkeypatch, b"")
    with pytest.raises(DataError, match="standard input is empty"):
        find_sources(["-"])
    _standard_input(monkeypatch, (folder / "b.png").read_bytes())
    with pytest.raises(DataError, match=r"more than 1e-05 MB; --max-download"):
        find_sources(["-"], Finding(network=Network(max_bytes=10)))


def test_addresses_need_a_flag_and_keep_their_password_to_themselves() -> None:
    for address in ("http://me:secret@host/a.jpg", "rtsp://me:secret@host/live"):
        with pytest.raises(DataError, match=r"//host/.*--allow-network") as error:
            find_sources([address])
        assert "secret" not in str(error.value)
    allowed = Finding(network=Network(is_allowed=True))
    names = ["http://me:secret@h/x/a%20b.jpg?size=2", "https://h/c.mp4", "rtsp://me:secret@h/live"]
    sources, _ = find_sources(names, allowed)
    kinds = [(source.name, source.is_video, source.is_live) for source in sources]
    assert kinds == [("a b.jpg", False, False), ("c.mp4", True, False), ("live", True, True)]
    assert "secret" not in "".join(source.file_name for source in sources)
    (stream,), _ = find_sources(["http://h/c.mp4"], Finding(True, True, network=allowed.network))
    assert stream.is_live


def test_a_number_is_a_camera_unless_it_is_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "b.png").rename("7")
    cameras, _ = find_sources(["0", "2", "7"], DEMO)
    assert [source.name for source in cameras] == ["webcam", "webcam_2", "7"]
    with pytest.raises(DataError, match="no file matches 3"):
        find_sources(["3"])


def test_a_tiff_gives_its_pages_but_not_their_copies_and_channels(folder: Path) -> None:
    pages = [Image.new("L", (8, 6), value) for value in (10, 20, 30)]
    path = folder / "pages.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    sources, _ = find_sources([str(path), str(folder / "b.png")])
    split = split_pages(sources, Reading())
    assert [source.page for source in split] == [1, 2, 3, None]
    assert split[2].name == "pages_p003.tif"
    assert split_pages(sources, Reading(image_format="3ch"))[0].page is None
    copy = Image.new("L", (4, 3))
    copy.encoderinfo = {"tiffinfo": {254: 1}}
    pages[0].save(path, save_all=True, append_images=[copy])
    assert [source.page for source in split_pages(sources, Reading())] == [None, None]
