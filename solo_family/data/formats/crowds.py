"""Masks with `iscrowd` 1, which are crowds, or objects of a tool that writes it for any mask."""

from collections.abc import Sequence
from typing import Any

# The option that reads crowds as objects: `coco_json:ANNOTATIONS.json:IMAGE_DIR?crowd=objects`.
OBJECTS = "objects"
_MANY = 0.05


def are_of_a_tool(annotations: Sequence[dict[str, Any]]) -> bool:
    """Return whether crowds are probably objects that a tool has marked as crowds.

    That is so if all masks are crowds, or if crowds are at least 5 % of the annotations and most of
    the RLE masks. In COCO itself all RLE masks are crowds, but they are only about 1 % of the
    annotations.

    Args:
        annotations: with `iscrowd` and `segmentation`, of a COCO json or detectron2's dicts.
    """
    crowds = [a for a in annotations if a.get("iscrowd", 0)]
    if not crowds or len(crowds) == len(annotations):
        return bool(crowds)
    codes = [a for a in annotations if isinstance(a.get("segmentation"), dict)]
    of_codes = sum(isinstance(a.get("segmentation"), dict) for a in crowds)
    return len(crowds) >= _MANY * len(annotations) and 2 * of_codes > len(codes)
