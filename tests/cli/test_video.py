"""Frames of videos as phones, editors and broken transfers leave them."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from solo_family.cli.frame_writer import FrameWriter, fitted
from solo_family.cli.source import Source, camera
from solo_family.cli.video import Video
from solo_family.errors import DataError


def write_video(path: Path, frames: int, size: tuple[int, int] = (32, 24)) -> Path:
    codec = cv2.VideoWriter.fourcc(*("mp4v" if path.suffix == ".mp4" else "MJPG"))
    writer = cv2.VideoWriter(str(path), codec, 12.0, size)
    for index in range(frames):
        writer.write(np.full((size[1], size[0], 3), 40 * index % 256, np.uint8))
    writer.release()
    return path


def read(path: Path) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    frames = []
    while (one := video.read())[0]:
        frames.append(one[1])
    return frames


def test_a_video_yields_every_frame_in_order(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", frames=5)
    with Video(Source(path, is_video=True)) as video:
        frames = list(video)
    assert (video.size, video.fps, video.expected_frames) == ((32, 24), 12.0, 5)
    assert [round(float(image.mean()) / 40) for image, _ in frames] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([seconds for _, seconds in frames], np.arange(5) / 12, atol=1e-3)
    assert video.missing == 0


def test_what_is_not_a_video_names_the_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clip.mp4").write_text("not a video")
    with pytest.raises(DataError, match=r"clip\.mp4"):
        Video(Source(tmp_path / "clip.mp4", is_video=True))
    with pytest.raises(DataError, match="webcam_77: no frame"):
        Video(camera(77))
    stream = Source(None, True, address="rtsp://me:secret@127.0.0.1:9/live", is_live=True)
    with pytest.raises(DataError, match=r"^rtsp://127\.0\.0\.1:9/live: no frame"):
        Video(stream)
    assert capfd.readouterr().err == ""


def test_a_phones_video_is_upright(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.0, (64, 32))
    image = np.zeros((32, 64, 3), np.uint8)
    image[:16] = 255  # what is above as the camera stores it
    for _ in range(3):
        writer.write(image)
    writer.release()
    content = bytearray(path.read_bytes())
    # The matrix in the track's header: turn by 90 degrees clockwise.
    place = content.index(b"tkhd") + 4 + 40
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 32 << 16, 0, 1 << 30)
    content[place : place + 36] = turned
    path.write_bytes(content)
    with Video(Source(path, is_video=True)) as video:
        frames = list(video)
    assert video.size == (32, 64)
    assert frames[-1].image.shape == (64, 32, 3)
    assert frames[-1].image[:, 18:].mean() > 200 > 50 > frames[-1].image[:, :14].mean()


def test_a_cut_video_gives_what_there_is_and_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.avi", frames=40)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with Video(Source(path, is_video=True)) as video:
        count = len(list(video))
    assert 4 < count < 36
    assert video.missing == 40 - count


def test_frames_of_another_size_are_fitted_and_none_is_lost(tmp_path: Path) -> None:
    with FrameWriter(tmp_path / "x.mp4", 10.0) as writer:
        for size in ((48, 64), (48, 64), (96, 64), (24, 32)):
            writer.write(np.full((*size, 3), 200, np.uint8), None)
    frames = read(tmp_path / "x.mp4")
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 4
    # The tall one has the middle half, the small one all of it.
    assert frames[2][:, 20:44].mean() > 180
    assert frames[2][:, :12].mean() < 20
    assert frames[3].mean() > 180


def test_a_picture_is_fitted_without_changing_its_proportions() -> None:
    image = np.full((10, 40, 3), 255, np.uint8)
    out = fitted(image, (20, 20))
    rows = np.flatnonzero(out[:, 10, 0] > 127)
    assert (out.shape, rows.min(), rows.max()) == ((20, 20, 3), 7, 11)
    assert fitted(image, (40, 10)) is image


def test_every_frame_is_shown_at_its_time_though_the_rate_changes(tmp_path: Path) -> None:
    # A second with 10 frames, one with 2, one with 20.
    times = [*np.arange(0, 1, 0.1), 1.0, 1.5, *np.arange(2, 3, 0.05)]
    with FrameWriter(tmp_path / "x.avi", 10.0) as writer:
        for index, seconds in enumerate(times):
            writer.write(np.full((32, 32, 3), 7 * index, np.uint8), float(seconds))
    frames = read(tmp_path / "x.avi")
    assert abs(len(frames) - 30) <= 2
    for place, frame in enumerate(frames):
        shown = times[round(float(frame.mean()) / 7)]
        assert shown - 0.25 <= place / 10 <= shown + 0.65
    with FrameWriter(tmp_path / "y.avi", 10.0) as writer:
        for index in range(20):  # rounded, as containers do: no frame is lost or repeated
            writer.write(np.full((32, 32, 3), 10 * index, np.uint8), index * 0.1 + 0.04)
    assert [round(float(frame.mean()) / 10) for frame in read(tmp_path / "y.avi")] == [*range(20)]
