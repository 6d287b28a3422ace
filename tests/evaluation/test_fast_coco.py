import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from detectron2.evaluation import COCOEvaluator, coco_evaluation

from solo_family.data.formats.register import register_in_place
from solo_family.detectron2_patches import use_faster_coco_eval

FIXTURES = "eval_fixtures/cocoapi"


def evaluate(folder: Path, output: Path, fast: bool) -> dict[str, dict[str, float]]:
    name = f"coco_json:{folder}/instances_val2014_100.json:{folder}"
    register_in_place([name])
    evaluator = COCOEvaluator(name, tasks=("segm",), output_dir=str(output))
    assert not fast or use_faster_coco_eval(evaluator)
    results = json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text())
    by_image: dict[int, list] = {}
    for result in results:
        category = evaluator._metadata.thing_dataset_id_to_contiguous_id[result["category_id"]]
        by_image.setdefault(result["image_id"], []).append(result | {"category_id": category})
    predictions = [{"image_id": key, "instances": value} for key, value in by_image.items()]
    evaluator._predictions = predictions
    return evaluator.evaluate()


def test_the_published_ap_by_the_fast_way_and_the_slow(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faster_coco_eval")
    monkeypatch.setattr(coco_evaluation, "COCOeval_opt", coco_evaluation.COCOeval)
    slow = evaluate(data_root / FIXTURES, tmp_path / "slow", fast=False)["segm"]
    fast = evaluate(data_root / FIXTURES, tmp_path / "fast", fast=True)["segm"]
    assert coco_evaluation.COCOeval_opt is not coco_evaluation.COCOeval
    assert [round(fast[key], 1) for key in ("AP", "AP50", "AP75")] == [32.0, 56.2, 29.9]
    assert fast == pytest.approx(slow, nan_ok=True)


def test_without_the_package_detectron2s_own_way_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_evaluation, "COCOeval_opt", coco_evaluation.COCOeval)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not use_faster_coco_eval(SimpleNamespace())
    assert coco_evaluation.COCOeval_opt is coco_evaluation.COCOeval


def test_images_with_names_for_ids_are_left_to_pycocotools(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("faster_coco_eval")
    monkeypatch.setattr(coco_evaluation, "COCOeval_opt", coco_evaluation.COCOeval)
    for image_id, fast in ((7, True), ("2007_000033", False)):
        evaluator = SimpleNamespace(_coco_api=SimpleNamespace(imgs={image_id: {}}))
        assert use_faster_coco_eval(evaluator) == evaluator._use_fast_impl == fast
