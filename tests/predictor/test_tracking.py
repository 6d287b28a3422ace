"""Objects of a video keep their numbers, also where their ways cross."""

import csv
import json
import sys
from pathlib import Path
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from solo_family.cli import demo
from solo_family.data.loading.images import Reading
from solo_family.errors import ConfigError
from solo_family.predictor.predictions import Predictions
from solo_family.predictor.sources import Source
from solo_family.predictor.tracking import Tracker

from ..cli.test_demo import METADATA, _find_bright_regions, _run
from ..cli.test_video import write_video

FRAMES, SIZE = 200, 24


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(ConfigError, match=r"--track needs trackers: pip install 'solo-family\[tr"):
        Tracker(30.0, 0.5)


def test_the_package_is_missed_before_anything_is_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    monkeypatch.setattr(demo, "_open_model", lambda *_: pytest.fail("the model was opened"))
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((24, 32, 3), np.uint8))
    write_video(tmp_path / "b.avi", frames=2, size=(64, 48))
    given = [tmp_path / "a.png", tmp_path / "b.avi"]
    with pytest.raises(ConfigError, match="--track needs trackers"):
        _run("--input", *given, "--output", tmp_path / "out", "--track")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "what"), [("sem_seg", "classes of pixels"), ("panoptic_seg", "panoptic segments")]
)
def test_a_model_without_instances_has_nothing_to_number(
    name: str, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "trackers", MagicMock())
    monkeypatch.setitem(sys.modules, "supervision", MagicMock())
    tracker = Tracker(30.0, 0.5)
    assert [tracker({name: index}) for index in range(2)] == [{name: index} for index in range(2)]
    assert caplog.messages == [f"--track has nothing to number: this model predicts {what} alone."]


def places(frame: int) -> np.ndarray:
    """Left and top of five objects: two in a row pass three in a column, there and back."""
    share = 1 - abs(frame / (FRAMES / 2) - 1)
    across = 20 + 260 * share
    down = 10 + 180 * share
    return np.array([[across, 60], [300 - across, 140], [70, down], [160, 200 - down], [250, down]])


def frame_of(index: int) -> Predictions:
    corners = torch.from_numpy(places(index)).float()
    order = torch.randperm(5, generator=torch.Generator().manual_seed(index))
    boxes = torch.cat([corners, corners + SIZE], dim=1)[order]
    noise = torch.randn(boxes.shape, generator=torch.Generator().manual_seed(index)) * 0.5
    masks = torch.zeros(5, 240, 340, dtype=torch.bool)
    instances = Instances(
        (240, 340),
        pred_masks=masks,
        pred_boxes=Boxes(boxes + noise),
        scores=torch.full((5,), 0.9),
        pred_classes=torch.zeros(5, dtype=torch.int64),
        truth=order,
    )
    return {"instances": instances}


def test_numbers_switch_at_most_once_where_ways_cross() -> None:
    pytest.importorskip("trackers")
    tracker = Tracker(30.0, 0.5)
    last: dict[int, int] = {}
    switches = 0
    for index in range(FRAMES):
        given = frame_of(index)
        found = tracker(given)["instances"]
        assert not given["instances"].has("track_ids")
        for truth, number in zip(found.truth.tolist(), found.track_ids.tolist()):
            assert (number > 0) == (index > 0)  # from the second frame on
            if not index:
                continue
            switches += last.setdefault(truth, number) != number
            last[truth] = number
    assert switches <= 1
    nothing = frame_of(0)["instances"][:0]
    assert len(tracker({"instances": nothing})["instances"].track_ids) == 0
    assert tracker({"sem_seg": 1}) == {"sem_seg": 1}


def test_numbers_are_in_pictures_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_in_red: None
) -> None:
    pytest.importorskip("trackers")

    def find(images: list[np.ndarray]) -> list[Predictions]:
        found = [_find_bright_regions(image) for image in images]
        for one in found:
            masks = one["instances"].pred_masks
            assert len(masks) == 2
        return found

    monkeypatch.setattr(demo, "_open_model", lambda *_: (Source(find, METADATA, Reading()), "key"))
    writer = cv2.VideoWriter(
        str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (160, 120)
    )
    for index in range(6):
        image = np.zeros((120, 160, 3), np.uint8)
        image[10 + 2 * index : 40 + 2 * index, 10:40] = 255
        image[60:90, 120 - 3 * index : 150 - 3 * index] = 220
        writer.write(image)
    writer.release()
    words = ["--input", tmp_path / "v.avi", "--output", tmp_path / "out", "--track"]
    assert _run(*words, "--save", "pictures", "csv", "coco-vid", "coco-results") == 0
    with open(tmp_path / "out" / "instances.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    ways: dict[str, list[float]] = {}
    assert [row["track"] for row in rows[:2]] == ["", ""]
    for row in rows[2:]:
        ways.setdefault(row["track"], []).append(float(row["x"]))
    assert len(ways) == 2
    still, moving = sorted(ways.values(), key=np.ptp)
    assert np.ptp(still) <= 1
    assert 10 <= moving[0] - moving[-1] <= 14
    content = json.loads((tmp_path / "out" / "coco_vid.json").read_text())
    assert content["videos"] == [{"id": 1, "name": "v.avi", "height": 120, "width": 160}]
    assert [(i["video_id"], i["frame_id"]) for i in content["images"]] == [
        (1, index) for index in range(6)
    ]
    numbers = [str(one.get("instance_id", "")) for one in content["annotations"]]
    assert numbers == [row["track"] for row in rows]
    results = json.loads((tmp_path / "out" / "coco_results.json").read_text())
    assert [str(one.get("track_id", "")) for one in results] == numbers
    assert (tmp_path / "out" / "v.mp4").is_file()
