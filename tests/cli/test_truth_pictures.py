"""The ground truth of each kind of dataset, drawn where it is, beside predictions."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.utils.video_visualizer import VideoVisualizer
from PIL import Image
from pycocotools import mask as mask_util

from solo_family.__main__ import main
from solo_family.cli.truth_pictures import draw_truth
from solo_family.errors import DataError
from solo_family.predictor.drawing import draw_predictions

from ..coco_folder import CocoFolder, rectangle, write_cfg
from ..conftest import eager_to_find, tiny_cfg, tiny_model

pytestmark = pytest.mark.usefixtures("drawn_in_red")
H, W = 120, 320
LEFT, RIGHT = (slice(30, 90), slice(10, 100)), (slice(30, 90), slice(220, 310))
NAMES = Metadata(thing_classes=["a", "b"], stuff_classes=["a", "b"])


def changed(record: dict) -> list[bool]:
    """Whether most of the left, and of the right region is drawn over."""
    grey = np.full((H, W, 3), 128, np.uint8)
    drawn = draw_truth(grey, record, NAMES)
    assert drawn.shape == grey.shape
    return [bool((drawn[region] != 128).any(-1).mean() > 0.8) for region in (LEFT, RIGHT)]


def test_polygons_and_runs_are_drawn() -> None:
    mask = np.zeros((H, W), np.uint8, order="F")
    mask[RIGHT] = 1
    left = {"category_id": 0, "segmentation": [[10, 30, 100, 30, 100, 90, 10, 90]]}
    right = {"category_id": 1, "segmentation": mask_util.encode(mask)}
    assert changed({"annotations": [left]}) == [True, False]
    assert changed({"annotations": [left, right]}) == [True, True]
    assert changed({"annotations": []}) == [False, False]
    assert changed({}) == [False, False]


def test_segments_and_classes_of_pixels_are_drawn(tmp_path: Path) -> None:
    ids = np.zeros((H, W, 3), np.uint8)
    ids[RIGHT] = (7, 1, 0)  # red, green, blue
    Image.fromarray(ids).save(tmp_path / "ids.png")
    infos = [{"id": 7 + 256, "category_id": 1, "isthing": True}]
    record = {"pan_seg_file_name": str(tmp_path / "ids.png"), "segments_info": infos}
    assert changed(record) == [False, True]
    labels = np.full((H, W), 255, np.uint8)
    labels[LEFT] = 1
    Image.fromarray(labels).save(tmp_path / "labels.png")
    assert changed({"sem_seg_file_name": str(tmp_path / "labels.png")}) == [True, False]
    with pytest.raises(DataError, match=r"gone\.png can't be read"):
        changed({"sem_seg_file_name": str(tmp_path / "gone.png")})


def test_classes_of_pixels_have_the_colours_of_the_predictions(tmp_path: Path) -> None:
    labels = np.zeros((H, W), np.uint8)
    labels[RIGHT] = 1
    Image.fromarray(labels).save(tmp_path / "labels.png")
    black = np.zeros((H, W, 3), np.uint8)
    truth = draw_truth(black, {"sem_seg_file_name": str(tmp_path / "labels.png")}, NAMES)
    scores = torch.stack([torch.from_numpy(labels == label) for label in range(2)]).float()
    found = draw_predictions(VideoVisualizer(NAMES), black, {"sem_seg": scores})
    assert (truth[LEFT][5, 5] != truth[RIGHT][5, 5]).any()
    assert np.array_equal(truth, found)


def test_the_verb_writes_truth_and_predictions_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = CocoFolder(tmp_path / "data", {1: "a", 2: "b", 3: "c"})
    for index in range(3):
        plain = Image.new("RGB", (96, 64), (90, 120, 60))
        data.add(f"{index}.png", plain, [rectangle(20, 10, 60, 40)])
    sizes = ["INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96]
    weights = eager_to_find(tiny_model("SOLOv2", opts=sizes)).state_dict()
    torch.save({"model": weights}, tmp_path / "model.pth")
    opts = [*sizes, "MODEL.WEIGHTS", str(tmp_path / "model.pth"), "DATASETS.TEST", (data.write(),)]
    config = write_cfg(tmp_path / "config.yaml", tiny_cfg("SOLOv2", opts=opts))
    (tmp_path / "data" / "images" / "1.png").write_text("broken")
    words = ["visualize-results", "--ground-truth", "--config-file", config]
    words += ["--output", tmp_path / "out", "--confidence-threshold", "1.1"]
    assert main([*map(str, words)]) == 1
    assert "2 pictures to" in capsys.readouterr().out
    drawn = cv2.imread(str(tmp_path / "out" / "0.png"))
    assert drawn.shape == (64, 96 + 4 + 96, 3)
    image = cv2.imread(str(tmp_path / "data" / "images" / "0.png"))
    truth, predicted = drawn[:, :96], drawn[:, 100:]
    assert (truth != image)[12:48, 22:78].any(-1).mean() > 0.8
    assert (predicted != image).any(-1).mean() < 0.1  # no score is above 1.1
    assert main([*map(str, words), "--num-images", "1"]) == 0
    assert main([*map(str, words), "--input", "x.png"]) == 2
