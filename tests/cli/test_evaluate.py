"""`evaluate`, of exported models on a small dataset; int8 among them."""

import json
from pathlib import Path

import pytest

from solo_family.__main__ import main
from solo_family.data.formats.synthetic_scene import SHAPES
from solo_family.export.quantize import calibration_pictures
from solo_family.export.runtime import ExportedModel

from ..export.exporting import export, picture_of


@pytest.mark.slow
def test_models_are_measured_on_a_dataset(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tuple(calibration_pictures(shapes / "train")[:3])
    export("SparseInst", tmp_path / "float32", names=list(SHAPES))
    export("SparseInst", tmp_path / "int8", names=list(SHAPES), calibration=pictures)
    share = json.loads((tmp_path / "int8" / "model.json").read_text())["instance_agreement"]
    assert 0.7 <= share <= 1
    assert ExportedModel(tmp_path / "int8")(picture_of((64, 96))).instances is not None
    assert sorted(path.name for path in (tmp_path / "int8").iterdir()) == [
        "model.json",
        "model.onnx",
    ]
    dataset = f"coco_json:{shapes / 'annotations' / 'val.json'}:{shapes / 'val'}"
    words = ["evaluate", "--exported", str(tmp_path / "float32"), str(tmp_path / "int8")]
    words += ["--dataset", dataset, "--json", str(tmp_path / "numbers.json")]
    assert main(words) == 0
    assert "network ratio" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert [model["precision"] for model in numbers] == ["float32", "int8"]
    for model in numbers:
        assert model["images"] == 8
        assert 0 <= model["AP"] <= model["AP50"] <= 100
        assert set(model["milliseconds"]) == {"preprocessing", "network", "post-processing"}
    # 96 x 128 pixels: an image is one tile, or six.
    assert main([*words, "--tile", "128", "16"]) == 0
    by_tiles = json.loads((tmp_path / "numbers.json").read_text())
    assert [model["AP"] for model in by_tiles] == [model["AP"] for model in numbers]
    assert main([*words, "--tile", "64", "16"]) == 0
    assert main([*words, "--limit", "2"]) == 0
    assert json.loads((tmp_path / "numbers.json").read_text())[0]["AP"] is None


def test_what_can_not_be_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--exported", str(tmp_path), "--dataset", "no_such_dataset"]
    assert main(words) == 2
    assert "is not an exported model" in capsys.readouterr().err
    assert main([*words, "--limit", "0"]) == 2
    assert "--limit is 0" in capsys.readouterr().err
