"""The loop of docs/results_files.md: predict, correct, check, train again, as the page says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ..coco_folder import write_cfg
from ..conftest import ROOT, eager_to_find, tiny_cfg, tiny_model
from ..walking import sh_commands, walk

PAGE = (ROOT / "docs" / "results_files.md").read_text()
NAMES = ["apple", "pear", "plum"]


def write_pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        pixels = rng.integers(0, 80, (64, 96, 3), np.uint8)
        pixels[10 : 40 + index, 20:60] += 120
        Image.fromarray(pixels).save(folder / f"{index}.png")


def write_first_round(folder: Path) -> None:
    """Write what the first round leaves: annotated pictures, and a trained model."""
    write_pictures(folder / "images", 2)
    box = [20, 10, 40, 30]
    corners = [20, 10, 60, 10, 60, 40, 20, 40]
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 64, "width": 96} for n in range(2)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(NAMES, start=1)],
        "annotations": [
            {"id": n + 1, "image_id": n, "category_id": n + 1, "segmentation": [corners]}
            | {"bbox": box, "area": 1200, "iscrowd": 0}
            for n in range(2)
        ],
    }
    for split in ("train", "val"):
        (folder / f"{split}.json").write_text(json.dumps(content))
    run = folder.parent / "output" / "my_solov2"
    run.mkdir(parents=True)
    keys = ["INPUT.MIN_SIZE_TEST", 64, "INPUT.MIN_SIZE_TRAIN", (64,), "SOLVER.MAX_ITER", 1]
    keys += ["SOLVER.IMS_PER_BATCH", 1, "DATALOADER.NUM_WORKERS", 0, "SOLVER.STEPS", ()]
    keys += ["MODEL.CLASS_NAMES", NAMES, "OUTPUT_DIR", str(run)]
    write_cfg(run / "config.yaml", tiny_cfg(opts=keys))
    model = eager_to_find(tiny_model(), True)
    torch.save({"model": model.state_dict()}, run / "model_final.pth")


@pytest.mark.slow
def test_predictions_are_corrected_and_trained_on(tmp_path: Path) -> None:
    write_first_round(tmp_path / "data")
    write_pictures(tmp_path / "data" / "new", 5)
    (tmp_path / "train_net.py").symlink_to(ROOT / "train_net.py")
    predict, *rest = sh_commands(PAGE)
    assert [words[3] for words in (predict, *rest[:-1])] == ["demo", "labelme"] + ["check-data"] * 2
    walk([predict], tmp_path)
    files = sorted((tmp_path / "data" / "second" / "labelme").glob("*.json"))
    assert len(files) == 5
    for file in files:  # correct: keep two objects, and draw one that was missed
        content = json.loads(file.read_text())
        assert content["shapes"]
        drawn = {"label": "plum", "points": [[70, 5], [90, 20]], "shape_type": "rectangle"}
        content["shapes"] = [*content["shapes"][:2], drawn]
        file.write_text(json.dumps(content))
    printed = walk(rest, tmp_path)
    assert printed.count("no problems") == 2
    assert "copypaste: Task: segm" in printed
    assert (tmp_path / "output" / "my_solov2_second" / "model_final.pth").is_file()
