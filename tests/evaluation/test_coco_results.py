"""Files of ground truth and predictions: what is wrong with them, in a line."""

import json
from pathlib import Path
from typing import Any

import pytest

from solo_family.errors import DataError
from solo_family.evaluation.coco_results import (
    average_precision,
    evaluate,
    read_results,
    read_truth,
)

from .scenes import HEIGHT, WIDTH, content, prediction, truth, write

BOX = (20, 10, 50, 40)
GOOD = prediction(BOX)


def changed(**values: Any) -> list[dict[str, Any]]:
    return [GOOD, GOOD | values]


def without(key: str) -> list[dict[str, Any]]:
    return [GOOD, {k: v for k, v in GOOD.items() if k != key}]


def with_mask(**values: Any) -> list[dict[str, Any]]:
    return changed(segmentation=GOOD["segmentation"] | values)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ({"annotations": []}, "predictions.json is not a list of predictions.* annotation file"),
        ([GOOD, 5], "prediction 1, counted from 0, has no image_id, category_id, score"),
        (without("score"), "prediction 1, .* has no score. Each needs image_id, category_id"),
        (without("segmentation"), "has no segmentation. .* Boxes alone can't be analysed"),
        (changed(image_id=99), "has image_id 99, which is not among the images"),
        (changed(image_id="one"), "has image_id 'one', which is not among"),
        (changed(image_id=[1]), r"has image_id \[1\], which is not among"),
        (changed(category_id=0), "has category_id 0, which is not among the categories.* index"),
        (changed(score="0.5"), "has score '0.5'; it must be a finite number"),
        (changed(score=True), "has score True; it must be a finite number"),
        (changed(score=float("nan")), "has score nan"),
        (changed(segmentation=[[1, 1, 5, 1, 5, 5]]), "has polygons as segmentation.*compressed"),
        (with_mask(counts=[0, 5]), "compressed RLE"),
        (changed(segmentation=None), "compressed RLE"),
        (with_mask(size=[WIDTH, HEIGHT]), rf"mask of size \[{WIDTH}, {HEIGHT}\], but image 1 is"),
        (with_mask(counts=GOOD["segmentation"]["counts"][:-2]), "damaged RLE"),
    ],
)
def test_wrong_predictions_are_named(tmp_path: Path, predictions: Any, message: str) -> None:
    annotations, path = write(tmp_path, [truth(BOX)], predictions)
    with pytest.raises(DataError, match=message):
        read_results(path, read_truth(annotations))


@pytest.mark.parametrize("as_text", [int, str, float, "{:06}".format])
def test_ids_are_those_of_the_annotations_in_whatever_form(tmp_path: Path, as_text: Any) -> None:
    ids = {key: as_text(GOOD[key]) for key in ("image_id", "category_id")}
    file, path = write(tmp_path, [truth(BOX)], [GOOD | ids])
    annotations = read_truth(file)
    results = read_results(path, annotations)
    assert results == [{key: GOOD[key] for key in results[0]}]
    assert average_precision(evaluate(annotations, results)) == pytest.approx(100)


def test_numbers_name_images_whose_ids_are_text(tmp_path: Path) -> None:
    annotations, path = write(tmp_path, [truth(BOX)], [GOOD])
    whole = json.loads(Path(annotations).read_text())
    other = {**whole["images"][0], "id": "a"}
    renamed = {**whole, "images": [*whole["images"], other]}
    Path(annotations).write_text(json.dumps(renamed))
    (result,) = read_results(path, read_truth(annotations))
    assert result["image_id"] == str(GOOD["image_id"])


def test_the_message_has_a_line_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the progress bar's."""
    annotations, path = write(tmp_path, [truth(BOX)], changed(image_id=99))
    dataset = read_truth(annotations)
    with pytest.raises(DataError):
        read_results(path, dataset)
    assert capsys.readouterr().err.endswith("\n")


def test_predictions_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    annotations, _ = write(tmp_path, [truth(BOX)], [])
    dataset = read_truth(annotations)
    with pytest.raises(DataError, match=r"none\.json can't be read"):
        read_results(str(tmp_path / "none.json"), dataset)
    (tmp_path / "text.json").write_text("[{]")
    with pytest.raises(DataError, match=r"text\.json is not JSON"):
        read_results(str(tmp_path / "text.json"), dataset)


def test_ground_truth_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    test_set = content([])
    del test_set["annotations"]
    path.write_text(json.dumps(test_set))
    with pytest.raises(DataError, match="no ground truth to compare with"):
        read_truth(str(path))


def test_damaged_ground_truth_is_left_out_as_in_training(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    whole, damaged = truth(BOX), truth(BOX) | {"id": 7}
    damaged["segmentation"] = damaged["segmentation"] | {"counts": "hello"}
    path.write_text(json.dumps(content([damaged, whole])))
    (kept,) = read_truth(str(path)).dataset["annotations"]
    assert kept["segmentation"]["counts"] == whole["segmentation"]["counts"]


def test_boxes_of_predictions_are_ignored(tmp_path: Path) -> None:
    """pycocotools would take a mask's area from the box, and so its size."""
    annotations, path = write(tmp_path, [truth(BOX)], [GOOD | {"bbox": [0, 0, 1, 1]}])
    assert read_results(path, read_truth(annotations)) == [GOOD]


def test_an_annotation_of_id_0_can_be_found(tmp_path: Path) -> None:
    """COCOeval would take the match with it for none."""
    annotations, path = write(tmp_path, [truth(BOX)], [GOOD])
    assert json.loads(Path(annotations).read_text())["annotations"][0]["id"] == 0
    dataset = read_truth(annotations)
    assert average_precision(evaluate(dataset, read_results(path, dataset))) == pytest.approx(100)


def test_polygons_and_uncompressed_rle_of_ground_truth_are_masks(tmp_path: Path) -> None:
    polygon = truth(BOX) | {"segmentation": [[20, 10, 70, 10, 70, 50, 20, 50]]}
    runs = [20 * HEIGHT + 10] + [40, HEIGHT - 40] * 49 + [40]
    runs.append(HEIGHT * WIDTH - sum(runs))
    uncompressed = truth(BOX) | {"segmentation": {"size": [HEIGHT, WIDTH], "counts": runs}}
    for annotation in (polygon, uncompressed):
        annotations, path = write(tmp_path, [annotation], [GOOD])
        dataset = read_truth(annotations)
        evaluation = evaluate(dataset, read_results(path, dataset))
        assert average_precision(evaluation, iou_threshold=0.95) == pytest.approx(100)


def test_without_ground_truth_there_is_no_ap(tmp_path: Path) -> None:
    annotations, path = write(tmp_path, [], [GOOD])
    dataset = read_truth(annotations)
    assert average_precision(evaluate(dataset, read_results(path, dataset))) is None


def test_without_predictions_ap_is_0(tmp_path: Path) -> None:
    annotations, path = write(tmp_path, [truth(BOX)], [])
    dataset = read_truth(annotations)
    evaluation = evaluate(dataset, read_results(path, dataset))
    assert average_precision(evaluation) == 0
    assert average_precision(evaluation, size="large") is None
    assert average_precision(evaluation, category=7) is None
