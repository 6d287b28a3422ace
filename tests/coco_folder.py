"""Builds datasets in COCO's format, file by file, for tests of runs."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from PIL import Image

from solo_family.config import get_cfg
from solo_family.data.loading.loader import load_train_dicts

from .conftest import tiny_cfg


class CocoFolder:
    """A growing dataset: `images/` and `instances.json` under a folder.

    Args:
        root: it is made.
        categories: id to name.
    """

    def __init__(self, root: Path, categories: dict[int, str]) -> None:
        self.root = root
        self.content: dict[str, Any] = {
            "images": [],
            "categories": [{"id": identity, "name": name} for identity, name in categories.items()],
            "annotations": [],
        }
        (root / "images").mkdir(parents=True)

    def add(
        self,
        name: str,
        image: Image.Image,
        annotations: list[dict[str, Any]],
        *,
        size: tuple[int, int] | None = None,
        **save_options: Any,
    ) -> Path:
        """Writes an image, and annotations without ids; `size` is what the json says of it."""
        path = self.root / "images" / name
        image.save(path, **save_options)
        height, width = size or (image.height, image.width)
        entry = {"id": len(self.content["images"]) + 1, "file_name": name}
        self.content["images"].append(entry | {"height": height, "width": width})
        for annotation in annotations:
            ids = {"id": len(self.content["annotations"]) + 1, "image_id": entry["id"]}
            self.content["annotations"].append(ids | annotation)
        return path

    @property
    def json(self) -> Path:
        return self.root / "instances.json"

    @property
    def name(self) -> str:
        """The dataset's name in place."""
        return f"coco_json:{self.json}:{self.root}/images"

    def write(self) -> str:
        """Writes the json and returns the dataset's name."""
        self.json.write_text(json.dumps(self.content))
        return self.name


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    )


def rectangle(left: float, top: float, width: float, height: float, **more: Any) -> dict[str, Any]:
    """Returns the annotation of a rectangle, as a polygon, of category 1."""
    right, bottom = left + width, top + height
    return {
        "category_id": 1,
        "bbox": [left, top, width, height],
        "area": width * height,
        "iscrowd": 0,
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
    } | more


def small_dataset(root: Path, images: int = 6) -> CocoFolder:
    """Wide and tall pictures in turn, one rectangle each, of two categories."""
    folder = CocoFolder(root, {1: "cat", 2: "dog"})
    for index in range(images):
        size = (48, 64) if index % 2 else (64, 48)
        boxes = [rectangle(5 + index, 8, 20, 24, category_id=1 + index % 2)]
        folder.add(f"{index}.png", noise(*size, seed=index), boxes)
    folder.write()
    return folder


def run_cfg(train: str, output: Path, *opts: Any, test: str = "") -> CfgNode:
    """Returns the configuration of a short run on a dataset, without augmentation."""
    return tiny_cfg(
        num_classes=0,
        opts=[
            *("DATASETS.TRAIN", (train,), "DATASETS.TEST", (test,) if test else ()),
            *("INPUT.MIN_SIZE_TRAIN", (48,), "INPUT.MIN_SIZE_TEST", 48),
            *("INPUT.RANDOM_FLIP", "none", "OUTPUT_DIR", str(output), "SEED", 3),
            *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 3, "SOLVER.STEPS", ()),
            *("SOLVER.WARMUP_ITERS", 0, "DATALOADER.NUM_WORKERS", 0),
            # Scores of about a half from the start, so that there is something to evaluate.
            *("MODEL.SOLOV2.PRIOR_PROB", 0.5),
            *opts,
        ],
    )


def write_cfg(path: Path, cfg: CfgNode) -> Path:
    """Writes a configuration's changes: reading all of its 900 keys takes a third of a second."""
    path.write_text(CfgNode({"VERSION": cfg.VERSION, **changes(cfg, _defaults())}).dump())
    return path


def changes(cfg: CfgNode, defaults: CfgNode) -> dict[str, Any]:
    """Returns what differs from the defaults, nested as the configuration is."""
    found = {}
    for key, value in cfg.items():
        default = defaults.get(key)
        if isinstance(value, CfgNode) and isinstance(default, CfgNode):
            value = changes(value, default)
            if value:
                found[key] = value
        elif key not in defaults or value != default or type(value) is not type(default):
            found[key] = value
    return found


@cache
def _defaults() -> CfgNode:
    return get_cfg()


def train_records(cfg: CfgNode) -> list[dict[str, Any]]:
    """The dicts of all training sets, after what can't be learnt was dropped."""
    return [record for records in load_train_dicts(cfg).values() for record in records]
