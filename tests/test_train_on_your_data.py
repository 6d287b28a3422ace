"""The walk of docs/train_on_your_data.md, from files to pictures: its commands as they stand there.

SOLVER.MAX_ITER of the page's config is replaced by 2, and with it STEPS, which would lie behind the
end; and pictures keep their size, which is small. The commands of a walk are run in a folder that
holds nothing but what the page says: the clone's `train_net.py` and `configs`, the user's files.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .conftest import ROOT
from .walking import sh_commands, walk

PAGE = (ROOT / "docs" / "train_on_your_data.md").read_text()
KINDS = {"labelme": "### From labelme", "coco": "### From CVAT, Label Studio, Roboflow and others"}
HEIGHT, WIDTH = 96, 128
NUM_IMAGES = 6


def commands(kind: str) -> list[list[str]]:
    """Returns the commands of the page in order, without those of the other kind of files."""
    sections = re.split(r"(?=^##)", PAGE, flags=re.M)
    others = tuple(heading for name, heading in KINDS.items() if name != kind)
    return sh_commands(*(section for section in sections if not section.startswith(others)))


def config() -> str:
    (block,) = re.findall(r"```yaml\n(# my_solov2\.yaml\n.+?)```", PAGE, re.S)
    block, count = re.subn(r"MAX_ITER: \d+", "MAX_ITER: 2", block)
    assert count == 1
    sizes = "INPUT:\n  MIN_SIZE_TRAIN: (96,)\n  MIN_SIZE_TEST: 96\n"
    return re.sub(r"STEPS: \(.+?\)", "STEPS: ()", block) + sizes


def write_images(
    folder: Path, names: Sequence[str] = ("cup", "book")
) -> list[list[tuple[str, list[list[int]]]]]:
    """Writes pictures of bright rectangles, and returns their labels and corners."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    everything = []
    for index in range(NUM_IMAGES):
        pixels = rng.integers(0, 80, (HEIGHT, WIDTH, 3), np.uint8)
        objects = []
        for number, label in enumerate(names):
            left, top = 8 + 60 * number + index, 10 + 5 * index
            pixels[top : top + 30, left : left + 40] += 120
            objects.append((label, [[left, top], [left + 40, top + 30]]))
        Image.fromarray(pixels).save(folder / f"{index}.jpg")
        everything.append(objects)
    return everything


def write_labelme(folder: Path) -> None:
    for index, objects in enumerate(write_images(folder)):
        content: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": [
                {
                    "label": label,
                    "points": corners,
                    "group_id": None,
                    "shape_type": "rectangle",
                    "flags": {},
                }
                for label, corners in objects
            ],
            "imagePath": f"{index}.jpg",
            "imageData": None,
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
        }
        (folder / f"{index}.json").write_text(json.dumps(content))


def write_coco(folder: Path, names: Sequence[str] = ("cup", "book")) -> None:
    content: dict[str, Any] = {"images": [], "annotations": [], "info": {"version": "1.0"}}
    content["categories"] = [{"id": n, "name": name} for n, name in enumerate(names, start=1)]
    for index, objects in enumerate(write_images(folder, names)):
        size = {"height": HEIGHT, "width": WIDTH}
        content["images"].append({"id": index, "file_name": f"{index}.jpg", **size})
        for label, ((x0, y0), (x1, y1)) in objects:
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": index,
                    "category_id": names.index(label) + 1,
                    "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                }
            )
    (folder.parent / "instances.json").write_text(json.dumps(content))


def run_walk(kind: str, folder: Path, end: str = "") -> tuple[list[list[str]], str]:
    """Runs commands, up to the first with the word `end`, and returns them and what they print."""
    images = folder / "data" / "images"
    write_labelme(images) if kind == "labelme" else write_coco(images)
    (folder / "my_solov2.yaml").write_text(config())
    for name in ("train_net.py", "configs"):
        (folder / name).symlink_to(ROOT / name)
    words = commands(kind)
    if end:
        words = words[: next(n for n, command in enumerate(words, 1) if end in command)]
    return words, walk(words, folder)


def names_of(folder: Path, split: str) -> list[str]:
    content = json.loads((folder / "data" / f"{split}.json").read_text())
    return [image["file_name"] for image in content["images"]]


def test_an_export_in_cocos_format_becomes_two_good_splits(tmp_path: Path) -> None:
    words, output = run_walk("coco", tmp_path, end="check-data")
    assert len(words) == 3
    assert output.count("no problems") == 2
    assert names_of(tmp_path, "val") == ["0.jpg", "5.jpg"]
    assert len(names_of(tmp_path, "train")) == 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["labelme", "coco"])
def test_the_walk_ends_with_pictures(kind: str, tmp_path: Path) -> None:
    words, printed = run_walk(kind, tmp_path)
    assert len(words) == 8
    assert printed.count("no problems") == 2
    assert printed.count("copypaste: Task: segm") == 2
    output = tmp_path / "output"
    assert len(list((output / "data").iterdir())) == len(list((output / "targets").iterdir())) == 4
    assert len(list((output / "pictures").iterdir())) == NUM_IMAGES
    assert "CLASS_NAMES" in (output / "my_solov2" / "config.yaml").read_text()
