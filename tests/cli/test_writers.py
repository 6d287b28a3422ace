"""Output names, and files that appear complete or not at all."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from solo_family.cli.inputs import WEBCAM, Source
from solo_family.cli.writers import plan_outputs, video_writer, write_json
from solo_family.errors import DataError
from solo_family.files import replacing
from solo_family.predictor.drawing import write_picture


def _pictures(*names: str) -> list[Source]:
    return [Source(Path(name), is_video=False) for name in names]


def _names(sources: list[Source], output: Path) -> list[str]:
    return [path.relative_to(output).as_posix() for path in plan_outputs(sources, output)]


def test_a_folder_keeps_names_and_suffixes_that_can_be_written(tmp_path: Path) -> None:
    sources = [*_pictures("a/x.JPG", "y.gif", "z"), Source(Path("clip.avi"), is_video=True), WEBCAM]
    expected = ["x.JPG", "y.png", "z.png", "clip.mp4", "webcam.mp4"]
    assert _names(sources, tmp_path / "new" / "folder") == expected
    assert (tmp_path / "new" / "folder").is_dir()


def test_equal_names_do_not_overwrite_one_another(tmp_path: Path) -> None:
    sources = _pictures("a/x.png", "b/x.png", "c/x.gif", "x_2.png")
    assert _names(sources, tmp_path) == ["x.png", "x_2.png", "x_3.png", "x_2_2.png"]


def test_an_input_in_the_output_folder_is_not_overwritten(tmp_path: Path) -> None:
    assert _names(_pictures(f"{tmp_path}/x.png"), tmp_path) == ["x_2.png"]


def test_one_input_may_name_its_output_file(tmp_path: Path) -> None:
    assert plan_outputs(_pictures("x.png"), tmp_path / "new" / "result.jpg") == [
        tmp_path / "new" / "result.jpg"
    ]
    (tmp_path / "folder.jpg").mkdir()
    assert _names(_pictures("x.png"), tmp_path / "folder.jpg") == ["x.png"]


@pytest.mark.parametrize(
    ("sources", "output", "message"),
    [
        (_pictures("x.png", "y.png"), "result.jpg", "2 inputs"),
        (_pictures("x.png"), "result.mp4", "ends in one of"),
        ([WEBCAM], "result.jpg", "ends in one of"),
        (_pictures("x.png"), "x.png", "overwrite the input"),
        (_pictures("x.png"), __file__, "can't make this output folder"),
    ],
)
def test_outputs_that_cannot_work_are_told(
    sources: list[Source], output: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        plan_outputs(sources, Path(output))


def test_an_error_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("former")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half") / 0
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
    assert path.read_text() == "former"


def test_a_pipe_gets_what_is_written_and_stays_a_pipe(tmp_path: Path) -> None:
    """As /dev/stdout and a shell's >(...): root would put a file in the place of a device."""
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as readers:
        text = readers.submit(pipe.read_text)
        write_json(pipe, [1, 2])
        assert json.loads(text.result()) == [1, 2]
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_redirected_stream_keeps_what_was_printed(tmp_path: Path) -> None:
    code = """
from solo_family.files import replacing
print("before")
with replacing("/dev/stdout") as path:
    path.write_text("content\\n")
print("after")
"""
    with open(tmp_path / "printed.txt", "w") as printed:
        subprocess.run([sys.executable, "-c", code], stdout=printed, check=True)
    assert (tmp_path / "printed.txt").read_text().split() == ["before", "content", "after"]


@pytest.mark.parametrize("suffix", [".jpg", ".PNG", ".bmp", ".tif", ".webp"])
def test_pictures_are_written_in_every_format(tmp_path: Path, suffix: str) -> None:
    write_picture(tmp_path / f"x{suffix}", np.zeros((3, 4, 3), np.uint8))
    assert [p.name for p in tmp_path.iterdir()] == [f"x{suffix}"]


def test_a_folder_that_is_gone_names_the_file(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(DataError, match=r"x\.png"):
        write_picture(gone / "x.png", np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(DataError, match=r"x\.mp4"), video_writer(gone / "x.mp4", 10.0, (4, 4)):
        pass
