"""Cross-validation: each fold is trained once, also by a command that was interrupted."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from solo_family.__main__ import main
from solo_family.cli import folds
from solo_family.data.formats.coco_file import read_coco_file

from ..coco_folder import run_cfg, small_dataset, write_cfg


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    data = small_dataset(tmp_path / "data")
    cfg = run_cfg(data.name, tmp_path / "run")
    path = write_cfg(tmp_path / "my.yaml", cfg)
    return ["folds", "--config-file", str(path), "--folds", "3", "--opts", "SEED", "5"]


class Training:
    """Stands for train_net.py: writes metrics, or fails."""

    def __init__(self) -> None:
        self.given: list[list[str]] = []
        self.status = 0

    def __call__(self, words: list[str]) -> int:
        self.given.append(words)
        folder = Path(words[words.index("OUTPUT_DIR") + 1])
        folder.mkdir(parents=True, exist_ok=True)
        row = {"iteration": 3, "segm/AP": 10.0 * len(self.given)}
        (folder / "metrics.json").write_text(json.dumps(row) + "\n")
        return self.status


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Training:
    training = Training()
    monkeypatch.setattr(folds, "run_training", training)
    return training


def test_an_interrupted_command_goes_on(
    words: list[str], tmp_path: Path, training: Training, capsys: pytest.CaptureFixture[str]
) -> None:
    training.status = 143
    assert main(words) == 143
    training.status = 0
    assert main(words) == 0
    assert "| segm/AP | 30.0 | 10.0 | 20.0 | 30.0 | 40.0 |" in capsys.readouterr().out
    assert len(training.given) == 4
    given = training.given[-1]
    assert given[given.index("SEED") + 1] == "5"
    assert "--resume" in given
    images: list[Any] = []
    for number in ("1", "2", "3"):
        part = read_coco_file(str(tmp_path / f"run/folds_data/{number}/val.json"))
        images += [image["file_name"] for image in part.content["images"]]
    assert sorted(images) == [f"{index}.png" for index in range(6)]
    assert main(words) == 0  # nothing is left to train
    assert len(training.given) == 4
    assert (tmp_path / "run/folds.md").read_text() in capsys.readouterr().out
    assert main([*words, "SOLVER.BASE_LR", "0.5"]) == 2
    assert "is of another config" in capsys.readouterr().err


def test_folds_of_fewer_images_are_not_those_of_more(
    words: list[str], tmp_path: Path, training: Training, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    before = (tmp_path / "run/folds_data/1/val.json").read_bytes()
    shutil.rmtree(tmp_path / "data")
    small_dataset(tmp_path / "data", images=9)
    assert main(words) == 2
    assert "is of another state of the dataset: folds that have ended" in capsys.readouterr().err
    assert len(training.given) == 3
    assert (tmp_path / "run/folds_data/1/val.json").read_bytes() == before
    assert main([*words, "OUTPUT_DIR", str(tmp_path / "more")]) == 0


def test_data_that_cannot_be_split(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words[words.index("3")] = "7"
    assert main(words) == 2
    assert "6 images can't be split into 7 folds" in capsys.readouterr().err
    assert main([*words, "DATASETS.TRAIN", "()"]) == 2
    assert "names 0 datasets, but folds are of one" in capsys.readouterr().err


@pytest.mark.slow
def test_folds_train(words: list[str], tmp_path: Path) -> None:
    words[words.index("3")] = "2"
    assert main([*words, "SOLVER.MAX_ITER", "2"]) == 0
    assert "fold 2" in (tmp_path / "run/folds.md").read_text()
    assert (tmp_path / "run/fold_1/model_final.pth").is_file()
