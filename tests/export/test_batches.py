"""One file for any number of images, and weights beside the file of a large model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from solo_family.__main__ import main
from solo_family.errors import DataError, SoloFamilyError
from solo_family.export import onnx_file
from solo_family.export.runtime import ExportedModel

from ..conftest import of_all_or_slow
from .exporting import export, picture_of


def assert_each_as_alone(run: Any, images: np.ndarray) -> None:
    """`run` maps images [B, 3, h, w] to outputs with a first dimension of B."""
    alone = [run(images[index : index + 1]) for index in range(len(images))]
    for count in range(1, len(images) + 1):
        together = run(images[:count])
        for name, values in together.items():
            expected = np.concatenate([one[name] for one in alone[:count]])
            assert values.shape == expected.shape
            # Of scores that are equal but for rounding, the order may change.
            differs = np.abs(values - expected) > 1e-3
            assert differs.mean() < 0.01, (name, count)


@pytest.mark.slow
@pytest.mark.parametrize("method", of_all_or_slow("SparseInst", "InstanceFCN"))
def test_each_of_a_batch_gives_what_it_gives_alone(method: str, tmp_path: Path) -> None:
    """In ONNX Runtime and, where it is, OpenVINO."""
    export(method, tmp_path / "exported", batch_size=None)
    images = np.stack([picture_of((64, 96), seed).transpose(2, 0, 1) for seed in range(8)])
    description = json.loads((tmp_path / "exported" / "model.json").read_text())
    assert description["input"]["batch_size"] is None
    assert {"1 image", "3 images"} <= set(description["max_error"])
    model = ExportedModel(tmp_path / "exported")
    assert model(picture_of((50, 70))).instances is not None
    assert_each_as_alone(model.forward, images.astype(np.float32))
    with pytest.raises(DataError, match=r"takes images of \[B, 3, h, w\], but these are \[0, 3"):
        model.forward(np.zeros((0, 3, 64, 64), np.float32))
    pytest.importorskip("openvino")
    model = ExportedModel(tmp_path / "exported", engine="openvino")
    assert_each_as_alone(model.forward, images.astype(np.float32))


@pytest.mark.parametrize("method", of_all_or_slow("SparseInst"))
def test_a_batch_of_any_size_in_torchscript(method: str, tmp_path: Path) -> None:
    export(method, tmp_path / "exported", batch_size=None, format="torchscript")
    description = json.loads((tmp_path / "exported" / "model.json").read_text())
    program = torch.jit.load(str(tmp_path / "exported" / description["file"]))
    images = np.stack([picture_of((64, 96), seed).transpose(2, 0, 1) for seed in range(1, 5)])

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        sizes = torch.tensor([images.shape[2:]] * len(images))
        given = [torch.from_numpy(images).float(), torch.tensor(0.1), sizes]
        count = {"MaskFormer": 1, "InstanceFCN": 3}.get(method, 2)
        with torch.no_grad():
            outputs = program(*given[:count])
        return dict(zip(description["outputs"], map(np.asarray, outputs)))

    assert_each_as_alone(run, images)


def test_what_takes_no_batch_of_any_size(tmp_path: Path) -> None:
    with pytest.raises(SoloFamilyError, match="--dynamic-batch goes with --format onnx or torchs"):
        export("SparseInst", tmp_path / "exported", batch_size=None, format="torch_export")
    words = ["export", "--config-file", "x.yaml", "--output", "x", "--dynamic-batch"]
    with pytest.raises(SystemExit):
        main([*words, "--batch-size", "2"])


@pytest.mark.slow
def test_large_weights_stand_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export("SparseInst", tmp_path / "small")
    description = json.loads((tmp_path / "small" / "model.json").read_text())
    assert description["weights_file"] is None
    model = onnx.load(tmp_path / "small" / "model.onnx")
    assert (description["opset"], description["ir_version"]) == (18, model.ir_version)
    assert model.opset_import[0].version == 18

    monkeypatch.setattr(onnx_file, "LARGEST_FILE", 50_000)
    export("SparseInst", tmp_path / "large")
    folder = tmp_path / "large"
    names = {"model.json", "model.onnx", "model.onnx.data"}
    assert {path.name for path in folder.iterdir()} == names
    assert json.loads((folder / "model.json").read_text())["weights_file"] == "model.onnx.data"
    sizes = [path.stat().st_size for path in (folder / "model.onnx", folder / "model.onnx.data")]
    assert abs(sum(sizes) - (tmp_path / "small" / "model.onnx").stat().st_size) < 20_000
    picture = picture_of((64, 96))
    found, again = ExportedModel(tmp_path / "small")(picture), ExportedModel(folder)(picture)
    assert found.instances is not None
    assert again.instances is not None
    assert np.array_equal(found.instances.masks, again.instances.masks)
    moved = folder.rename(tmp_path / "moved")
    assert ExportedModel(moved)(picture).instances is not None
    with pytest.raises(SoloFamilyError, match="--quantize int8 is for models below 2 GB"):
        export("SparseInst", tmp_path / "both", calibration=(tmp_path / "any.png",))
