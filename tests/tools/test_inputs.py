"""Finding and reading pictures and videos, with real files of each kind."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from solo_family.errors import DataError
from solo_family.tools.inputs import Source, Video, find_sources, read_picture


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
    video = _write_video(folder / "clip.avi", frames=3).rename(folder / "clip")
    sources, _ = find_sources([str(picture), str(text), str(video)])
    assert [source.is_video for source in sources] == [False, False, True]


def test_every_kind_of_picture_is_read_in_colour(tmp_path: Path) -> None:
    for mode, suffix in [
        ("L", "png"),
        ("RGBA", "png"),
        ("P", "gif"),
        ("1", "png"),
        ("CMYK", "jpg"),
    ]:
        path = tmp_path / f"{mode}.{suffix}"
        Image.new(mode, (7, 5)).save(path)
        image = read_picture(path)
        assert (image.shape, image.dtype) == ((5, 7, 3), np.uint8)
        assert image.flags["C_CONTIGUOUS"]
        assert image.flags["WRITEABLE"]


def test_channels_are_blue_green_red(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png").tolist() == [[[30, 20, 10]]]


def test_an_exif_rotated_picture_is_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "x.jpg", exif=exif)
    assert read_picture(tmp_path / "x.jpg").shape == (8, 6, 3)


def test_16_bits_are_clipped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(np.array([[7, 300]], np.uint16)).save(tmp_path / "x.png")
    assert read_picture(tmp_path / "x.png")[..., 0].tolist() == [[7, 255]]
    assert "x.png: values above 255 are clipped" in caplog.text


def test_unreadable_pictures_name_the_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:1500])
    (tmp_path / "text.png").write_text("not a picture")
    for name in ("cut.jpg", "text.png", "missing.png"):
        with pytest.raises(DataError, match=name):
            read_picture(tmp_path / name)


def _write_video(path: Path, frames: int) -> Path:
    codec = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), codec, 12.0, (32, 24))
    for index in range(frames):
        writer.write(np.full((24, 32, 3), 40 * index, np.uint8))
    writer.release()
    return path


def test_a_video_yields_every_frame_in_order(tmp_path: Path) -> None:
    path = _write_video(tmp_path / "clip.avi", frames=5)
    with Video(Source(path, is_video=True)) as video:
        frames = list(video)
    assert (video.size, video.fps, video.expected_frames) == ((32, 24), 12.0, 5)
    assert [round(float(frame.mean()) / 40) for frame in frames] == [0, 1, 2, 3, 4]


def test_what_is_not_a_video_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("not a video")
    with pytest.raises(DataError, match=r"clip\.mp4"):
        Video(Source(tmp_path / "clip.mp4", is_video=True))
