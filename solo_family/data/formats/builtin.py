"""Public datasets in `$DETECTRON2_DATASETS` that detectron2 does not register itself.

Class names are read from a file of the dataset. detectron2 itself registers ADE20K-150
(`ade20k_sem_seg_train`), Cityscapes (`cityscapes_fine_sem_seg_train`) and COCO panoptic
(`coco_2017_train_panoptic`). docs/datasets.md says how to make each folder.

This module runs at the end of the import of `detectron2.data`, which any module here may import at
its top. So it imports none of them before a dataset is read.
"""

import importlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import DataError

_SPLITS = ("train", "val")


class MissingFolder(DataError, FileNotFoundError):
    """Say that a dataset is not on this machine; its class names may be known nevertheless."""


def register_builtin(root: str | None = None) -> None:
    """Register the datasets; none is read before it is used.

    Args:
        root: the folder that has a folder for each dataset; None for `$DETECTRON2_DATASETS`.
    """
    if root is None:
        root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
    ade = Path(root, "ADEChallengeData2016")
    full = Path(root, "ADE20K_2021_17_01")
    stuff = Path(root, "coco", "coco_stuff_10k")
    vistas = Path(root, "mapillary_vistas")
    ade_dirs = {"train": "training", "val": "validation"}
    stuff_dirs = {"train": "train", "val": "test"}
    vistas_dirs = {"train": "training", "val": "validation"}
    sbd, coco = Path(root, "SBD"), Path(root, "coco")
    _register_instances(
        "coco_2014_val_first_5000",
        coco / "annotations" / "instances_val2014_first5000.json",
        coco / "val2014",
    )
    for split in _SPLITS:
        _register_semantic(
            f"ade20k_full_sem_seg_{split}",
            full / "images_detectron2" / ade_dirs[split],
            full / "annotations_detectron2" / ade_dirs[split],
            partial(_text_classes, full / "classes_847.txt"),
            ignore_label=65535,
        )
        _register_semantic(
            f"coco_2017_{stuff_dirs[split]}_stuff_10k_sem_seg",
            stuff / "images_detectron2" / stuff_dirs[split],
            stuff / "annotations_detectron2" / stuff_dirs[split],
            partial(_text_classes, stuff / "classes_171.txt"),
        )
        _register_semantic(
            f"coco_2017_{split}_panoptic_sem_seg",
            coco / f"{split}2017",
            coco / f"panoptic_semseg_{split}2017",
            partial(_text_classes, coco / "panoptic_semseg_classes.txt"),
        )
        _register_semantic(
            f"mapillary_vistas_sem_seg_{split}",
            vistas / vistas_dirs[split] / "images",
            vistas / vistas_dirs[split] / "labels",
            partial(_vistas_classes, vistas),
            ignore_label=65,
        )
        _register_instances(
            f"voc_sbd_instance_{split}", sbd / f"instances_{split}.json", sbd / "img"
        )
        _register_panoptic(
            f"ade20k_panoptic_{split}",
            ade / "images" / ade_dirs[split],
            ade / f"ade20k_panoptic_{split}",
            ade / f"ade20k_panoptic_{split}.json",
        )


def _register_instances(name: str, annotations: Path, image_dir: Path) -> None:
    from detectron2.data.datasets import register_coco_instances

    register_coco_instances(name, {}, str(annotations), str(image_dir))


def _register_semantic(
    name: str,
    image_dir: Path,
    label_dir: Path,
    read_classes: Callable[[], Sequence[str]],
    *,
    ignore_label: int = 255,
) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    def load() -> list[dict[str, Any]]:
        check_paths(name, [image_dir, label_dir])
        MetadataCatalog.get(name).set(stuff_classes=list(read_classes()))
        return _format("semantic").load_semantic(str(image_dir), str(label_dir))

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        image_root=str(image_dir),
        sem_seg_root=str(label_dir),
        ignore_label=ignore_label,
        evaluator_type="sem_seg",
    )


def _register_panoptic(name: str, image_dir: Path, panoptic_dir: Path, panoptic_json: Path) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    def load() -> list[dict[str, Any]]:
        check_paths(name, [image_dir, panoptic_dir])
        panoptic = _format("panoptic")
        MetadataCatalog.get(name).set(**panoptic.panoptic_metadata(str(panoptic_json)))
        return panoptic.load_panoptic(str(image_dir), str(panoptic_dir), str(panoptic_json))

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        image_root=str(image_dir),
        panoptic_root=str(panoptic_dir),
        panoptic_json=str(panoptic_json),
        evaluator_type="coco_panoptic_seg",
        ignore_label=255,
    )


def check_paths(
    name: str, folders: Iterable[str | Path | None], files: Iterable[str | Path | None] = ()
) -> None:
    """Check that the folders and files of a dataset exist.

    Args:
        name: of the dataset, for the message.
        folders: their paths; None for one that the dataset does not have.
        files: the same.

    Raises:
        MissingFolder: one does not exist.
    """
    missing = [("folder", path) for path in folders if path and not os.path.isdir(path)]
    missing += [("file", path) for path in files if path and not os.path.isfile(path)]
    for kind, path in missing:
        remedy = (
            "Name data of your own in DATASETS.TRAIN and TEST (docs/train_on_your_data.md); the "
            "files of public datasets, listed in docs/datasets.md, are in the folder that "
            "DETECTRON2_DATASETS names, by default ./datasets."
        )
        if ":" in name:  # its paths are in the name, wherever public datasets are
            remedy = "Correct this path in the name; it is relative to the current folder."
        raise MissingFolder(
            f"Dataset {name!r} needs the {kind} {path}, which does not exist. {remedy}"
        )


def _text_classes(path: Path) -> list[str]:
    return _format("semantic").read_class_names(str(path))


def _vistas_classes(root: Path) -> list[str]:
    """Return the evaluated classes in Mapillary's own config file, in the order of their labels."""
    for name in ("config.json", "config_v1.2.json"):
        path = root / name
        if path.is_file():
            labels = json.loads(path.read_text(encoding="utf-8"))["labels"]
            return [label["readable"] for label in labels if label["evaluate"]]
    raise DataError(
        f"{root} has neither config.json nor config_v1.2.json, which name the classes of Mapillary "
        "Vistas. Unpack the dataset there."
    )


def _format(name: str) -> Any:
    """Return the module that reads datasets of a format, "semantic" or "panoptic"."""
    return importlib.import_module(f"{__package__}.{name}_dataset")
