"""Folds for cross-validation: each image once, near-duplicates together, equal sizes."""

import pytest

from solo_family.errors import DataError
from solo_family.recipe.folds import split_folds
from solo_family.recipe.split import stem_of

from .test_split import content, names_of


def test_each_image_is_for_validation_once_with_its_near_duplicates() -> None:
    names = [f"s{scene:02}_{shot}.jpg" for scene in range(17) for shot in range(1 + scene % 4)]
    folds = split_folds(content(names), 5)
    assert sorted(name for fold in folds for name in names_of(fold["val"])) == sorted(names)
    for fold in folds:
        train, val = names_of(fold["train"]), names_of(fold["val"])
        assert train | val == set(names)
        assert not train & val
        assert not {stem_of(name) for name in train} & {stem_of(name) for name in val}
        assert {a["image_id"] for a in fold["val"]["annotations"]} == {
            image["id"] for image in fold["val"]["images"]
        }
    sizes = [len(fold["val"]["images"]) for fold in folds]
    assert max(sizes) - min(sizes) <= 4
    assert split_folds(content(names[::-1]), 5)[0]["val"]["images"][0]["file_name"] in names


def test_frames_of_one_film_are_cut_into_runs() -> None:
    names = [f"film_{frame:03}.jpg" for frame in range(10)]
    folds = [sorted(names_of(fold["val"])) for fold in split_folds(content(names), 3)]
    assert folds == [names[:4], names[4:7], names[7:]]


@pytest.mark.parametrize("name", ["{}_{:02}.jpg", "{}/{:02}.jpg", "{}/img_{:02}.jpg"])
def test_a_class_that_names_its_images_is_in_each_training(name: str) -> None:
    names = [name.format(word, n) for word in "abcde" for n in range(7)]
    classes = [ord(name[0]) for name in names]
    folds = split_folds(content(names, classes), 5)
    assert sorted(name for fold in folds for name in names_of(fold["val"])) == sorted(names)
    for fold in folds:
        for part in fold.values():
            assert {a["category_id"] for a in part["annotations"]} == set(classes)


def test_a_class_of_one_scene_does_not_part_the_others() -> None:
    names = [f"s{scene:02}_{shot}.jpg" for scene in range(17) for shot in range(3)]
    folds = split_folds(content(names, [2] * 3 + [1] * 48), 5)
    for fold in folds:
        train, val = names_of(fold["train"]), names_of(fold["val"])
        assert not {stem_of(name) for name in train} & {stem_of(name) for name in val}


def test_a_class_of_one_image_does_not_part_scenes() -> None:
    names = [f"s{scene}_{shot}.jpg" for scene in range(3) for shot in range(3)]
    for fold in split_folds(content(names, [2] + [1] * 8), 3):
        train, val = names_of(fold["train"]), names_of(fold["val"])
        assert not {stem_of(name) for name in train} & {stem_of(name) for name in val}


@pytest.mark.parametrize("count", range(5, 40))
def test_images_of_few_classes_make_folds_of_similar_size(count: int) -> None:
    names = [f"{'abc'[n * 3 // count]}_{n:02}.jpg" for n in range(count)]
    folds = split_folds(content(names, [ord(name[0]) for name in names]), 5)
    sizes = [len(fold["val"]["images"]) for fold in folds]
    assert sum(sizes) == count
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 3


@pytest.mark.parametrize("folds", [1, 4])
def test_more_folds_than_images(folds: int) -> None:
    with pytest.raises(DataError, match="3 images can't be split"):
        split_folds(content(["a.jpg", "b.jpg", "c.jpg"]), folds)
