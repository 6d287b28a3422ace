"""The demo over inputs of every kind, in batches: as one by one, in order, with what is broken."""

import json
import logging
import weakref
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from PIL import Image
from pycocotools import mask as mask_util
from torch import Tensor

from solo_family.cli import batches, demo
from solo_family.cli.batches import predict_each
from solo_family.data.loading.images import Reading
from solo_family.errors import OutOfMemoryError, SoloFamilyError
from solo_family.faults import explained
from solo_family.predictor.predictions import Predictions
from solo_family.predictor.sources import Source, from_config

from ..conftest import eager_to_find, picture, tiny_cfg, tiny_model
from .test_addresses import Handler, ThreadingHTTPServer, threading
from .test_demo import METADATA, _find_bright_regions, _run, _save, _scene


class Model:
    """Finds bright regions, and notes the sizes of the batches that it was given."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.fails_from = 10**9
        self.source = Source(self.predict, METADATA, Reading())

    def predict(self, images: list[np.ndarray]) -> list[Predictions]:
        self.batches.append(len(images))
        if len(images) >= self.fails_from or any(len(image) == 13 for image in images):
            raise OutOfMemoryError("too large: use less")
        return [_find_bright_regions(image) for image in images]


@pytest.fixture
def model(
    drawn_in_red: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Model:
    caplog.set_level(logging.INFO)
    model = Model()
    monkeypatch.setattr(demo, "_open_model", lambda *_: (model.source, "key"))
    return model


def _results(file: Path) -> list[dict]:
    return json.loads(file.read_text())


def test_batches_give_what_single_pictures_give_in_their_order(
    tmp_path: Path, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(9):
        _save(tmp_path / "in" / f"{index}.png", _scene(110 + 15 * index))
    (tmp_path / "in" / "4.png").write_text("broken")
    results = []
    for batch in (1, 4):
        out = tmp_path / str(batch)
        words = ["--input", tmp_path / "in", "--output", out, "--json", out.with_suffix(".json")]
        caplog.clear()
        assert _run(*words, "--batch", batch, "--confidence-threshold", 0) == 1
        order = [r.getMessage().split(".png")[0] for r in caplog.records]
        assert [text[-1] for text in order if "/in/" in text] == [*"012345678"]
        assert sorted(path.name for path in out.iterdir()) == [
            f"{index}.png" for index in range(9) if index != 4
        ]
        results.append(_results(out.with_suffix(".json")))
    assert model.batches == [1] * 8 + [4, 3, 1]
    assert results[0] == results[1]
    assert [one["image_id"] for one in results[0]] == [1, 2, 3, 4, 6, 7, 8, 9]


def test_large_pictures_are_no_batch(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MOST_PIXELS", 48 * 64 * 2)
    for index in range(4):
        _save(tmp_path / f"{index}.png", _scene() if index != 2 else np.tile(_scene(), (2, 2, 1)))
    assert _run("--input", tmp_path, "--output", tmp_path / "out", "--batch", 8) == 0
    assert model.batches == [2, 1, 1]
    monkeypatch.setattr(batches, "MOST_PIXELS", 48 * 64 * 3)
    model.batches.clear()
    for index in range(8):
        _save(tmp_path / f"{index}.png", _scene())
    assert _run("--input", tmp_path, "--output", tmp_path / "2", "--batch", 4) == 0
    assert model.batches == [2, 2, 2, 2]  # not 3, 3, 2: two cores have two each time


def test_memory_of_a_picture_that_needs_too_much_is_free_for_the_next() -> None:
    """An error's traceback holds what the model had made so far."""
    made: list[weakref.ref[Tensor]] = []

    def network(images: list[np.ndarray]) -> list[Predictions]:
        feature = torch.zeros(len(images), 8)
        made.append(weakref.ref(feature))
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    image = np.zeros((4, 4, 3), np.uint8)
    errors = predict_each(explained()(network), [image, image])
    assert [ref() for ref in made] == [None] * 3
    for error in errors:
        assert isinstance(error, OutOfMemoryError)
        assert "Out of memory (CUDA out of memory)" in str(error)


def test_a_batch_that_needs_too_much_memory_is_predicted_one_by_one(
    tmp_path: Path, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    model.fails_from = 2
    for index in range(3):
        height = 13 if index == 1 else 48
        _save(tmp_path / f"{index}.png", _scene()[:height])
    assert _run("--input", tmp_path, "--output", tmp_path / "out", "--batch", 3) == 1
    assert model.batches == [3, 1, 1, 1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "2.png"]
    assert "1.png: too large" in caplog.text
    with pytest.raises(SoloFamilyError, match="--batch is 0"):
        _run("--input", tmp_path, "--batch", 0)


def test_a_models_batches_are_its_singles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_in_red: None
) -> None:
    weights = eager_to_find(tiny_model("SOLOv2", opts=["INPUT.FORMAT", "BGR"])).state_dict()
    torch.save({"model": weights}, tmp_path / "model.pth")
    sizes = ["INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96, "INPUT.FORMAT", "BGR"]
    cfg = tiny_cfg("SOLOv2", opts=[*sizes, "MODEL.WEIGHTS", str(tmp_path / "model.pth")])
    source = from_config(cfg)
    assert source.batch == 1
    monkeypatch.setattr(demo, "_open_model", lambda *_: (source, "key"))
    for index, size in enumerate([(64, 96), (64, 96), (96, 64), (60, 90)]):
        image = picture(*size, seed=index)["image"].permute(1, 2, 0).numpy()
        _save(tmp_path / "in" / f"{index}.png", image)
    found = []
    for batch in (1, 4):
        words = ["--input", tmp_path / "in", "--save", "coco-results", "--batch", batch]
        assert _run(*words, "--output", tmp_path / str(batch), "--confidence-threshold", 0) == 0
        found.append(_results(tmp_path / str(batch) / "coco_results.json"))
    assert len(found[0]) == len(found[1]) > 10
    for one, other in zip(*found):
        assert (one["image_id"], one["category_id"]) == (other["image_id"], other["category_id"])
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        # A pixel at a mask's border may be at the threshold, and sums of floats depend on order.
        masks = mask_util.decode([one["segmentation"], other["segmentation"]])
        assert (masks[..., 0] != masks[..., 1]).mean() < 1e-3


def test_inner_folders_keep_their_places_and_names_that_meet_are_told_apart(
    tmp_path: Path, model: Model
) -> None:
    for name in ("a/1.png", "b/1.png", "b/1.jpg", "b/X.png", "b/x.png"):
        _save(tmp_path / "in" / name, _scene())
    out = tmp_path / "in" / "out"
    flags = ["--input", tmp_path / "in", "--recursive", "--output", out]
    expected = {"a/1.png", "b/1.png", "b/1.jpg", "b/X.png", "b/x_2.png"}
    for _ in range(2):  # the second does not take the outputs of the first for inputs
        assert _run(*flags) == 0
        files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
        assert files == expected


def test_pages_are_pictures(tmp_path: Path, model: Model) -> None:
    pages = [Image.fromarray(_scene(value)) for value in (50, 200, 250)]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    words = ["--input", tmp_path / "scan.tif", "--output", tmp_path / "out", "--json"]
    assert _run(*words, tmp_path / "r.json", "--save", "pictures", "coco") == 0
    names = [f"scan_p{number:03d}.tif" for number in (1, 2, 3)]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tif")) == names
    results = _results(tmp_path / "r.json")
    assert [(r["page"], r["file_name"]) for r in results] == [
        (number, str(tmp_path / "scan.tif")) for number in (2, 3)
    ]
    content = json.loads((tmp_path / "out" / "coco.json").read_text())
    for image, page in zip(content["images"], pages):
        file = tmp_path / "out" / "coco_images" / image["file_name"]
        assert np.array_equal(np.asarray(Image.open(file)), np.asarray(page))
    assert _run(*words, tmp_path / "t.json", "--tile", 64, 16) == 0
    assert [r["page"] for r in _results(tmp_path / "t.json")] == [2, 3]


def test_addresses_are_read_and_one_that_fails_is_a_line(
    tmp_path: Path, model: Model, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.cli.test_addresses.CONTENT", _save(tmp_path / "x.png", _scene()).read_bytes()
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}"
        words = ["--input", f"{here}/whole.png", f"{here}/gone.png", tmp_path / "x.png"]
        words += ["--output", tmp_path / "out", "--save", "pictures", "coco", "--batch", 3]
        assert _run(*words) == 2
        assert "which --allow-network opens" in caplog.text
        assert _run(*words, "--allow-network") == 1
        server.shutdown()
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["whole.png", "x.png"]
    (line,) = [r.getMessage() for r in caplog.records if "404" in r.getMessage()]
    assert line == f"skipped {here}/gone.png: can't be downloaded: 404 Not Found"
    content = json.loads((tmp_path / "out" / "coco.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["whole.png", "x.png"]


def test_a_broken_video_and_a_pdf_do_not_end_the_rest(
    tmp_path: Path, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    _save(tmp_path / "in" / "a.png", _scene())
    (tmp_path / "in" / "b.mp4").write_bytes(b"\0\0\0\x18ftypisom broken")
    # JPEGs one after another are a video. OpenCV scales its frames to the size of the first.
    frames = [cv2.imencode(".jpg", np.tile(_scene(), (n, n, 1)))[1].tobytes() for n in (1, 2, 1)]
    (tmp_path / "c.mjpeg").write_bytes(b"".join(frames))
    (tmp_path / "d.pdf").write_bytes(b"%PDF-1.7")
    inputs = [tmp_path / "in", tmp_path / "c.mjpeg", tmp_path / "d.pdf", tmp_path / "in" / "a.png"]
    words = ["--input", *inputs, "--output", tmp_path / "out", "--json", tmp_path / "r.json"]
    assert _run(*words, "--batch", 2) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.mp4"]
    sizes = [
        (r["image_id"], r.get("frame"), r["segmentation"]["size"])
        for r in _results(tmp_path / "r.json")
    ]
    assert sizes[0] == (1, None, [48, 64])
    assert sizes[1:] == [(2, 0, [48, 64]), *[(3, 1, [48, 64])] * 4, (4, 2, [48, 64])]
    assert "b.mp4: no frame" in caplog.text
    assert "d.pdf can't be read as an image: it is a PDF" in caplog.text
    video = cv2.VideoCapture(str(tmp_path / "out" / "c.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3


def test_side_by_side_has_the_picture_on_the_left(tmp_path: Path, model: Model) -> None:
    image = _save(tmp_path / "x.png", _scene())
    assert _run("--input", image, "--output", tmp_path / "out", "--side-by-side") == 0
    drawn = np.asarray(Image.open(tmp_path / "out" / "x.png"))
    assert drawn.shape == (48, 64 + 4 + 64, 3)
    np.testing.assert_array_equal(drawn[:, :64], _scene())
    assert (drawn[:, 64:68] == 255).all()
    assert (drawn[10:34, 88:120] != 255).any(axis=-1).mean() > 0.9


def test_bands_choose_the_channels_that_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    channels = generator.integers(0, 256, (24, 32, 5), np.uint8)
    np.save(tmp_path / "x.npy", channels)
    given: list[np.ndarray] = []

    def nothing(images: list[np.ndarray]) -> list[Predictions]:
        given.extend(images)
        dark = np.zeros((24, 32, 3), np.uint8)
        return [_find_bright_regions(dark) for _ in images]

    source = Source(nothing, Metadata(thing_classes=["blob"]), Reading(image_format="5ch"))
    monkeypatch.setattr(demo, "_open_model", lambda *_: (source, "key"))
    drawn = []
    for name, flags in (("all", []), ("some", ["--bands", 4, 5, 1])):
        words = ["--input", tmp_path / "x.npy", "--output", tmp_path / name, "--side-by-side"]
        assert _run(*words, *flags) == 0
        drawn.append(np.asarray(Image.open(tmp_path / name / "x.png"))[:, :32])
    np.testing.assert_array_equal(drawn[0], channels[:, :, [0, 1, 2]])
    np.testing.assert_array_equal(drawn[1], channels[:, :, [3, 4, 0]])
    for image in given:  # the model gets all of them either way
        np.testing.assert_array_equal(image, channels)
    with pytest.raises(SoloFamilyError, match=r"--bands is 4 6 1; the model has 5 channels"):
        _run("--input", tmp_path / "x.npy", "--bands", 4, 6, 1)
    colours = replace(source, reading=Reading(image_format="BGR"))
    monkeypatch.setattr(demo, "_open_model", lambda *_: (colours, "key"))
    with pytest.raises(SoloFamilyError, match="from 1 to 3"):
        _run("--input", tmp_path / "x.npy", "--bands", 4, 2, 1)
