"""COCO's metrics by either library, beside pycocotools' own evaluation of the same results."""

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from solo_family.data.formats.register import register_in_place
from solo_family.evaluation.coco_metrics import coco_metrics, library_for
from solo_family.evaluation.instance_results import InstanceEvaluator

from ..forked import Forked

FIXTURES = "eval_fixtures/cocoapi"


def indexed(dataset: dict[str, Any]) -> COCO:
    truth = COCO()
    truth.dataset = copy.deepcopy(dataset)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def official(truth: COCO, results: list[dict], task: str) -> COCOeval:
    """pycocotools alone, with its twelve numbers; of results without boxes or without masks."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), task)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def random_case(seed: int, first_id: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Crowds, empty masks, equal scores, given areas, images and classes without anything."""
    rng = np.random.default_rng(seed)
    images: list[dict[str, Any]] = [
        {"id": first_id + index, "height": int(height), "width": int(width), "license": "free"}
        for index, (height, width) in enumerate(rng.integers(20, 140, (6, 2)))
    ]
    categories = [{"id": int(one), "name": f"c{one}"} for one in rng.permutation(12)[:4]]
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number in range(60):
        image = images[rng.integers(5)]
        mask = np.zeros((image["height"], image["width"]), np.uint8, order="F")
        top, left = rng.integers(0, 20, 2)
        mask[top : top + rng.integers(0, 130), left : left + rng.integers(1, 130)] = 1
        rle = mask_util.encode(mask)
        given: dict[str, Any] = {
            "image_id": image["id"],
            "category_id": categories[rng.integers(3)]["id"],
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
            "bbox": mask_util.toBbox(rle).tolist(),
        }
        results.append(given | {"score": float(np.float32(rng.integers(8) / 8))})
        if number % 3 == 0:
            crowd, area = int(rng.random() < 0.2), float(mask_util.area(rle)) + number
            fields = {"id": len(annotations) + 1, "iscrowd": crowd, "area": area}
            annotations.append(given | fields)
    dataset = {"info": {}, "images": images, "categories": categories, "annotations": annotations}
    return dataset, results


@pytest.mark.parametrize("task", ["segm", "bbox"])
@pytest.mark.parametrize("library", ["hotcoco", "pycocotools"])
def test_every_number_is_that_of_pycocotools_to_the_last_bit(task: str, library: str) -> None:
    for seed in range(12):
        dataset, results = random_case(seed, first_id=seed % 2 * 2**40)
        truth = indexed(dataset)
        assert library_for(truth, library) == library
        found = coco_metrics(truth, results, task, (1, 10, 100), library=library)
        other = "bbox" if task == "segm" else "segmentation"
        alone = [{key: value for key, value in one.items() if key != other} for one in results]
        expected = official(truth, alone, task)
        assert np.array_equal(found.stats, expected.stats)
        assert np.array_equal(found.eval["precision"], expected.eval["precision"])
        assert np.array_equal(found.eval["recall"], expected.eval["recall"])


def test_some_images_alone() -> None:
    dataset, results = random_case(1, first_id=0)
    truth = indexed(dataset)
    ways = [
        coco_metrics(truth, results, "segm", (1, 10, 100), images=[0, 2], library=library).stats
        for library in ("hotcoco", "pycocotools")
    ]
    every = coco_metrics(truth, results, "segm", (1, 10, 100)).stats
    assert np.array_equal(ways[0], ways[1])
    assert not np.array_equal(ways[0], every)


@pytest.mark.parametrize("odd", [-1, "2007_000033", 2**63, 1.5])
def test_other_ids_are_left_to_pycocotools(odd: Any) -> None:
    dataset, results = random_case(0, first_id=0)
    for image in dataset["images"]:
        image["id"] = odd if image["id"] == 0 else image["id"]
    for one in [*dataset["annotations"], *results]:
        one["image_id"] = odd if one["image_id"] == 0 else one["image_id"]
    truth = indexed(dataset)
    assert library_for(truth, "hotcoco") == "pycocotools"
    if not isinstance(odd, str):  # pycocotools sorts the ids
        found = coco_metrics(truth, results, "segm", (1, 10, 100)).stats
        masks = [{k: value for k, value in one.items() if k != "bbox"} for one in results]
        assert np.array_equal(found, official(truth, masks, "segm").stats)


def test_without_hotcoco_pycocotools_evaluates(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = indexed(random_case(0, first_id=0)[0])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert library_for(truth, "hotcoco") == "pycocotools"


def evaluated(folder: Path, output: Path, library: str) -> dict[str, dict[str, float]]:
    name = f"coco_json:{folder}/instances_val2014_100.json:{folder}"
    register_in_place([name])
    evaluator = InstanceEvaluator(name, ("segm",), str(output), library)
    results = json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text())
    by_image: dict[int, list] = {}
    for result in results:
        category = evaluator._metadata.thing_dataset_id_to_contiguous_id[result["category_id"]]
        by_image.setdefault(result["image_id"], []).append(result | {"category_id": category})
    evaluator._predictions = [
        {"image_id": key, "instances": value} for key, value in by_image.items()
    ]
    metrics = evaluator.evaluate()
    written = json.loads((output / "coco_instances_results.json").read_text())
    assert sorted(one["score"] for one in written) == sorted(one["score"] for one in results)
    assert {one["category_id"] for one in written} == {one["category_id"] for one in results}
    return metrics


def test_the_published_ap_of_cocos_fixture(data_root: Path, tmp_path: Path) -> None:
    fast, slow = (
        evaluated(data_root / FIXTURES, tmp_path / library, library)["segm"]
        for library in ("hotcoco", "pycocotools")
    )
    assert [round(fast[key], 1) for key in ("AP", "AP50", "AP75")] == [32.0, 56.2, 29.9]
    assert len(fast) == 6 + 80
    np.testing.assert_equal(fast, slow)


def test_a_process_that_was_forked_after_an_evaluation_evaluates_too(tmp_path: Path) -> None:
    pytest.importorskip("hotcoco")
    dataset, results = random_case(0, first_id=1)
    truth = indexed(dataset)
    stats = coco_metrics(truth, results, "segm", [1, 10, 100]).stats

    def main(_: list[str]) -> int:
        assert library_for(truth, "hotcoco") == "pycocotools"
        again = coco_metrics(truth, results, "segm", [1, 10, 100]).stats
        return 0 if np.array_equal(again, stats) else 1

    with Forked(main, [], tmp_path) as process:
        assert process.status(limit=120) == 0, process.printed
