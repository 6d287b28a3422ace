"""A demo that saves files and is interrupted goes on, and ends as if it had not been."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import Metadata
from PIL import Image

from solo_family.class_maps import Read, class_maps_read
from solo_family.cli import demo
from solo_family.cli.tiled_pictures import written
from solo_family.data.loading.images import Reading
from solo_family.predictor.predictions import Predictions
from solo_family.predictor.sources import Source

from .test_demo import METADATA, _find_bright_regions, _run, _save, _scene
from .test_video import write_video

INSTANCES = ["coco", "coco-results", "csv", "geojson", "labelme", "yolo", "label-map", "cutouts"]


class Interrupted:
    """A model that is interrupted before it has seen more than `limit` images."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: str = "instances") -> None:
        self.seen, self.limit, self.kind = 0, 10**9, kind
        self.maps_read: set[Read] = set()
        names = Metadata(stuff_classes=["dark", "bright"])
        source = Source(self.predict, METADATA if kind == "instances" else names, Reading())
        monkeypatch.setattr(demo, "_open_model", lambda *_: (source, "key"))

    def predict(self, images: list[np.ndarray]) -> list[Predictions]:
        if self.seen + len(images) > self.limit:
            raise KeyboardInterrupt
        self.seen += len(images)
        self.maps_read.add(class_maps_read())
        return [self._one(image) for image in images]

    def _one(self, image: np.ndarray) -> Predictions:
        if self.kind == "instances":
            return _find_bright_regions(image)
        bright = torch.from_numpy(image[:, :, 0] > 100)
        if self.kind == "semantic":
            return {"sem_seg": torch.stack([~bright, bright]).float()}
        info = {"id": 1, "category_id": 1, "isthing": True, "score": 0.75}
        return {"panoptic_seg": (bright.int(), [info])}


def _inputs(folder: Path) -> Path:
    for index in range(4):
        _save(folder / f"{index}.png", _scene(180 + index))
    write_video(folder / "v.avi", frames=4, size=(64, 48))
    _save(folder / "w" / "0.png", _scene(250))
    pages = [Image.fromarray(_scene(value)) for value in (150, 160)]
    pages[0].save(folder / "x.tif", save_all=True, append_images=pages[1:])
    return folder


def _content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".partial")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("limit", [0, 2, 6, 9])  # nothing, in pictures, in a video, in pages
def test_files_are_as_those_of_a_run_that_was_not_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    model = Interrupted(monkeypatch)
    words = ["--input", _inputs(tmp_path / "in"), "--recursive", "--save", *INSTANCES]
    words += ["--confidence-threshold", "0", "--output"]
    assert _run(*words, tmp_path / "whole") == 0
    assert model.seen == 11
    assert not (tmp_path / "whole" / ".results.partial").exists()
    out = tmp_path / "out"
    model.seen, model.limit = 0, limit
    assert _run(*words, out) == demo.INTERRUPTED
    assert not (out / "coco.json").exists()
    done = model.seen
    model.seen, model.limit = 0, 10**9
    corrected = out / "labelme" / "0.json"
    before = corrected.stat().st_mtime_ns if corrected.exists() else None
    assert _run(*words, out, "--skip-existing") == 0
    assert model.seen == 11 - done
    assert before in (None, corrected.stat().st_mtime_ns)
    assert _content(out) == _content(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["semantic", "panoptic"])
def test_label_maps_and_segments_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    model = Interrupted(monkeypatch, kind)
    words = ["--input", _inputs(tmp_path / "in"), "--save", "label-map", "panoptic", "--output"]
    assert _run(*words, tmp_path / "whole") == 0
    model.seen, model.limit = 0, 5
    assert _run(*words, tmp_path / "out") == demo.INTERRUPTED
    model.seen, model.limit = 0, 10**9
    assert _run(*words, tmp_path / "out", "--skip-existing") == 0
    assert model.seen == 5
    assert _content(tmp_path / "out") == _content(tmp_path / "whole")


def test_the_scores_of_every_class_are_wanted_for_label_maps_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Interrupted(monkeypatch, "panoptic")
    words = ["--input", _inputs(tmp_path / "in"), "--output", tmp_path / "out", "--skip-existing"]
    assert _run(*words, "--save", "panoptic") == 0
    assert model.maps_read == {Read.NEVER}
    model.maps_read.clear()
    assert _run(*words, "--save", "panoptic", "label-map") == 0
    assert model.maps_read == {Read.LATER}  # what was predicted without them is predicted again


def test_a_later_run_predicts_only_what_is_new_or_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Interrupted(monkeypatch)
    folder = _inputs(tmp_path / "in")
    words = ["--input", folder, "--output", tmp_path / "out", "--save", "coco", "pictures"]
    words += ["--skip-existing", "--confidence-threshold"]
    assert _run(*words, 0.1) == 0
    assert model.seen == 10
    drawn = (tmp_path / "out" / "0.png").stat().st_mtime_ns
    for expected in (0, 2):
        model.seen = 0
        assert _run(*words, 0.1) == 0
        assert model.seen == expected
        if not expected:
            _save(folder / "00.png", _scene(200))
            os.utime(folder / "1.png", (1, 1))
    images = json.loads((tmp_path / "out" / "coco.json").read_text())["images"]
    assert [image["file_name"] for image in images[:4]] == ["0.png", "00.png", "1.png", "2.png"]
    assert [image["id"] for image in images] == [*range(1, 12)]
    assert (tmp_path / "out" / "0.png").stat().st_mtime_ns == drawn
    model.seen = 0
    assert _run(*words, 0.2) == 0  # another threshold, other results
    assert model.seen == 11


def test_results_in_one_file_go_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Interrupted(monkeypatch)
    folder, file = _inputs(tmp_path / "in"), tmp_path / "r.json"
    words = ["--input", folder, "--output", tmp_path / "out", "--json", file]
    model.limit = 3
    assert _run(*words) == demo.INTERRUPTED
    model.limit = 10**9
    assert _run(*words, "--skip-existing") == 0
    assert model.seen == 10
    resumed = file.read_bytes()
    assert _run(*words) == 0
    assert model.seen == 20
    assert file.read_bytes() == resumed
    assert not (tmp_path / ".r.json.partial").exists()


def test_a_torn_end_of_the_journal_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Interrupted(monkeypatch)
    words = ["--input", _inputs(tmp_path / "in"), "--output", tmp_path / "out", "--save", "csv"]
    assert _run(*words, "--skip-existing") == 0
    whole = (tmp_path / "out" / "instances.csv").read_bytes()
    journal = tmp_path / "out" / ".results.partial"
    journal.write_bytes(journal.read_bytes()[:-7])
    for expected in (1, 0):
        model.seen = 0
        assert _run(*words, "--skip-existing") == 0
        assert model.seen == expected
        assert (tmp_path / "out" / "instances.csv").read_bytes() == whole


@pytest.mark.parametrize("changed", ["picture", "model"])
def test_a_picture_of_what_was_before_is_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    model = Interrupted(monkeypatch)
    for name in ("a.png", "b.png"):
        _save(tmp_path / "in" / name, _scene(200))
    words = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--skip-existing"]
    assert _run(*words) == 0
    assert _run(*words) == 0
    assert model.seen == 2
    drawn = (tmp_path / "out" / "a.png").stat().st_mtime
    if changed == "picture":
        os.utime(tmp_path / "in" / "a.png", (drawn + 1, drawn + 1))
    else:
        source = Source(model.predict, METADATA, Reading(), written=drawn + 3600)
        monkeypatch.setattr(demo, "_open_model", lambda *_: (source, "other"))
    assert _run(*words) == 0
    assert model.seen == (3 if changed == "picture" else 4)


def test_when_a_model_was_written(tmp_path: Path) -> None:
    cfg = get_cfg()
    cfg.MODEL.WEIGHTS = str(tmp_path / "model.pth")
    assert written(cfg, None) == 0.0
    for number, name in enumerate(("model.pth", "other"), start=1):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (number, number))
    assert written(cfg, None) == 1.0
    assert written(None, tmp_path) == 2.0
