"""The demo, from files to files, with connected bright regions as the model."""

import argparse
import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import Instances
from PIL import Image
from pycocotools import mask as mask_util

from solo_family.cli import demo
from solo_family.data.formats.coco_file import check_parts
from solo_family.data.loading.images import Reading
from solo_family.data.loading.windows import ArrayWindows
from solo_family.errors import ConfigError, DataError, SoloFamilyError
from solo_family.ops.window import Window
from solo_family.predictor.predictions import Predictions
from solo_family.predictor.sources import Source

METADATA = Metadata(thing_classes=["blob"], thing_dataset_id_to_contiguous_id={42: 0})
SQUARE = (slice(10, 34), slice(20, 52))


def _find_bright_regions(image: np.ndarray) -> Predictions:
    """One instance per region brighter than 100, scored by its mean brightness."""
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    count, labels = cv2.connectedComponents((gray > 100).astype(np.uint8))
    masks = labels[None] == np.arange(1, count)[:, None, None]
    scores = [float(gray[mask].mean()) / 255 for mask in masks]
    instances = Instances(
        gray.shape,
        pred_masks=torch.from_numpy(masks),
        scores=torch.tensor(scores),
        pred_classes=torch.zeros(len(scores), dtype=torch.int64),
    )
    return {"instances": instances}


def _find_in_all(images: list[np.ndarray]) -> list[Predictions]:
    return [_find_bright_regions(image) for image in images]


def _scene(brightness: int = 255) -> np.ndarray:
    image = np.zeros((48, 64, 3), np.uint8)
    image[SQUARE] = brightness
    return image


def _save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def _assert_undrawn(path: Path, expected: np.ndarray) -> None:
    # Matplotlib, which detectron2 draws with, may repeat a row and a column of pixels.
    picture = np.asarray(Image.open(path))
    assert picture.shape == expected.shape
    assert (picture != expected).mean() < 0.03


def _write_video(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12.0, (64, 48))
    for _ in range(frames):
        writer.write(_scene())
    writer.release()
    return path


def _run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return demo.run(parser.parse_args(["--config-file", "none.yaml", *map(str, arguments)]))


@pytest.fixture(autouse=True)
def model(
    drawn_in_red: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(
        demo,
        "_open_model",
        lambda *_: (Source(_find_in_all, METADATA, Reading()), "key"),
    )


def test_a_found_object_is_drawn_and_the_picture_keeps_its_size(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    image = _save(tmp_path / "x.png", _scene())
    assert _run("--input", image, "--output", tmp_path / "out") == 0
    drawn = np.asarray(Image.open(tmp_path / "out" / "x.png"))
    assert drawn.shape == _scene().shape
    assert (drawn[SQUARE] != _scene()[SQUARE]).any(axis=-1).mean() > 0.9
    assert "x.png: 1 instance in" in caplog.text
    assert f"1 written to {tmp_path}/out/x.png, 0 skipped" in capsys.readouterr().out


def test_a_picture_without_objects_comes_out_as_it_was(tmp_path: Path) -> None:
    _save(tmp_path / "dark.png", _scene(brightness=50))
    assert _run("--input", tmp_path / "dark.png", "--output", tmp_path / "out") == 0
    _assert_undrawn(tmp_path / "out" / "dark.png", _scene(brightness=50))


def test_every_kind_of_picture_comes_out_in_its_upright_size(tmp_path: Path) -> None:
    folder, bright = tmp_path / "in", Image.fromarray(_scene())
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    bright.convert("L").save(folder / "gray.png")
    bright.convert("RGBA").save(folder / "rgba.png")
    bright.convert("CMYK").save(folder / "cmyk.jpg")
    bright.save(folder / "rotated.jpg", exif=exif)
    Image.fromarray(_scene()[..., 0].astype(np.uint16) * 257).save(folder / "16bit.png")
    Image.new("RGB", (1, 1), "white").save(folder / "dot.png")
    assert _run("--input", folder, "--output", tmp_path / "out") == 0
    sizes = {path.name: Image.open(path).size for path in (tmp_path / "out").iterdir()}
    assert sizes == {
        **dict.fromkeys(["gray.png", "rgba.png", "cmyk.jpg", "16bit.png"], (64, 48)),
        "rotated.jpg": (48, 64),
        "dot.png": (1, 1),
    }


def test_unreadable_files_are_reported_and_the_rest_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = _save(tmp_path / "in" / "whole.jpg", _scene())
    (tmp_path / "in" / "cut.jpg").write_bytes(whole.read_bytes()[:-200])
    (tmp_path / "in" / "text.png").write_text("not a picture")
    arguments: list[str | Path] = [tmp_path / "in", "nowhere.jpg", "--output", tmp_path / "out"]
    assert _run("--input", *arguments) == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole.jpg"]
    for name in ("cut.jpg", "text.png", "nowhere.jpg"):
        assert len([r for r in caplog.records if name in r.getMessage()]) == 1
    assert f"1 written to {tmp_path}/out, 3 skipped" in capsys.readouterr().out


def test_nothing_matched_is_status_2(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert _run("--input", tmp_path / "*.jpg", "--output", tmp_path / "out") == 2
    assert "*.jpg" in caplog.text
    assert not (tmp_path / "out").exists()


def test_the_threshold_and_results(tmp_path: Path) -> None:
    names = [_save(tmp_path / name, _scene(b)) for name, b in [("a.png", 110), ("b.png", 250)]]
    results_file = tmp_path / "new" / "results.json"
    flags: list[str | Path] = [
        "--output",
        tmp_path / "out",
        "--json",
        results_file,
        "--confidence-threshold",
        "0.6",
    ]
    assert _run("--input", *names, *flags) == 0
    (result,) = json.loads(results_file.read_text())
    with pytest.raises(DataError, match=r"list of results.*demo --save coco, which writes"):
        check_parts("results.json", [result])
    assert (result["image_id"], result["file_name"]) == (2, str(names[1]))
    assert (result["category_id"], result["bbox"]) == (42, [20, 10, 32, 24])
    np.testing.assert_array_equal(mask_util.decode(result["segmentation"]), _scene()[..., 0] > 0)
    _assert_undrawn(tmp_path / "out" / "a.png", _scene(110))


@pytest.mark.parametrize("flag", ["--input", "--video-input"])
def test_a_video_keeps_its_frames_size_and_rate(tmp_path: Path, flag: str) -> None:
    clip = _write_video(tmp_path / "clip.mp4", frames=6)
    results_file = tmp_path / "results.json"
    assert _run(flag, clip, "--output", tmp_path / "out", "--json", results_file) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip.mp4"]
    video = cv2.VideoCapture(str(tmp_path / "out" / "clip.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == 12.0
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1])
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 6
    # Coloured where it was white.
    assert np.ptp(frames[-1][SQUARE].mean(axis=(0, 1))) > 20
    results = json.loads(results_file.read_text())
    assert [(r["image_id"], r["frame"]) for r in results] == [(i + 1, i) for i in range(6)]


def test_a_broken_video_is_skipped_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("not a video")
    assert _run("--input", tmp_path / "clip.mp4", "--output", tmp_path / "out") == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_one_picture_may_name_its_output_file(tmp_path: Path) -> None:
    image = _save(tmp_path / "x.png", _scene())
    assert _run("--input", image, "--output", tmp_path / "result.jpg") == 0
    assert Image.open(tmp_path / "result.jpg").format == "JPEG"


def test_the_webcam_needs_somewhere_to_go() -> None:
    with pytest.raises(SoloFamilyError, match="--output"):
        _run("--webcam")


def test_a_missing_webcam_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = cv2.VideoCapture()
    monkeypatch.setattr("solo_family.cli.video.cv2.VideoCapture", lambda _: closed)
    assert _run("--webcam", "--output", tmp_path / "cam.mp4") == 1
    assert "webcam: no frame" in caplog.text


def _crowd(path: Path) -> np.ndarray:
    """Write a picture of 150 x 200 with four bright objects, of which tiles of 64 cut two."""
    image = np.zeros((150, 200, 3), np.uint8)
    for top, left, bottom, right in [(5, 5, 20, 20), (40, 30, 90, 160), (120, 150, 140, 190)]:
        image[top:bottom, left:right] = 255
    image[100:110, 10:40] = 180
    _save(path, image)
    return image


def test_a_picture_by_tiles_has_the_objects_of_the_whole_picture(tmp_path: Path) -> None:
    picture = tmp_path / "crowd.png"
    _crowd(picture)
    results = []
    for name, tile in (("whole", []), ("tiled", ["--tile", 64, 16])):
        json_file = tmp_path / f"{name}.json"
        words = ["--input", picture, "--output", tmp_path / name, "--json", json_file, *tile]
        assert _run(*words) == 0
        results.append(json.loads(json_file.read_text()))
        assert Image.open(tmp_path / name / "crowd.png").size == (200, 150)
    masks = [sorted(one["segmentation"]["counts"] for one in found) for found in results]
    assert len(masks[0]) == 4
    assert masks[0] == masks[1]
    assert [path.name for path in (tmp_path / "tiled").iterdir()] == ["crowd.png"]


def test_an_interrupted_demo_goes_on_with_skip_existing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png"):
        _crowd(tmp_path / name)
    seen: list[int] = []
    limit = [12 + 8]  # each has 12 tiles

    def find(images: list[np.ndarray]) -> list[Predictions]:
        if sum(seen) + len(images) > limit[0]:
            raise KeyboardInterrupt
        seen.append(len(images))
        return _find_in_all(images)

    monkeypatch.setattr(demo, "_open_model", lambda *_: (Source(find, METADATA, Reading()), "key"))
    words = ["--input", tmp_path / "a.png", tmp_path / "b.png", "--tile", "64", "16"]
    words += ["--output", tmp_path / "out"]
    assert _run(*words) == demo.INTERRUPTED
    first = (tmp_path / "out" / "a.png").stat().st_mtime_ns
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", ".b.png.tiles"}
    limit[0], before = 1000, sum(seen)
    assert _run(*words, "--skip-existing") == 0
    assert before == 20
    assert sum(seen) == 24
    assert (tmp_path / "out" / "a.png").stat().st_mtime_ns == first
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "b.png"}
    a, b = (np.asarray(Image.open(tmp_path / "out" / name)) for name in ("a.png", "b.png"))
    # The visualizer draws the colours at random.
    assert ((a > 0).any(axis=2) == (b > 0).any(axis=2)).mean() > 0.99
    assert "1 written to" in capsys.readouterr().out
    seen.clear()
    assert _run(*words) == 0
    assert sum(seen) == 24


def test_a_picture_of_which_a_part_is_torn_is_written_with_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    image = _crowd(tmp_path / "crowd.png")
    read = ArrayWindows.read

    def torn(windows: ArrayWindows, window: Window) -> np.ndarray:
        if window.top > 0 and window.left > 100:
            raise DataError(f"crowd.png, {window}: can't be read: it is torn")
        return read(windows, window)

    monkeypatch.setattr(ArrayWindows, "read", torn)
    words = ["--input", tmp_path / "crowd.png", "--output", tmp_path / "out", "--tile", "64", "16"]
    assert _run(*words, "--json", tmp_path / "x.json") == 1
    assert "crowd.png, rows 48 to 112, columns 136 to 200: can't be read: it is torn" in caplog.text
    assert "1 with parts that could not be read" in caplog.text
    results = json.loads((tmp_path / "x.json").read_text())
    assert len(results) == 4
    masks = mask_util.decode([one["segmentation"] for one in results]).any(axis=2)
    assert not masks[86:, 160:].any()
    assert np.array_equal(masks[:, :160], image[:, :160, 0] > 100)


def _save_two(tmp_path: Path, *arguments: str | Path) -> tuple[int, Path]:
    for name, brightness in [("a.png", 110), ("deep/b.png", 250)]:
        _save(tmp_path / "in" / name, _scene(brightness))
    inputs = [tmp_path / "in" / "a.png", tmp_path / "in" / "deep" / "b.png"]
    status = _run("--input", *inputs, "--output", tmp_path / "out", *arguments)
    return status, tmp_path / "out"


def test_saved_formats_come_instead_of_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words: list[str | Path] = ["--confidence-threshold", "0.6", "--json", tmp_path / "r.json"]
    status, out = _save_two(tmp_path, "--save", "coco", "csv", *words)
    assert status == 0
    assert sorted(path.name for path in out.iterdir()) == ["coco.json", "instances.csv"]
    content = json.loads((out / "coco.json").read_text())
    assert [one["file_name"] for one in content["images"]] == ["a.png", "deep/b.png"]
    (annotation,) = content["annotations"]
    assert (annotation["image_id"], annotation["category_id"]) == (2, 42)
    assert json.loads((tmp_path / "r.json").read_text())[0]["image_id"] == 2
    assert f"2 written to {out}, 0 skipped" in capsys.readouterr().out


def test_filters_hold_for_pictures_and_files(tmp_path: Path) -> None:
    words = ["--save", "pictures", "coco-results", "--confidence-threshold", "0"]
    _, out = _save_two(tmp_path, *words, "--min-size", "769")
    assert json.loads((out / "coco_results.json").read_text()) == []  # they have 768 pixels
    _assert_undrawn(out / "b.png", _scene(250))
    _, out = _save_two(tmp_path, *words, "--min-size", "768", "--classes", "blob")
    assert len(json.loads((out / "coco_results.json").read_text())) == 2


def test_a_label_map_is_refused_as_coco_results_and_saved_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def segment(images: list[np.ndarray]) -> list[Predictions]:
        bright = [torch.from_numpy(image[:, :, 0] > 100) for image in images]
        return [{"sem_seg": torch.stack([~one, one]).float()} for one in bright]

    names = Metadata(stuff_classes=["dark", "bright"])
    source = Source(segment, names, Reading())
    monkeypatch.setattr(demo, "_open_model", lambda *_: (source, "key"))
    with pytest.raises(ConfigError, match=r"--json needs instances.*label-map"):
        _save_two(tmp_path, "--json", tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()
    _, out = _save_two(tmp_path, "--save", "label-map")
    labels = np.asarray(Image.open(out / "label_maps" / "b.png"))
    np.testing.assert_array_equal(labels, _scene()[..., 0] > 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--min-size", "-1"], r"--min-size is -1"),
        (["--polygon-tolerance", "-2"], r"--polygon-tolerance is -2.0; give a number of pixels"),
        (["--pixel-size", "0.25"], r"--pixel-size is '0.25'.*0.25um"),
        (["--classes", "bulb"], r"'bulb'; the model's classes are blob"),
    ],
)
def test_flags_that_cannot_work_are_refused(tmp_path: Path, words: list, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _save_two(tmp_path, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--polygon-tolerance", "2"], r"is for --save coco, .*, but this saves pictures\. Leave"),
        (["--pixel-size", "2um", "--save", "yolo"], r"is for --save geojson, csv, but this saves"),
        (["--side-by-side", "--save", "coco"], r"--side-by-side is for --save pictures, but"),
        (["--track"], r"--track numbers the objects of videos, but --input has only pictures"),
    ],
)
def test_flags_that_nothing_reads_are_refused(tmp_path: Path, words: list, message: str) -> None:
    with pytest.raises(SoloFamilyError, match=message):
        _save_two(tmp_path, *words)


def test_a_file_name_is_no_output_of_several_formats(tmp_path: Path) -> None:
    image = _save(tmp_path / "a.png", _scene())
    with pytest.raises(ConfigError, match="name a folder"):
        _run("--input", image, "--output", tmp_path / "out.png", "--save", "coco", "pictures")
