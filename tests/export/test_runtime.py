"""The runtime where nothing else is, and what it says to bad input."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util

from solo_family.errors import DataError
from solo_family.export.masks import mask_boxes
from solo_family.export.resize import resize_image
from solo_family.export.results import encode_rle
from solo_family.export.runtime import ExportedModel, read_image
from solo_family.export.window_results import Windows, window_results

from ..conftest import ROOT
from .exporting import export, picture_of

SITE = Path(sysconfig.get_path("purelib"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runtime") / "exported"
    export("SparseInst", folder)
    return folder


def broken(folder: Path, copy: Path, **changes) -> Path:
    """Returns a copy of an exported folder whose description says something else."""
    copy.mkdir()
    for entry in folder.iterdir():
        (copy / entry.name).write_bytes(entry.read_bytes())
    description = json.loads((copy / "model.json").read_text()) | changes
    (copy / "model.json").write_text(json.dumps(description))
    return copy


def test_it_runs_where_nothing_but_numpy_opencv_and_onnxruntime_is(
    exported: Path, tmp_path: Path
) -> None:
    """An interpreter with no site-packages but these, and what onnxruntime itself imports."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in SITE.iterdir():
        if entry.name in ("numpy", "cv2", "onnxruntime", "flatbuffers") or (
            entry.name in ("numpy.libs", "opencv_python_headless.libs")
        ):
            (packages / entry.name).symlink_to(entry)
    cv2.imwrite(str(tmp_path / "picture.png"), picture_of((64, 96)))
    script = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(packages)!r}]\n"
        "from solo_family.export.runtime import ExportedModel, read_image\n"
        f"model = ExportedModel({str(exported)!r})\n"
        f"found = model(read_image({str(tmp_path / 'picture.png')!r})).instances\n"
        "names = {name.split('.')[0] for name in sys.modules}\n"
        "assert not names & {'torch', 'detectron2', 'PIL', 'scipy', 'pycocotools'}, names\n"
        "import json; print(json.dumps(found.to_coco(1, model.description['category_ids'])))"
    )
    process = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    expected = ExportedModel(exported)(picture_of((64, 96))).instances
    assert expected is not None
    assert json.loads(process.stdout) == expected.to_coco(1, [0, 1, 2])


@pytest.mark.parametrize("size", [(80, 120), (20, 31), (200, 300), (64, 96)])
def test_it_resizes_as_the_data_loader_does(size: tuple[int, int]) -> None:
    picture = picture_of((64, 96))
    pillow = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR)
    assert np.array_equal(resize_image(picture, size), np.asarray(pillow))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_masks_are_encoded_as_pycocotools_encodes_them(share: float) -> None:
    generator = np.random.default_rng(0)
    for size in ((1, 1), (37, 200), (300, 3)):
        mask = generator.random(size) < share
        expected = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert encode_rle(mask) == {"size": list(size), "counts": expected["counts"].decode()}


def test_boxes_are_tight_and_zero_for_empty_masks() -> None:
    masks = np.zeros((2, 9, 7), bool)
    masks[0, 2:5, 1:7] = True
    assert mask_boxes(masks).tolist() == [[1, 2, 7, 5], [0, 0, 0, 0]]
    assert mask_boxes(masks[:0]).shape == (0, 4)


def test_a_folder_that_is_none_or_of_something_else(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "model.json").write_text("{")
    for folder, message in [
        (tmp_path / "missing", "is not an exported model: there is no model.json"),
        (tmp_path, "is not an exported model: there is no model.json"),
        (tmp_path / "half", "is not JSON"),
        (broken(exported, tmp_path / "future", layout=99), "has the layout 99"),
        (broken(exported, tmp_path / "torch", format="torchscript"), "in the format torchscript"),
        (
            broken(exported, tmp_path / "lost", file="lost.onnx"),
            "lost.onnx, which model.json names, is missing: export again",
        ),
    ]:
        with pytest.raises(DataError, match=message) as error:
            ExportedModel(folder)
        assert len(str(error.value).splitlines()) == 1


def test_a_model_that_this_onnx_runtime_can_not_run(exported: Path, tmp_path: Path) -> None:
    newer = broken(exported, tmp_path / "newer", opset=99, onnxruntime="99.0")
    with pytest.raises(DataError, match=r"has opset 99, which needs ONNX Runtime 99\.0, but this"):
        ExportedModel(newer)
    garbage = broken(exported, tmp_path / "garbage")
    (garbage / "model.onnx").write_bytes(b"no model")
    with pytest.raises(DataError, match=r"model.onnx can't be loaded by ONNX Runtime") as error:
        ExportedModel(garbage)
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(DataError, match="has no FastExecutionProvider; it has"):
        ExportedModel(exported, providers=["FastExecutionProvider"])


def test_pictures_that_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    for name in ("missing.jpg", "empty.jpg", "text.jpg"):
        with pytest.raises(DataError, match=f"{name} can't be read as an image: ") as error:
            read_image(tmp_path / name)
        assert len(str(error.value).splitlines()) == 1


def test_sizes_that_are_not_accepted(exported: Path) -> None:
    model = ExportedModel(exported)
    for image in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(DataError, match=r"An image must be uint8 \[H, W, 3\], BGR, but is"):
            model(image)
    for shape, message in [
        ((2, 3, 64, 64), r"takes images of \[1, 3, h, w\], but these are \[2, 3, 64, 64\]"),
        ((1, 3, 64, 65), "takes images of multiples of 32, but these are 64 x 65"),
        ((3, 64, 64), r"takes images of \[1, 3, h, w\]"),
    ]:
        with pytest.raises(DataError, match=message):
            model.forward(np.zeros(shape, np.float32))


def test_an_iou_that_equals_the_threshold_is_not_above_it() -> None:
    """As `ProposalSelector`: 8 of 10 cells are shared; and 66 of 78 pixels, which is more."""
    for shift, kept in ((8, 2), (6, 1)):
        boxes = np.array([[0, 0, 72, 8], [shift, 0, 72 + shift, 8]], np.float32)
        windows = Windows(
            scores=np.array([0.9, 0.8], np.float32),
            classes=np.zeros(2, np.int64),
            class_scores=np.ones(2, np.float32),
            boxes=boxes,
            regions=boxes,
            masks=np.ones((2, 5, 5), np.float32),
        )
        settings = {"pre_nms": 0, "max_proposals": 10, "nms_type": "box"}
        found = window_results([windows], (16, 96), {"mask": 0.5, "nms": 0.8}, settings)
        assert len(found.scores) == kept
