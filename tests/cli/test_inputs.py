"""Finding and reading pictures and videos, with real files of each kind."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from solo_family.cli.inputs import Source, Video, find_sources
from solo_family.errors import DataError


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
