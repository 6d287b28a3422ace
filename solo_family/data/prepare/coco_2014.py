"""COCO val2014's first 5,000 images, on which InstanceFCN's COCO numbers are.

The papers (DeepMask, InstanceFCN) say no more than "the first 5k"; these are those of the lowest
ids.
"""

import json
from pathlib import Path

from ...files import replacing
from ..formats.coco_file import read_coco_file
from .files import Prepared, need

FIRST = 5000


def prepare(root: Path) -> list[Prepared]:
    """Write `coco/annotations/instances_val2014_first5000.json`.

    Args:
        root: the folder of all datasets.

    Raises:
        DataError: the original is missing or broken.
    """
    folder = root / "coco" / "annotations"
    source = need(
        folder / "instances_val2014.json", "unpack annotations_trainval2014.zip (cocodataset.org)."
    )
    file = read_coco_file(str(source))
    file.check()
    images = sorted(file.content["images"], key=lambda image: image["id"])[:FIRST]
    ids = {image["id"] for image in images}
    annotations = [a for a in file.content["annotations"] if a["image_id"] in ids]
    output = folder / "instances_val2014_first5000.json"
    with replacing(output) as temporary:
        content = file.content | {"images": images, "annotations": annotations}
        temporary.write_text(json.dumps(content, default=list), encoding="utf-8")
    return [Prepared("val", len(images), FIRST, len(images), output)]
