"""examples/cpp, built and run where a compiler, CMake and OpenVINO are."""

import subprocess
from pathlib import Path
from shutil import which

import cv2
import numpy as np
import pytest

from solo_family.export.runtime import ExportedModel

from ..conftest import ROOT
from .conftest import Exported
from .exporting import export, picture_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (which("cmake") and which("c++")), reason="no CMake or no compiler"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("openvino")
    from openvino.utils import get_cmake_path

    build = tmp_path_factory.mktemp("build")
    place = f"-DOpenVINO_DIR={get_cmake_path()}"
    source = str(ROOT / "examples" / "cpp")
    for command in (
        ["cmake", "-S", source, "-B", str(build), place],
        ["cmake", "--build", str(build)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning:" not in done.stderr
    return build / "segment"


def run(program: Path, folder: Path, picture: Path) -> subprocess.CompletedProcess:
    words = [str(program), str(folder), str(picture)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


def assert_prints_what_python_finds(
    program: Path, folder: Path, picture: np.ndarray, name: str = "picture.ppm"
) -> None:
    file = folder.parent / name
    cv2.imwrite(str(file), picture)
    done = run(program, folder, file)
    assert done.returncode == 0, done.stderr
    model = ExportedModel(folder, engine="openvino")
    found = model(picture).instances
    assert found is not None
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(lines) == len(found) > 0
    for line, score, category, box, mask in zip(
        lines, found.scores, found.classes, found.boxes, found.masks
    ):
        assert line[0] == model.classes[category]
        assert abs(float(line[1]) - score) < 1e-4
        # Rounding may move a few pixels across the masks' threshold.
        assert np.abs(np.array(line[2:6], float) - box).max() <= 1
        assert abs(int(line[6]) - mask.sum()) <= 1 + 1e-3 * mask.sum()


@pytest.mark.parametrize("method", ["SOLO", "DecoupledSOLO", "SOLOv2", "SparseInst"])
def test_it_prints_what_python_finds(method: str, program: Path, exported_method: Exported) -> None:
    """Of pictures that are enlarged, and that shrink in both ways."""
    folder, _ = exported_method(method)
    for size in [(50, 40), (90, 300), (301, 211)]:
        assert_prints_what_python_finds(program, folder, picture_of(size))


@pytest.mark.parametrize("name", ["picture.png", "picture.bmp"])
def test_with_opencv_it_reads_other_files(
    name: str, program: Path, exported_method: Exported
) -> None:
    cache = (program.parent / "CMakeCache.txt").read_text()
    if "OpenCV_DIR:PATH=OpenCV_DIR-NOTFOUND" in cache:
        pytest.skip("built without OpenCV (Debian: apt-get install libopencv-dev)")
    folder, _ = exported_method("SOLOv2")
    assert_prints_what_python_finds(program, folder, picture_of((90, 120)), name)


def test_it_resizes_as_opencv_does(program: Path, tmp_path: Path) -> None:
    """As SOLO's published models were trained."""
    folder = tmp_path / "exported"
    export("SparseInst", folder, ["INPUT.RESIZE", "cv2"])
    for size in [(50, 40), (90, 300), (128, 192), (301, 211)]:
        assert_prints_what_python_finds(program, folder, picture_of(size))


def test_it_fits_pictures_into_one_size_and_one_order_of_colours(
    program: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "exported"
    export("SparseInst", folder, ["INPUT.FORMAT", "BGR"], size=(64, 96), batch_size=2)
    for size in [(64, 96), (200, 40), (40, 200)]:
        assert_prints_what_python_finds(program, folder, picture_of(size))


def test_what_it_can_not_do_is_one_line(
    program: Path, exported_method: Exported, tmp_path: Path
) -> None:
    (tmp_path / "text.ppm").write_text("no picture")
    (tmp_path / "short.ppm").write_bytes(b"P6 # a comment\n20 30\n255\n123")
    folder, _ = exported_method("SparseInst")
    for arguments, message in [
        ((tmp_path, tmp_path / "text.ppm"), "model.json can't be read: name a folder that"),
        ((folder, tmp_path / "text.ppm"), "text.ppm can't be read"),
        ((folder, tmp_path / "short.ppm"), "short.ppm is truncated"),
        ((exported_method("MaskFormer")[0], tmp_path), "this example is for SOLO, Decoupled SOLO"),
    ]:
        done = run(program, *arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
