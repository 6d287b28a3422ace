"""Selection of those categories of a COCO json that are classes."""

from .notices import Item, Notices


def classes_of(categories: list[Item], annotations: list[Item], notices: Notices) -> list[Item]:
    """Return the categories that are classes, in the order of their ids.

    Categories of the same name are merged into one class. Roboflow's first category, which only
    names the group of the others, is dropped.

    Args:
        categories: of the json; names that are missing or numbers become text, and lose blanks at
            their ends, in place.
        annotations: of the json; their category ids are changed in place where categories merge.
        notices: receives the conversions.
    """
    for category in categories:
        name = category.get("name")
        if name is None or (isinstance(name, int | float) and not isinstance(name, bool)):
            category["name"] = str(category["id"] if name is None else name)
            notices.add("'name' of categories", f"{name} as {category['name']!r}")
    strip_names(categories, notices)
    ids = [category["id"] for category in categories]
    if set(map(type, ids)) != {int} or len(set(ids)) < len(ids):
        return categories
    categories = sorted(categories, key=lambda category: category["id"])
    used = {a["category_id"] for a in annotations if type(a.get("category_id")) is int}
    group = categories[0]
    if len(categories) > 1 and group["id"] not in used and _is_group(group, categories[1:]):
        notices.add("category 0, Roboflow's name for all others, dropped", group["name"])
        categories = categories[1:]
    return _joined(categories, annotations, used, notices)


def strip_names(categories: list[Item], notices: Notices) -> None:
    """Remove blanks at the ends of names, in place, unless that made two classes one."""
    names = [category["name"] for category in categories]
    known = {name for name in names if isinstance(name, str)}
    if len({name.strip() for name in known}) < len(known):
        return
    for category, name in zip(categories, names):
        if isinstance(name, str) and name.strip() != name:
            category["name"] = name.strip()
            notices.add("'name' of categories", f"{name!r} as {category['name']!r}")


def _is_group(first: Item, others: list[Item]) -> bool:
    return (
        first["id"] == 0
        and first.get("supercategory") == "none"
        and all(other.get("supercategory") == first["name"] for other in others)
    )


def _joined(
    categories: list[Item], annotations: list[Item], used: set[int], notices: Notices
) -> list[Item]:
    names = [str(category["name"]) for category in categories]
    if len(set(names)) == len(names):
        return categories
    by_name: dict[str, Item] = {}
    for category in sorted(categories, key=lambda category: category["id"] not in used):
        by_name.setdefault(str(category["name"]), category)
    to_id = {c["id"]: by_name[str(c["name"])]["id"] for c in categories}
    for category in categories:
        if to_id[category["id"]] != category["id"]:
            notices.add("categories of the same name, merged", repr(category["name"]))
    for annotation in annotations:
        identity = annotation.get("category_id")
        if type(identity) is int and identity in to_id:
            annotation["category_id"] = to_id[identity]
    return sorted(by_name.values(), key=lambda category: category["id"])
