"""Classes are known by their names: across training sets, in evaluation, and in what is written."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Boxes, Instances
from PIL import Image

from solo_family.data.formats.classes import (
    check_classes,
    class_ids,
    class_names,
    num_classes,
    with_classes,
)
from solo_family.data.formats.dataset_classes import without_blanks
from solo_family.engine.main import store_classes
from solo_family.engine.trainer import Trainer
from solo_family.errors import ConfigError, DataError
from solo_family.evaluation.build import mapped
from solo_family.evaluation.kinds import coco_evaluator
from solo_family.evaluation.mapped_classes import MappedClasses
from solo_family.predictor.load import class_metadata

from ...coco_folder import CocoFolder, noise, rectangle, run_cfg, train_records

KEY = "MODEL.SOLOV2.NUM_CLASSES"
BOXES = [(4, 4, 20, 20), (30, 8, 24, 30)]


def dataset(root: Path, categories: dict[int, str], labels: Sequence[str]) -> str:
    """A picture with an object of each of the labels."""
    ids = {name: identity for identity, name in categories.items()}
    folder = CocoFolder(root, categories)
    boxes = [rectangle(*box, category_id=ids[label]) for box, label in zip(BOXES, labels)]
    folder.add("0.png", noise(48, 64), boxes)
    return folder.write()


@pytest.fixture
def fruit(tmp_path: Path) -> str:
    return dataset(tmp_path / "fruit", {3: "apple", 7: "banana"}, ["apple", "banana"])


@pytest.fixture
def turned(tmp_path: Path) -> str:
    return dataset(tmp_path / "turned", {1: "banana", 2: "apple"}, ["apple", "banana"])


def cfg_of(tmp_path: Path, train: Sequence[str], *opts: Any, test: str = "") -> Any:
    return run_cfg("", tmp_path / "run", "DATASETS.TRAIN", tuple(train), *opts, test=test)


def labels_of(records: list[dict[str, Any]]) -> list[list[int]]:
    return [[item["category_id"] for item in record["annotations"]] for record in records]


def test_training_sets_are_joined_by_name(fruit: str, turned: str, tmp_path: Path) -> None:
    cfg = cfg_of(tmp_path, (fruit, turned))
    assert labels_of(train_records(cfg)) == [[0, 1], [0, 1]]
    assert labels_of(DatasetCatalog.get(turned)) == [[1, 0]]
    assert (class_names(cfg), class_ids(cfg)) == (["apple", "banana"], [3, 7])


def test_other_names_are_refused_and_the_advice_works(fruit: str, tmp_path: Path) -> None:
    other = dataset(tmp_path / "other", {3: "cherry", 9: "apple"}, ["cherry", "apple"])
    with pytest.raises(ConfigError, match=r"apple, banana; and cherry, apple") as error:
        num_classes(cfg_of(tmp_path, (fruit, other)), KEY)
    advice = ["DATASETS.CLASS_UNION", "True"]
    assert " ".join(advice) in str(error.value)
    cfg = cfg_of(tmp_path, (fruit, other), *advice)
    assert num_classes(cfg, KEY) == 3
    assert class_names(cfg) == ["apple", "banana", "cherry"]
    assert class_ids(cfg) == [3, 7, 8]  # 3 is the apple's
    assert labels_of(train_records(cfg)) == [[0, 1], [2, 0]]


def test_labels_of_several_kinds_are_refused(fruit: str, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    Image.new("L", (64, 48)).save(tmp_path / "labels" / "0.png")
    semantic = f"semantic:{tmp_path}/fruit/images:{tmp_path}/labels:apple,banana"
    with pytest.raises(ConfigError, match=r"labels of several kinds: .*instances; .*semantic"):
        train_records(cfg_of(tmp_path, (fruit, semantic)))


def found(labels: Sequence[int]) -> dict[str, Any]:
    """The two objects, exactly, of the model's classes."""
    masks = torch.zeros(2, 48, 64, dtype=torch.bool)
    for mask, (left, top, width, height) in zip(masks, BOXES):
        mask[top : top + height, left : left + width] = True
    boxes = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in BOXES], dtype=torch.float32)
    fields = {"scores": torch.ones(2), "pred_classes": torch.tensor(labels)}
    return {"instances": Instances((48, 64), pred_masks=masks, pred_boxes=Boxes(boxes), **fields)}


def score(cfg: Any, name: str, labels: Sequence[int] = (0, 1)) -> float:
    evaluator = Trainer.build_evaluator(cfg, name, str(cfg.OUTPUT_DIR))
    evaluator.reset()
    evaluator.process(DatasetCatalog.get(name), [found(labels)])
    return evaluator.evaluate()["segm"]["AP"]


def test_the_same_names_in_another_order_are_mapped(
    fruit: str, turned: str, tmp_path: Path
) -> None:
    cfg = with_classes(cfg_of(tmp_path, (fruit,)))
    assert score(cfg, fruit) == score(cfg, turned) == pytest.approx(100)
    check_classes(cfg, (fruit,), 2)


def test_exported_models_are_matched_by_name(turned: str, tmp_path: Path) -> None:
    evaluator = mapped(coco_evaluator(turned, str(tmp_path)), ["apple", "banana"], turned)
    evaluator.reset()
    evaluator.process(DatasetCatalog.get(turned), [found([0, 1])])
    assert evaluator.evaluate()["segm"]["AP"] == pytest.approx(100)


def test_training_stores_names_and_ids(fruit: str, tmp_path: Path) -> None:
    cfg = cfg_of(tmp_path, (fruit,), "MODEL.CLASS_NAMES", ["old"], "MODEL.CLASS_IDS", [1])
    store_classes(cfg, KEY)
    assert (cfg.MODEL.CLASS_NAMES, cfg.MODEL.CLASS_IDS) == (["apple", "banana"], [3, 7])


def test_other_names_are_refused_with_both_lists_and_a_way(turned: str, tmp_path: Path) -> None:
    cfg = cfg_of(tmp_path, (), "MODEL.CLASS_NAMES", ["Apple", "Banana"], test=turned)
    with pytest.raises(ConfigError, match=r"Apple, Banana \(2\).*banana, apple \(2\)") as error:
        check_classes(cfg, (), 2)
    key, value = str(error.value).split("evaluate with ")[1].rstrip(".").split(" ", 1)
    assert key == "MODEL.CLASS_NAMES"
    again = cfg_of(tmp_path, (), key, value.strip('"'), test=turned)
    check_classes(again, (), 2)
    assert score(again, turned, labels=(1, 0)) == pytest.approx(100)


def test_names_of_older_models_with_blanks_are_matched(turned: str, tmp_path: Path) -> None:
    cfg = cfg_of(tmp_path, (), "MODEL.CLASS_NAMES", ["apple ", " banana"], test=turned)
    check_classes(cfg, (), 2)
    assert score(cfg, turned) == pytest.approx(100)
    assert without_blanks(["a", "a "]) == ["a", "a "]


def test_a_model_without_names_is_matched_by_id_and_says_so(
    turned: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = cfg_of(tmp_path, (), test=turned)
    with caplog.at_level(logging.INFO, logger="solo_family"):
        check_classes(cfg, (), 2)
    assert "no names, so they are matched" in caplog.text
    assert score(cfg, turned, labels=(1, 0)) == pytest.approx(100)
    with pytest.raises(ConfigError, match=r"3 classes, without names.*has 2: banana, apple"):
        check_classes(cfg, (), 3)


def test_written_ids_are_the_same_with_the_dataset_and_without(
    fruit: str, turned: str, tmp_path: Path
) -> None:
    stored = with_classes(cfg_of(tmp_path, (fruit,)))
    assert (stored.MODEL.CLASS_NAMES, stored.MODEL.CLASS_IDS) == (["apple", "banana"], [3, 7])
    for test in ((), (fruit,), (turned,), (f"coco_json:{tmp_path}/gone.json:{tmp_path}",)):
        cfg = stored.clone()
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (), test
        metadata = class_metadata(cfg)
        assert metadata.thing_classes == ["apple", "banana"]
        assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}


class Kept(DatasetEvaluator):
    """Keeps what an evaluator is given."""

    def process(self, inputs: list[Any], outputs: list[dict[str, Any]]) -> None:
        (self.output,) = outputs


def test_semantic_and_panoptic_classes_are_mapped_too() -> None:
    kept = Kept()
    scores = torch.eye(3)[:, None]  # [K, 1, 3]: pixel i is of class i
    infos = [{"id": 1, "category_id": 0}, {"id": 2, "category_id": 2}]
    given = {"sem_seg": scores, "panoptic_seg": (torch.zeros(1, 3), infos)}
    MappedClasses(kept, [2, 0, 1]).process([{}], [given])
    assert kept.output["sem_seg"].argmax(0).tolist() == [[2, 0, 1]]
    assert [info["category_id"] for info in kept.output["panoptic_seg"][1]] == [2, 1]
    assert infos[0]["category_id"] == 0


def crowds(root: Path, share: float) -> str:
    folder = CocoFolder(root, {1: "cat"})
    for index in range(4):
        objects = [rectangle(*box, iscrowd=int(index < 4 * share)) for box in BOXES]
        folder.add(f"{index}.png", noise(48, 64), objects)
    return folder.write()


def test_training_on_crowds_alone_stops_and_the_advice_works(tmp_path: Path) -> None:
    name = crowds(tmp_path / "data", 1.0)
    with pytest.raises(DataError, match="all 8 masks that can be read are crowds") as error:
        train_records(cfg_of(tmp_path, (name,)))
    key, value = str(error.value).split("write ", 2)[2].rstrip(".").split(" ", 1)
    cfg = run_cfg("", tmp_path / "run", key, value.strip('"'))
    assert labels_of(train_records(cfg)) == [[0, 0]] * 4
    assert {a["iscrowd"] for r in train_records(cfg) for a in r["annotations"]} == {0}
    with pytest.raises(DataError, match=r"\?crowds=all is unknown"):
        train_records(cfg_of(tmp_path, (f"{name}?crowds=all",)))


def test_many_crowds_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = CocoFolder(tmp_path / "data", {1: "cat"})
    code = {"size": [48, 64], "counts": [10, 200, 48 * 64 - 210]}
    crowd = rectangle(*BOXES[0], iscrowd=1, segmentation=code)
    folder.add("0.png", noise(48, 64), [crowd, rectangle(*BOXES[1])])
    train_records(cfg_of(tmp_path, (folder.write(),)))
    assert "1 of 2 masks are crowds" in caplog.text


def test_training_on_nothing_stops(tmp_path: Path) -> None:
    folder = CocoFolder(tmp_path / "data", {1: "cat"})
    folder.add("0.png", noise(48, 64), [])
    opts = ("DATALOADER.FILTER_EMPTY_ANNOTATIONS", False)
    with pytest.raises(DataError, match="there is nothing to learn, because no image has"):
        Trainer.build_train_loader(cfg_of(tmp_path, (folder.write(),), *opts))
