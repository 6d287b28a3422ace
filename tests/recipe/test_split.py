"""Validation images that are no near-duplicates of training images."""

from typing import Any

import pytest

from solo_family.recipe.split import split_by_stem, stem_of


def content(names: list[str], classes: list[int] | None = None) -> dict[str, Any]:
    return {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": c}
            for n, c in enumerate(classes or [1] * len(names))
        ],
        "categories": [],
    }


def names_of(part: dict[str, Any]) -> set[str]:
    return {image["file_name"] for image in part["images"]}


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a_1.jpg", "a"),
        ("a_2.jpg", "a"),
        ("a-03.png", "a"),
        ("a (3).jpg", "a"),
        ("a_copy.jpg", "a"),
        ("a_1_copy.jpg", "a"),
        ("day/a_1.jpg", "day/a"),
        ("a_jpg.rf.0123456789abcdef0123456789abcdef.jpg", "a"),
        ("PennPed00001.png", "PennPed00001"),
        ("000000001.jpg", "000000001"),
        ("_1.jpg", "_1"),
        ("day/_1.jpg", "day/_1"),
    ],
)
def test_stems(name: str, stem: str) -> None:
    assert stem_of(name) == stem


def test_near_duplicates_are_on_one_side() -> None:
    names = [f"s{scene:02}_{shot}.jpg" for scene in range(20) for shot in range(3)]
    splits = split_by_stem(content(names))
    train, val = names_of(splits["train"]), names_of(splits["val"])
    assert train | val == set(names)
    assert len(val) == 12
    assert not {stem_of(n) for n in train} & {stem_of(n) for n in val}
    used = {a["image_id"] for a in splits["val"]["annotations"]}
    assert used == {image["id"] for image in splits["val"]["images"]}


def test_the_frames_of_one_film_are_cut_once() -> None:
    names = [f"frame_{n:03}.jpg" for n in range(50)]
    assert names_of(split_by_stem(content(names))["val"]) == set(names[40:])


def test_no_class_is_left_to_validation_alone() -> None:
    names = [f"{n:03}.jpg" for n in range(50)]
    classes = [2 if n in (4, 9) else 1 for n in range(50)]
    splits = split_by_stem(content(names, classes))
    assert {a["category_id"] for a in splits["train"]["annotations"]} == {1, 2}
    assert len(splits["val"]["images"]) == 9


def test_about_a_fifth_is_split_off_where_few_groups_have_most_images() -> None:
    """Two films and seventeen single pictures, as in CamVid."""
    names = [f"a_{n}.png" for n in range(11)] + [f"m{n}x.png" for n in range(17)]
    names += [f"z_{n}.png" for n in range(32)]
    splits = split_by_stem(content(names))
    train, val = names_of(splits["train"]), names_of(splits["val"])
    assert len(val) == 12
    assert not {stem_of(n) for n in train} & {stem_of(n) for n in val}


@pytest.mark.parametrize("count", range(1, 12))
def test_few_images(count: int) -> None:
    splits = split_by_stem(content([f"{n}.jpg" for n in range(count)]))
    assert len(splits["train"]["images"]) >= 1
    assert ("val" in splits) == (count > 1)
    if count > 1:
        assert 1 <= len(splits["val"]["images"]) <= max(1, count // 2)


@pytest.mark.parametrize("kinds", ["ab", "abc", "abcde", "abcdefghij"])
@pytest.mark.parametrize("name", ["{}_{:02}.jpg", "{} ({}).jpg", "{}/{:02}.jpg"])
def test_classes_that_name_their_images_are_on_both_sides(kinds: str, name: str) -> None:
    names = [name.format(kind, n) for kind in kinds for n in range(20)]
    splits = split_by_stem(content(names, [ord(name[0]) for name in names]))
    for part in splits.values():
        assert {a["category_id"] for a in part["annotations"]} == set(map(ord, kinds))
    assert len(splits["val"]["images"]) == len(names) // 5


def test_images_in_the_order_of_their_classes() -> None:
    """A camera's names tell nothing; a class of four images stays in training."""
    names = [f"IMG_{n:04}.jpg" for n in range(104)]
    classes = [1] * 50 + [2] * 50 + [3] * 4
    splits = split_by_stem(content(names, classes))
    of_train, of_val = (
        [a["category_id"] for a in splits[split]["annotations"]] for split in ("train", "val")
    )
    assert [of_val.count(label) for label in (1, 2, 3)] == [10, 10, 0]
    assert [of_train.count(label) for label in (1, 2, 3)] == [40, 40, 4]


def test_training_needs_every_image() -> None:
    whole = content(["a.jpg", "b.jpg"], [1, 2])
    assert split_by_stem(whole) == {"train": whole}


@pytest.mark.parametrize("name", ["{}{}.jpg", "film_{}{}.jpg"])  # with groups, and one film
def test_validation_has_an_object_where_most_images_have_none(name: str) -> None:
    names = [name.format("abcdefghij"[n], n) for n in range(10)]
    whole = content(names)
    # Training can spare one of the three images of the first class.
    whole["annotations"] = [
        {"id": n, "image_id": n, "category_id": c} for n, c in enumerate([1, 1, 1, 2])
    ]
    splits = split_by_stem(whole)
    assert {a["category_id"] for a in splits["val"]["annotations"]} == {1}
    assert {a["category_id"] for a in splits["train"]["annotations"]} == {1, 2}
    assert len(names_of(splits["train"]) | names_of(splits["val"])) == 10
    whole["annotations"] = whole["annotations"][2:]
    assert not split_by_stem(whole)["val"]["annotations"]  # training needs both
