"""VOC 2012 with the instance masks of SBD, in COCO's format.

InstanceFCN (arXiv 1603.08678) trains on 5,623 images, those of VOC 2012's `train` that SBD
(Hariharan et al., ICCV 2011) has masks of, and tests on 5,732 of its `val`. VOC itself has masks of
1,464 and 1,449 of them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_util
from scipy.io import loadmat

from ...errors import DataError
from ...files import replacing
from ...progress import Progress
from ..formats.voc import VOC_CLASSES
from .files import Prepared, need

EXPECTED = {"train": 5623, "val": 5732}


def prepare(root: Path) -> list[Prepared]:
    """Write `SBD/instances_train.json` and `instances_val.json`.

    Args:
        root: the folder of all datasets, with `VOC2012/ImageSets/Main` and SBD's `SBD/inst`,
            `SBD/img`.

    Raises:
        DataError: the originals are missing, or a file has an unknown class.
    """
    folder = need(
        root / "SBD" / "inst",
        "unpack SBD's benchmark.tgz, and move the content of benchmark_RELEASE/dataset to SBD.",
    ).parent
    prepared = []
    for split, expected in EXPECTED.items():
        names = need(
            root / "VOC2012" / "ImageSets" / "Main" / f"{split}.txt",
            "unpack VOCtrainval_11-May-2012, and move its folder VOC2012 there.",
        )
        paths = [
            folder / "inst" / f"{name}.mat" for name in names.read_text(encoding="utf-8").split()
        ]
        paths = [path for path in paths if path.exists()]
        if not paths:
            raise DataError(f"{folder / 'inst'} has no image of {names}. Unpack SBD there.")
        output = folder / f"instances_{split}.json"
        content = _content(folder, paths, split)
        with replacing(output) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")
        prepared.append(Prepared(split, len(paths), expected, len(paths), output))
    return prepared


def _content(folder: Path, paths: list[Path], split: str) -> dict[str, Any]:
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": name} for i, name in enumerate(VOC_CLASSES, 1)],
    }
    for number, path in enumerate(Progress(paths, split, unit="image"), 1):
        need(folder / "img" / f"{path.stem}.jpg", "the archive is not complete.")
        instances = loadmat(str(path))["GTinst"][0, 0]
        masks, classes = instances["Segmentation"], instances["Categories"].ravel()
        height, width = masks.shape
        content["images"].append(
            {"id": number, "file_name": f"{path.stem}.jpg", "height": height, "width": width}
        )
        for index, category in enumerate(classes, 1):
            if not 1 <= category <= len(VOC_CLASSES):
                raise DataError(f"{path} has an object of class {category}; there are 20.")
            mask = np.asfortranarray(masks == index, dtype=np.uint8)
            rle = mask_util.encode(mask)
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": int(category),
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                    "bbox": mask_util.toBbox(rle).tolist(),
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                }
            )
    return content
