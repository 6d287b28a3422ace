"""One annotation set in twelve dialects of COCO's format gives the same numbers everywhere.

The reference is pycocotools alone, on the plain file.
"""

import copy
import json
from argparse import Namespace
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from solo_family.cli import errors
from solo_family.data.checks.dataset_check import check_coco_dataset
from solo_family.data.formats import coco_file
from solo_family.data.loading.dataset_mapper import MaskDatasetMapper
from solo_family.engine.trainer import Trainer
from solo_family.evaluation.kinds import coco_evaluator
from solo_family.evaluation.proposal_recall import ProposalRecallEvaluator

from ...coco_folder import CocoFolder, noise, rectangle, run_cfg, train_records

HEIGHT, WIDTH = 48, 64
Content = dict[str, Any]
# left, top, width, height, category; the last of each image is a crowd.
BOXES = [
    [(2, 3, 20, 16, 1), (30, 6, 24, 30, 2), (4, 26, 18, 18, 1)],
    [(5, 5, 12, 30, 2), (28, 4, 30, 12, 2), (30, 24, 24, 20, 2)],
    [(10, 10, 40, 30, 1), (1, 1, 7, 7, 2)],
]
# How far each is found from where it is; None where it isn't found.
SHIFTS = [[0, 3, 0], [0, None, 2], [4, 0]]


def plain(root: Path) -> CocoFolder:
    folder = CocoFolder(root, {1: "cat", 2: "dog"})
    for index, boxes in enumerate(BOXES):
        objects = [rectangle(*box, category_id=category) for *box, category in boxes]
        objects[-1]["iscrowd"] = 1
        folder.add(f"{index}.png", noise(HEIGHT, WIDTH, seed=index), objects)
    return folder


def each(content: Content, part: str, **changes: Callable[[Any], Any]) -> None:
    for item in content[part]:
        for key, change in changes.items():
            item[key] = change(item[key])


def from_zero(content: Content) -> None:
    down = {"id": lambda value: value - 1}
    for part in ("images", "categories", "annotations"):
        each(content, part, **down)
    each(content, "annotations", image_id=down["id"], category_id=down["id"])


def any_integers(content: Content) -> None:
    each(content, "annotations", id=lambda value: value * 10**12 - 3 * 10**12)


def all_text(content: Content) -> None:
    for part in ("images", "categories", "annotations"):
        each(content, part, id=str)
    each(content, "annotations", image_id=str, category_id=str)


def text_in_annotations(content: Content) -> None:
    each(content, "annotations", id=lambda value: f"9b1d-{value}", image_id=str)


def fractions(content: Content) -> None:
    each(content, "annotations", id=float, image_id=float, category_id=float, iscrowd=float)
    each(content, "images", height=float, width=float)


def bare(content: Content) -> None:
    for annotation in content["annotations"]:
        for key in ("id", "area", "bbox"):
            del annotation[key]
        if not annotation["iscrowd"]:
            del annotation["iscrowd"]


def pairs(content: Content) -> None:
    each(content, "annotations", segmentation=lambda p: [np.reshape(p, (-1, 2)).tolist()])


def flat_text(content: Content) -> None:
    each(content, "annotations", segmentation=lambda p: [str(v) for v in p[0]])


def rle(content: Content, compress: bool) -> None:
    for annotation in content["annotations"]:
        code = mask_util.merge(mask_util.frPyObjects(annotation["segmentation"], HEIGHT, WIDTH))
        annotation["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()}
        if not compress:
            pixels = mask_util.decode(code).ravel(order="F")
            edges = np.flatnonzero(np.diff(np.concatenate([[0], pixels, [-1]])))
            runs = np.diff(np.concatenate([[0], edges])).tolist()
            annotation["segmentation"]["counts"] = runs


def ignored(content: Content) -> None:
    for annotation in content["annotations"]:
        annotation["ignore"] = annotation.pop("iscrowd")


def text_sizes_and_paths(content: Content) -> None:
    each(content, "images", height=str, width=lambda _: None)
    each(content, "images", file_name=lambda name: f"..\\media\\upload\\0123abcd-{name}")


def of_lvis(content: Content) -> None:
    """Images with an address in place of a name; most annotations without `iscrowd`."""
    for image in content["images"]:
        image["coco_url"] = f"http://images.cocodataset.org/val2017/{image.pop('file_name')}"
        image |= {"neg_category_ids": [2], "not_exhaustive_category_ids": [1], "flickr_url": ""}
    for annotation in content["annotations"]:
        if not annotation["iscrowd"]:
            del annotation["iscrowd"]
    for category in content["categories"]:
        category |= {"synset": "cat.n.01", "synonyms": ["cat"], "frequency": "r", "def": "a cat"}


DIALECTS: dict[str, Callable[[Content], Any]] = {
    "plain": lambda content: None,
    "ids from 0": from_zero,
    "any integers": any_integers,
    "ids as text": all_text,
    "names in annotations": text_in_annotations,
    "fractions": fractions,
    "without area, box, id, iscrowd": bare,
    "points as pairs": pairs,
    "a flat polygon of text": flat_text,
    "compressed RLE": lambda content: rle(content, compress=True),
    "runs, with a byte-order mark": lambda content: rle(content, compress=False),
    "ignore": ignored,
    "sizes as text or unknown, uploaded paths": text_sizes_and_paths,
    "LVIS": of_lvis,
}


def guesses(index: int) -> Instances:
    """The predictions for an image, the surest first."""
    kept = [(box, shift) for box, shift in zip(BOXES[index], SHIFTS[index]) if shift is not None]
    masks = torch.zeros(len(kept), HEIGHT, WIDTH, dtype=torch.bool)
    boxes = torch.zeros(len(kept), 4)
    for number, ((left, top, width, height, _), shift) in enumerate(kept):
        left += shift
        masks[number, top : top + height, left : left + width] = True
        boxes[number] = torch.tensor([left, top, left + width, top + height])
    classes = torch.tensor([box[4] - 1 for box, _ in kept])
    scores = torch.linspace(0.9, 0.3, len(kept)) - 0.01 * index
    return Instances(
        (HEIGHT, WIDTH), pred_masks=masks, pred_boxes=Boxes(boxes), scores=scores,
        pred_classes=classes,
    )  # fmt: skip


def run(evaluator: Any, name: str) -> dict[str, Any]:
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        index = int(Path(record["file_name"]).stem)
        evaluator.process([record], [{"instances": guesses(index)}])
    return evaluator.evaluate()


def reference(path: Path) -> float:
    """AP of the masks by pycocotools alone, in percent."""
    results = []
    for index in range(len(BOXES)):
        found = guesses(index)
        for mask, score, label in zip(found.pred_masks, found.scores, found.pred_classes):
            code = mask_util.encode(np.asfortranarray(mask.numpy(), np.uint8))
            result = {"image_id": index + 1, "category_id": int(label) + 1, "score": float(score)}
            results.append(result | {"segmentation": code})
    with redirect_stdout(StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return 100 * float(evaluation.stats[0])


def all_numbers(name: str, output: Path) -> dict[str, Any]:
    """Returns what training, both evaluations, errors, check-data and recall make of a dataset."""
    cfg = run_cfg(name, output, test=name)
    mapper = MaskDatasetMapper(cfg, is_train=True)
    learnt = [mapper(record)["instances"] for record in train_records(cfg)]
    numbers: dict[str, Any] = {
        "learnt": [
            (i.gt_classes.tolist(), i.gt_masks.tensor.flatten(1).sum(1).tolist()) for i in learnt
        ],
        "train_net": run(Trainer.build_evaluator(cfg, name, str(output / "inference")), name),
        "evaluate": run(coco_evaluator(name, str(output / "evaluate")), name),
        "recall": run(ProposalRecallEvaluator(name, str(output / "recall")), name),
    }
    metadata = MetadataCatalog.get(name)
    args = Namespace(annotations=None, config_file=str(_config(output, name)), opts=[])
    _, truth = errors._read_truth(args)
    predictions = str(output / "inference" / "coco_instances_results.json")
    results = errors.read_results(predictions, truth)
    numbers["errors"] = errors.analyse_errors(truth, results, 0.5)["oracles"]
    check = check_coco_dataset(metadata.json_file, metadata.image_root)
    numbers["check-data"] = (check.boxes, check.areas, check.image_sizes, check.problems)
    return rounded(numbers)


def rounded(value: Any) -> Any:
    """Texts for ids are evaluated by pycocotools, numbers by a faster package."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return f"{float(value):.9g}" if isinstance(value, int | float) else value


def _config(output: Path, name: str) -> Path:
    path = output / "config.yaml"
    path.write_text(f"DATASETS:\n  TEST: [{json.dumps(name)}]\n")
    return path


def test_twelve_dialects_give_the_same_numbers(tmp_path: Path) -> None:
    folder = plain(tmp_path / "plain")
    folder.write()
    expected_ap = reference(folder.json)
    whole, expected = copy.deepcopy(folder.content), None
    for number, (dialect, change) in enumerate(DIALECTS.items()):
        content = copy.deepcopy(whole)
        change(content)
        path = folder.root / f"{number}.json"
        mark = "\ufeff" if "byte-order" in dialect else ""
        path.write_text(mark + json.dumps(content), encoding="utf-8")
        output = tmp_path / f"output{number}"
        output.mkdir()
        numbers = all_numbers(f"coco_json:{path}:{folder.root}/images", output)
        expected = expected or numbers
        for key, value in numbers.items():
            assert value == expected[key], (dialect, key)
    assert len(DIALECTS) >= 12
    assert expected is not None
    for verb in ("train_net", "evaluate"):
        assert float(expected[verb]["segm"]["AP"]) == pytest.approx(expected_ap)
    assert float(expected["errors"]["as predicted"]["AP"]) == pytest.approx(expected_ap)


def test_a_json_is_parsed_once_whoever_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = plain(tmp_path / "data")
    parsed = []
    parse = coco_file.parse
    monkeypatch.setattr(coco_file, "parse", lambda path: parsed.append(path) or parse(path))
    (tmp_path / "output").mkdir()
    all_numbers(folder.write(), tmp_path / "output")
    assert parsed == [str(folder.json)]
    # Another file of the same name is another.
    folder.content["annotations"].pop()
    folder.write()
    assert sum(len(r["annotations"]) for r in DatasetCatalog.get(folder.name)) == 7
    assert len(parsed) == 2


def test_a_dataset_of_dicts_is_evaluated_as_it_is_now(tmp_path: Path) -> None:
    """detectron2 would take the json that it wrote the first time."""
    name = f"dicts/{tmp_path.name}"
    records: list[dict[str, Any]] = []
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(thing_classes=["cat", "dog"])
    for count in (3, 2):
        objects = [
            {
                "bbox": box[:4],
                "bbox_mode": 1,
                "category_id": box[4] - 1,
                "segmentation": rectangle(*box[:4])["segmentation"],
            }
            for box in map(list, BOXES[0][:count])
        ]
        record = {"file_name": "0.png", "image_id": 7, "height": HEIGHT, "width": WIDTH}
        records[:] = [record | {"annotations": objects}]
        metrics = run(coco_evaluator(name, str(tmp_path)), name)["segm"]
        recall = run(ProposalRecallEvaluator(name, str(tmp_path)), name)["proposals"]
        found = [box for box, shift in zip(BOXES[0][:count], SHIFTS[0]) if shift == 0]
        assert recall["R90@100"] == pytest.approx(100 * len(found) / count)
        cat, dog = (metrics[f"AP-{label}"] for label in ("cat", "dog"))
        assert (cat, dog) == pytest.approx((100, dog))
