"""`python -m solo_family errors`, from files to tables, numbers and a picture."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from solo_family.__main__ import main

from ..coco_folder import run_cfg, small_dataset, write_cfg
from ..data.segments import write_panoptic, write_semantic
from ..evaluation.scenes import prediction, truth, write

BOX = (0, 0, 40, 40)


def errors(output: Path, *words: str) -> int:
    return main(["errors", "--output", str(output), *words])


def row(text: str, name: str) -> list[str]:
    """The numbers of a table's row."""
    (line,) = re.findall(rf"^{name}  +(.*)$", text, re.M)
    return line.split()


@pytest.mark.slow
def test_the_golden_files(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = data_root / "eval_fixtures" / "cocoapi"
    status = errors(
        tmp_path / "out",
        *("--annotations", str(folder / "instances_val2014_100.json")),
        *("--predictions", str(folder / "instances_val2014_fakesegm100_results.json")),
    )
    assert status == 0
    text = capsys.readouterr().out
    assert row(text, "as predicted") == ["32.0", "56.2", "29.9", "38.7", "31.0", "32.7"]
    # Of masks that are the ground truth's, thresholds are all the same.
    assert len(set(row(text, "true masks")[:3])) == 1
    assert "734 predictions: " in text
    assert "839 ground-truth masks: " in text
    assert "the 10 of 80 with most" in text
    assert "Loading and preparing results" not in text
    assert max(map(len, text.splitlines())) <= 110

    numbers = json.loads((tmp_path / "out" / "errors.json").read_text())
    assert numbers["oracles"]["as predicted"]["AP"] == pytest.approx(32.0, abs=0.05)
    assert numbers["images"] == 100
    assert numbers["predictions_file"].endswith("instances_val2014_fakesegm100_results.json")
    assert numbers["annotations_file"].endswith("instances_val2014_100.json")
    assert len(numbers["categories"]) == 80
    for error in ("wrong class", "poor mask", "class and mask", "duplicate", "background"):
        assert row(text, error)[1] == str(numbers["predictions"][error]["all"])
        assert numbers["gain"][error]["all"] >= 0
    assert row(text, "missed")[1] == str(numbers["ground_truth"]["missed"]["all"])
    with Image.open(tmp_path / "out" / "errors.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20


def results_of(annotations: str) -> list[dict[str, Any]]:
    """The ground truth as COCO results."""
    coco = COCO(annotations)
    results = []
    for annotation in coco.dataset["annotations"]:
        rle = mask_util.encode(coco.annToMask(annotation).astype("uint8", order="F"))
        keys = {key: annotation[key] for key in ("image_id", "category_id")}
        mask = {"size": rle["size"], "counts": rle["counts"].decode()}
        results.append(keys | {"score": 0.9, "segmentation": mask})
    return results


def test_a_config_names_the_ground_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = small_dataset(tmp_path / "data")
    cfg = run_cfg(dataset.name, tmp_path / "run", test=dataset.name)
    config = str(write_cfg(tmp_path / "config.yaml", cfg))
    predictions = tmp_path / "predictions.json"
    predictions.write_text(json.dumps(results_of(str(dataset.json))))
    words = ["--config-file", config, "--predictions", str(predictions)]
    assert errors(tmp_path / "out", *words) == 0
    assert row(capsys.readouterr().out, "as predicted")[0] == "100.0"

    # It is the config's dataset that counts, with the keys that were changed.
    other = small_dataset(tmp_path / "other", images=7)
    assert errors(tmp_path / "out", *words, "--opts", "DATASETS.TEST", f"('{other.name}',)") == 0
    assert "7 ground-truth masks: 6 found" in capsys.readouterr().out


def test_no_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, predictions = write(tmp_path, [truth(BOX)], [])
    words = ["--annotations", annotations, "--predictions", predictions]
    assert errors(tmp_path / "out", *words) == 0
    text = capsys.readouterr().out
    assert row(text, "as predicted") == ["0.0", "0.0", "0.0", "-", "0.0", "-"]
    assert row(text, "missed")[:2] == ["+100.0", "1"]
    assert (tmp_path / "out" / "errors.png").is_file()


def test_no_ground_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, predictions = write(tmp_path, [], [prediction(BOX)])
    words = ["--annotations", annotations, "--predictions", predictions]
    assert errors(tmp_path / "out", *words) == 0
    assert set(row(capsys.readouterr().out, "true masks")) == {"-"}
    assert (tmp_path / "out" / "errors.png").is_file()


def test_another_threshold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations, predictions = write(tmp_path, [truth(BOX)], [prediction((10, 0, 40, 40))])
    words = ["--annotations", annotations, "--predictions", predictions]
    assert errors(tmp_path / "out", *words) == 0  # an IoU of 0.6
    assert row(capsys.readouterr().out, "poor mask")[1] == "0"
    assert errors(tmp_path / "out", *words, "--iou-threshold", "0.75") == 0
    text = capsys.readouterr().out
    assert row(text, "poor mask")[:2] == ["+100.0", "1"]
    assert "AP75 gained" in text


@pytest.mark.parametrize("threshold", ["0.1", "1.5", "nan", "-1"])
def test_a_threshold_that_cannot_be(
    tmp_path: Path, threshold: str, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, predictions = write(tmp_path, [truth(BOX)], [])
    words = ["--annotations", annotations, "--predictions", predictions]
    assert errors(tmp_path / "out", *words, f"--iou-threshold={threshold}") == 2
    assert "it must be above 0.1" in capsys.readouterr().err


def test_wrong_files_are_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations, predictions = write(tmp_path, [truth(BOX)], {"images": []})
    words = ["--annotations", annotations, "--predictions", predictions]
    assert errors(tmp_path / "out", *words) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {predictions} is not a list of predictions")
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("count", [0, 2])
def test_a_config_of_not_one_dataset(
    tmp_path: Path, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [small_dataset(tmp_path / str(number)).name for number in range(2)]
    cfg = run_cfg(names[0], tmp_path / "run", "DATASETS.TEST", tuple(names[:count]))
    config = str(write_cfg(tmp_path / "config.yaml", cfg))
    assert errors(tmp_path, "--config-file", config, "--predictions", "p.json") == 2
    message = capsys.readouterr().err
    assert f"names {count} datasets, but predictions are of one" in message
    assert "--annotations FILE" in message


def test_a_dataset_that_nobody_registered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = small_dataset(tmp_path / "data").name
    cfg = run_cfg(name, tmp_path / "run", test="nobody_knows")
    config = str(write_cfg(tmp_path / "config.yaml", cfg))
    assert errors(tmp_path, "--config-file", config, "--predictions", "p.json") == 2
    assert "Dataset 'nobody_knows' is not registered with a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("write", "task"), [(write_semantic, "semantic"), (write_panoptic, "panoptic")]
)
def test_labels_that_are_not_of_instances(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write: Any, task: str
) -> None:
    written = write(tmp_path / "data")
    name = written if task == "semantic" else written[0]
    config = str(write_cfg(tmp_path / "config.yaml", run_cfg(name, tmp_path / "run", test=name)))
    (tmp_path / "p.json").write_text("[]")
    words = ["--config-file", config, "--predictions", str(tmp_path / "p.json")]
    assert errors(tmp_path / "out", *words) == 2
    assert f"has labels of {task} segmentation, and these errors" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words", [[], ["--annotations", "a.json", "--config-file", "c.yaml"], ["--annotations", "a"]]
)
def test_flags_that_are_missing_or_exclude_each_other(words: list[str]) -> None:
    rest = ["--predictions", "p.json"] if words != ["--annotations", "a"] else []
    with pytest.raises(SystemExit) as stopped:
        main(["errors", *words, *rest])
    assert stopped.value.code == 2


def test_keys_of_a_config_need_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ("--annotations", "a.json", "--predictions", "b.json")
    assert errors(tmp_path, *files, "--opts", "INPUT.FORMAT", "L") == 2
    assert "--opts changes a config, and --annotations needs none" in capsys.readouterr().err
