"""Where the class count comes from, and what is said when it can't be right."""

import shutil
from pathlib import Path

import pytest
from detectron2.data import MetadataCatalog

from solo_family.data.formats.classes import (
    class_names,
    dataset_classes,
    is_class_agnostic,
    num_classes,
)
from solo_family.errors import ConfigError, DataError

from ...conftest import tiny_cfg, tiny_model
from ..coco import NAMES, write_dataset

KEY = "MODEL.SOLOV2.NUM_CLASSES"


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    return write_dataset(tmp_path / "data", [])


def test_zero_takes_the_datasets_count(dataset: str) -> None:
    assert num_classes(tiny_cfg(num_classes=0, opts=["DATASETS.TRAIN", (dataset,)]), KEY) == 2
    cfg = tiny_cfg(num_classes=0, opts=["DATASETS.TEST", (dataset,)])
    assert num_classes(cfg, KEY) == 2
    model = tiny_model(num_classes=0, opts=["DATASETS.TRAIN", (dataset,)])
    assert model.head.category_branch.logits.out_channels == 2


def test_the_training_set_comes_first(dataset: str) -> None:
    opts = ["DATASETS.TRAIN", (dataset,), "DATASETS.TEST", ("coco_2017_val",)]
    assert num_classes(tiny_cfg(num_classes=0, opts=opts), KEY) == 2


def test_a_count_that_agrees_is_kept(dataset: str) -> None:
    assert num_classes(tiny_cfg(num_classes=2, opts=["DATASETS.TRAIN", (dataset,)]), KEY) == 2
    cfg = tiny_cfg(num_classes=80, opts=["DATASETS.TRAIN", ("coco_2017_train",)])
    assert num_classes(cfg, KEY) == 80


@pytest.mark.parametrize("split", ["DATASETS.TRAIN", "DATASETS.TEST"])
def test_a_mismatch_names_both_counts_the_key_and_the_dataset(dataset: str, split: str) -> None:
    cfg = tiny_cfg(num_classes=3, opts=[split, (dataset,)])
    with pytest.raises(ConfigError) as error:
        num_classes(cfg, KEY)
    for words in (f"{KEY} is 3", dataset, "2 classes (dog, cat)", f"Set {KEY} 2, or 0"):
        assert words in str(error.value)
    with pytest.raises(ConfigError):
        tiny_model(num_classes=3, opts=[split, (dataset,)])


def test_without_a_dataset_the_count_is_as_given_and_zero_is_an_error() -> None:
    assert num_classes(tiny_cfg(num_classes=5), KEY) == 5
    with pytest.raises(ConfigError, match=rf"{KEY} is 0.*no dataset is named.*Set {KEY}"):
        num_classes(tiny_cfg(num_classes=0), KEY)


def test_a_dataset_without_class_names(tmp_path: Path) -> None:
    name = f"nameless_{tmp_path.name}"
    opts = ["DATASETS.TRAIN", (name,)]
    assert num_classes(tiny_cfg(num_classes=5, opts=opts), KEY) == 5
    with pytest.raises(ConfigError, match=f"{KEY} is 0.*{name}' has no class names"):
        num_classes(tiny_cfg(num_classes=0, opts=opts), KEY)


def test_a_registered_dataset_with_its_names_in_the_metadata(tmp_path: Path) -> None:
    name = f"named_{tmp_path.name}"
    MetadataCatalog.get(name).set(thing_classes=["a", "b", "c", "d"])
    assert num_classes(tiny_cfg(num_classes=0, opts=["DATASETS.TRAIN", (name,)]), KEY) == 4


def test_stored_names_stand_in_for_a_dataset_that_is_gone(dataset: str, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "data")
    opts = ["DATASETS.TRAIN", (dataset,)]
    with pytest.raises(DataError, match="there is no annotation file"):
        num_classes(tiny_cfg(num_classes=0, opts=opts), KEY)
    stored = [*opts, "MODEL.CLASS_NAMES", NAMES]
    assert num_classes(tiny_cfg(num_classes=0, opts=stored), KEY) == 2
    assert num_classes(tiny_cfg(num_classes=2, opts=stored), KEY) == 2
    assert class_names(tiny_cfg(num_classes=2, opts=stored)) == NAMES


def test_class_names_of_the_dataset_the_config_or_nothing(dataset: str) -> None:
    assert dataset_classes(dataset) == NAMES
    assert class_names(tiny_cfg(opts=["DATASETS.TRAIN", (dataset,)])) == NAMES
    assert class_names(tiny_cfg()) == []


def test_a_class_agnostic_method_has_one_class_whatever_the_dataset_has(dataset: str) -> None:
    key = "MODEL.INSTANCE_FCN.NUM_CLASSES"
    cfg = tiny_cfg("InstanceFCN", 80, ["DATASETS.TRAIN", (dataset,)])
    assert is_class_agnostic(cfg)
    assert num_classes(cfg, key) == 1
    assert class_names(cfg) == ["object"]
    assert not is_class_agnostic(tiny_cfg())


def test_with_a_classifier_its_classes_are_the_datasets(dataset: str) -> None:
    key = "MODEL.INSTANCE_FCN.NUM_CLASSES"
    opts = ["DATASETS.TRAIN", (dataset,), "MODEL.INSTANCE_FCN.CLASSIFY", True]
    cfg = tiny_cfg("InstanceFCN", 0, opts)
    assert not is_class_agnostic(cfg)
    assert num_classes(cfg, key) == 2
    assert class_names(cfg) == NAMES
    with pytest.raises(ConfigError, match=f"{key} is 80"):
        num_classes(tiny_cfg("InstanceFCN", 80, opts), key)
