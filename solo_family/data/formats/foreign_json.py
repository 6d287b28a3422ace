"""The jsons of other tools that are not in COCO's format, and what to do with each."""

from collections.abc import Callable
from typing import Any

_OWN = "Export it in COCO's format"


def _first(content: Any) -> dict[str, Any]:
    """Return the first object of a list, or the first value of an object; empty if none is one."""
    items = content if isinstance(content, list) else list(content.values())
    return items[0] if items and isinstance(items[0], dict) else {}


def _is_via(content: Any) -> bool:
    return "_via_img_metadata" in content or {"filename", "regions"} <= _first(content).keys()


def _is_label_studio(content: Any) -> bool:
    first = _first(content) if isinstance(content, list) else {}
    return {"annotations", "data"} <= first.keys() or {"annotation_id", "image"} <= first.keys()


def _is_geojson(content: Any) -> bool:
    one = content if isinstance(content, dict) else _first(content)
    return one.get("type") in ("FeatureCollection", "Feature")


def _is_datumaro(content: Any) -> bool:
    return isinstance(content, dict) and {"items", "categories"} <= content.keys()


def _has(*keys: str) -> Callable[[Any], bool]:
    return lambda content: isinstance(content, dict) and set(keys) <= content.keys()


# What a file is, whether a content is it, and what to do.
_KNOWN: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (
        "labelme's json of one image",
        _has("shapes", "imagePath"),
        "Convert the folder of them: python -m solo_family labelme FOLDER --output OUTPUT.",
    ),
    (
        "Cityscapes' json of one image",
        _has("imgHeight", "imgWidth", "objects"),
        "Name the dataset cityscapes_fine_sem_seg_train, or convert the polygons to COCO's format.",
    ),
    ("Supervisely's json of one image", _has("size", "objects"), f"{_OWN} there."),
    ("Datumaro's own json", _is_datumaro, f"{_OWN}: datum convert -if datumaro -f coco_instances."),
    ("VIA's own json", _is_via, f"{_OWN} there (Annotation, Export Annotations)."),
    ("Label Studio's own json", _is_label_studio, f"{_OWN} there (Export, COCO)."),
    (
        "GeoJSON, as of QuPath",
        _is_geojson,
        "Export label images there, and name the dataset masks:IMAGE_DIR:MASK_DIR.",
    ),
)


def known_as(content: Any) -> tuple[str, str] | None:
    """Return what a json is that is not in COCO's format, and what to do; None if it is unknown.

    Args:
        content: of the json.
    """
    if not isinstance(content, dict | list):
        return None
    return next(((what, remedy) for what, is_it, remedy in _KNOWN if is_it(content)), None)
