"""`export`, and the demo of what it writes, from files to files."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode

from solo_family import Predictor
from solo_family.__main__ import main
from solo_family.export import write
from solo_family.export.runtime import ExportedModel

from ..coco_folder import write_cfg
from ..conftest import eager_to_find, tiny_cfg, tiny_model
from ..export.exporting import SMALL, picture_of

NAMES = ["MODEL.CLASS_NAMES", ["a", "b", "c"]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config, its weights, two pictures."""
    folder = tmp_path_factory.mktemp("files")
    opts = [*SMALL, *NAMES]
    model = eager_to_find(tiny_model("SparseInst", opts=opts))
    DetectionCheckpointer(model, str(folder)).save("weights")
    cfg = tiny_cfg("SparseInst", opts=[*opts, "MODEL.WEIGHTS", str(folder / "weights.pth")])
    write_cfg(folder / "config.yaml", cfg)
    (folder / "pictures").mkdir()
    for index, size in enumerate([(60, 90), (130, 70)]):
        cv2.imwrite(str(folder / "pictures" / f"{index}.png"), picture_of(size, index))
    (folder / "pictures" / "broken.png").write_text("no picture")
    return folder


def test_the_demo_of_an_exported_model_gives_the_same_pictures_and_json(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config-file", str(files / "config.yaml")]
    assert main(["export", *config, "--output", str(files / "exported")]) == 0
    assert "greatest difference" in capsys.readouterr().out
    for name, model in (("eager", config), ("demo", ["--exported", str(files / "exported")])):
        given = ["--input", str(files / "pictures"), "--confidence-threshold", "0.1"]
        given += ["--output", str(files / name), "--json", str(files / f"{name}.json")]
        np.random.seed(0)  # detectron2's colours
        assert main(["demo", *model, *given]) == 1  # one picture is broken
    eager, exported = (
        json.loads((files / f"{name}.json").read_text()) for name in ("eager", "demo")
    )
    assert len(eager) == len(exported) > 0
    for one, other in zip(eager, exported):
        assert one["score"] == pytest.approx(other["score"], abs=1e-4)
        for key in ("image_id", "category_id", "file_name"):
            assert one[key] == other[key]
    same = [one["segmentation"] == other["segmentation"] for one, other in zip(eager, exported)]
    assert np.mean(same) > 0.8  # a pixel or two on the border may be rounded otherwise
    for name in ("0.png", "1.png"):
        pictures = [cv2.imread(str(files / folder / name)) for folder in ("eager", "demo")]
        assert (pictures[0] != pictures[1]).mean() < 0.01


@pytest.mark.slow
def test_the_folder_of_a_run_is_exported_with_its_own_weights(files: Path) -> None:
    """Whatever weights the run began with, which its config names."""
    cfg = CfgNode.load_cfg((files / "config.yaml").read_text())
    run = files / "run"
    run.mkdir()
    cfg.MODEL.WEIGHTS = str(files / "none.pth")
    write_cfg(run / "config.yaml", cfg)
    (run / "model_final.pth").write_bytes((files / "weights.pth").read_bytes())
    assert main(["export", "--config-file", str(run), "--output", str(files / "of_run")]) == 0
    picture = picture_of((60, 90))
    found = ExportedModel(files / "of_run")(picture).instances
    expected = Predictor(run, confidence_threshold=0)(picture, channels="BGR")
    assert found is not None
    assert np.allclose(found.scores, expected.scores, atol=1e-4)
    assert main(["analyze", "--config-file", str(run)]) == 0
    assert main(["visualize-data", "--config-file", str(run), "--output", str(files / "x")]) == 2


def test_predict_many_of_an_exported_model_gives_what_the_demo_gives(files: Path) -> None:
    """By either flag, and with the lowest score that was exported with the model."""
    pq = pytest.importorskip("pyarrow.parquet", reason="predict-many needs pyarrow")
    exported = files / "exported for many"
    config = ["--config-file", str(files / "config.yaml"), "--output", str(exported)]
    assert main(["export", *config, "--opts", "TEST.CONFIDENCE_THRESHOLD", "0.1"]) == 0
    given = ["--input", str(files / "pictures"), "--save", "coco-results", "--output"]
    demo, many = files / "by the demo", files / "by predict-many"
    assert main(["demo", "--exported", str(exported), *given, str(demo)]) == 1
    for flag in ("--exported", "--config-file"):  # the second start has nothing to do
        words = [flag, str(exported), "--engine", "local", *given, str(many)]
        assert main(["predict-many", *words]) == 1  # one picture is broken
    expected, found = (
        json.loads((folder / "coco_results.json").read_text()) for folder in (demo, many)
    )
    assert found == expected
    assert 0.1 <= min(one["score"] for one in found) < 0.5
    rows = pq.read_table(many / "shards").to_pylist()
    assert [row["error"] is None for row in rows] == [True, True, False]
    assert sum(len(row["class_names"] or []) for row in rows) == len(found)
    assert {name for row in rows for name in row["class_names"] or []} <= {"a", "b", "c"}


@pytest.mark.slow
def test_an_export_that_differs_leaves_nothing_behind(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(write, "TOLERANCES", {"float32": -1.0})
    words = ["export", "--config-file", str(files / "config.yaml")]
    assert main([*words, "--output", str(files / "wrong")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: The exported model differs from the model by more than -1")
    assert not [path for path in files.iterdir() if "wrong" in path.name]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "64", "65"], "--size is 64 65; this model takes multiples of 32, for instance"),
        (["--output", "OUTPUT"], "exists and is not an exported model. Name another folder"),
        (["--batch-size", "0"], "--batch-size is 0; at least 1 is needed"),
    ],
)
def test_what_can_not_be_exported(
    files: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(files / "pictures") if word == "OUTPUT" else word for word in words]
    given = ["export", "--config-file", str(files / "config.yaml"), "--output", str(files / "no")]
    assert main([*given, *words]) == 2
    assert message in capsys.readouterr().err
    assert not (files / "no").exists()
    assert (files / "pictures" / "0.png").exists()


def test_the_demo_refuses_what_is_no_exported_model(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--input", str(files / "pictures"), "--output", str(files / "none")]
    assert main(["demo", "--exported", str(files / "pictures"), *given]) == 2
    assert "is not an exported model" in capsys.readouterr().err
    folder = ["--exported", str(files / "pictures")]
    assert main(["demo", *folder, *given, "--opts", "INPUT.MIN_SIZE_TEST", "64"]) == 2
    assert "--opts changes a config" in capsys.readouterr().err
