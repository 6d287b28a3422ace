"""OpenVINO in place of ONNX Runtime, and what is said of engines that can't run."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from solo_family import METHODS, Predictor
from solo_family.errors import ConfigError, DataError, SoloFamilyError
from solo_family.export.results import PredictedInstances
from solo_family.export.runtime import ExportedModel

from ..conftest import ROOT
from .conftest import Exported
from .exporting import picture_of
from .test_runtime import broken


def assert_same(one: PredictedInstances | None, other: PredictedInstances | None) -> None:
    """Every instance of one is in the other, whose order of nearly equal scores may differ."""
    assert one is not None
    assert other is not None
    assert len(one) == len(other) > 0
    assert np.abs(one.scores - other.scores).max() < 1e-2
    for score, category, mask in zip(one.scores, one.classes, one.masks):
        near = (abs(other.scores - score) < 1e-2) & (other.classes == category)
        differing = (other.masks[near] != mask).mean(axis=(1, 2))
        # Rounding may move a pixel across the masks' threshold.
        assert differing.min(initial=1) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(METHODS))
def test_openvino_finds_what_onnx_runtime_finds(method: str, exported_method: Exported) -> None:
    pytest.importorskip("openvino")
    folder, _ = exported_method(method)
    model, other = ExportedModel(folder), ExportedModel(folder, engine="openvino")
    for seed, size in enumerate([(64, 96), (130, 70)]):
        found, again = model(picture_of(size, seed)), other(picture_of(size, seed))
        assert_same(found.instances, again.instances)
        if found.panoptic_seg is not None:
            assert again.panoptic_seg is not None
            for segment, same in zip(found.panoptic_seg[1], again.panoptic_seg[1], strict=True):
                assert segment == pytest.approx(same, abs=1e-3)
            assert (found.panoptic_seg[0] != again.panoptic_seg[0]).mean() < 0.01


@pytest.mark.slow
def test_openvino_computes_in_float32_whatever_the_cpu_has(exported_method: Exported) -> None:
    openvino = pytest.importorskip("openvino")
    folder, _ = exported_method("SparseInst")
    model = ExportedModel(folder, engine="openvino", threads=1)
    compiled = model.engine.compiled  # type: ignore[attr-defined]
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


@pytest.mark.slow
def test_several_threads_run_one_model_at_once(exported_method: Exported) -> None:
    pytest.importorskip("openvino")
    folder, _ = exported_method("SparseInst")
    model = ExportedModel(folder, engine="openvino", threads=1)
    pictures = [picture_of((64, 96), seed) for seed in range(3)]
    expected = [model(picture).instances for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: model(pictures[number % 3]).instances, range(24)))
    for number, instances in enumerate(found):
        assert instances is not None
        assert np.array_equal(instances.scores, expected[number % 3].scores)
        assert np.array_equal(instances.masks, expected[number % 3].masks)


def test_the_predictor_and_the_shell_take_an_engine(
    exported_method: Exported, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("openvino")
    from solo_family.__main__ import main

    folder, _ = exported_method("SparseInst")
    picture = picture_of((64, 96))
    results = [
        Predictor(folder, engine=engine, confidence_threshold=0)(picture, channels="BGR")
        for engine in ("onnxruntime", "openvino")
    ]
    assert len(results[0].scores) == len(results[1].scores) > 0
    assert np.allclose(results[0].scores, results[1].scores, atol=1e-4)

    cv2.imwrite(str(tmp_path / "picture.png"), picture)
    words = ["demo", "--exported", str(folder), "--input", str(tmp_path / "picture.png")]
    words += ["--output", str(tmp_path / "pictures"), "--engine"]
    assert main([*words, "openvino"]) == 0
    assert (tmp_path / "pictures" / "picture.png").is_file()
    assert main([*words, "tensorrt"]) != 0
    assert "engine is 'tensorrt'; it can be onnxruntime or openvino." in capsys.readouterr().err


def test_an_engine_that_can_not_run_is_one_line(
    exported_method: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, predictor = exported_method("SparseInst")
    with pytest.raises(ConfigError, match=r"engine is 'tvm'; it can be onnxruntime or openvino\."):
        ExportedModel(folder, engine="tvm")
    with pytest.raises(ConfigError, match="providers are ONNX Runtime's; with the engine openvino"):
        ExportedModel(folder, ["CPUExecutionProvider"], engine="openvino")
    with pytest.raises(ConfigError, match=r"engine is 'openvino', but only exported models run"):
        Predictor(predictor.cfg, engine="openvino")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "openvino", None)
        with pytest.raises(
            SoloFamilyError, match="openvino is not installed: pip install openvino"
        ):
            ExportedModel(folder, engine="openvino")
    pytest.importorskip("openvino")
    garbage = broken(folder, tmp_path / "garbage")
    (garbage / "model.onnx").write_bytes(b"no model")
    with pytest.raises(DataError, match=r"model.onnx can't be loaded by OpenVINO \d") as error:
        ExportedModel(garbage, engine="openvino")
    assert len(str(error.value).splitlines()) == 1


def test_openvino_needs_no_onnx_runtime(exported_method: Exported) -> None:
    pytest.importorskip("openvino")
    folder, _ = exported_method("SparseInst")
    script = (
        "import sys; sys.modules['onnxruntime'] = sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from solo_family.export.runtime import ExportedModel\n"
        f"ExportedModel({str(folder)!r}, engine='openvino')(np.zeros((40, 50, 3), np.uint8))\n"
        f"ExportedModel({str(folder)!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert "The engine onnxruntime is not installed: pip install onnxruntime" in done.stderr
    assert done.stderr.count("Traceback") == 2  # of the import, and of what is said of it
