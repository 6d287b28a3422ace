"""Exported models against the models that they were made from, at toy width."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor

from solo_family import METHODS
from solo_family.errors import ConfigError, DataError, SoloFamilyError
from solo_family.export import self_check
from solo_family.export.parity import cases, output_error, prediction_error
from solo_family.export.runtime import ExportedModel

from ..conftest import eager_to_find, of_all_or_slow, tiny_model
from .conftest import Exported
from .exporting import export, picture_of

# Rounding may move a pixel across the masks' threshold; that alone changes a toy mask's score so.
TOLERANCE = 0.01


def assert_same(folder: Path, predictor: DefaultPredictor, sizes: list[tuple[int, int]]) -> None:
    exported = ExportedModel(folder)
    for seed, size in enumerate(sizes):
        picture = picture_of(size, seed)
        assert prediction_error(predictor(picture), exported(picture)) < TOLERANCE


@pytest.mark.parametrize("method", of_all_or_slow("SOLOv2", "SparseInst"))
def test_an_exported_model_finds_what_the_model_finds(
    method: str, exported_method: Exported
) -> None:
    """Of any height and width; MaskFormer's results are instances and panoptic."""
    folder, predictor = exported_method(method)
    exported = ExportedModel(folder)
    found = exported(picture_of((64, 96)))
    assert found.instances is not None
    assert len(found.instances) > 0
    assert not found.truncated
    assert_same(folder, predictor, [(64, 96), (130, 70), (50, 100)])
    errors = json.loads((folder / "model.json").read_text())["max_error"]
    # Two sizes, an image with every candidate, one with none, and the results.
    assert len(errors) == (3 if method == "MaskFormer" else 5)
    assert max(errors.values()) < TOLERANCE


@pytest.mark.parametrize("method", of_all_or_slow("SOLOv2"))
def test_images_as_narrow_as_a_pixel_of_a_map(method: str, exported_method: Exported) -> None:
    """Coordinates of such a map have no step, and were infinite in a traced graph."""
    folder, predictor = exported_method(method)
    description = json.loads((folder / "model.json").read_text())
    forward = self_check.load_forward(folder, description)
    sizes = [(32, 160), (192, 32), (32, 32)]
    for given in cases(predictor.model.export_inputs, sizes, 1, 0.1).values():
        with torch.no_grad():
            expected = predictor.model.export_forward(**given)
        assert output_error(expected, forward(given)) < TOLERANCE


@pytest.mark.parametrize(
    ("resize_first", "inference"),
    [
        (True, "soft"),
        pytest.param(False, "soft", marks=pytest.mark.slow),
        pytest.param(True, "hard", marks=pytest.mark.slow),
        pytest.param(False, "hard", marks=pytest.mark.slow),
    ],
)
def test_semantic_results(resize_first: bool, inference: str, tmp_path: Path) -> None:
    key = "MODEL.MASK_FORMER.TEST."
    opts = [f"{key}SEMANTIC_ON", True, f"{key}PANOPTIC_ON", False, f"{key}INSTANCE_ON", False]
    opts += [f"{key}SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE", resize_first]
    opts += [f"{key}SEMANTIC_INFERENCE_METHOD", inference]
    predictor = export("MaskFormer", tmp_path / "exported", opts)
    sem_seg = ExportedModel(tmp_path / "exported")(picture_of((50, 100))).sem_seg
    assert sem_seg is not None
    assert sem_seg.shape == (3, 50, 100)
    assert_same(tmp_path / "exported", predictor, [(50, 100)])


@pytest.mark.slow
def test_panoptic_results_of_instances(tmp_path: Path) -> None:
    """SparseInst's, of one class of things and two of stuff; instances are those of things."""
    opts = ["MODEL.SPARSE_INST.PANOPTIC_ON", True, "MODEL.STUFF_IDS", [1, 2]]
    opts += ["MODEL.SPARSE_INST.OBJECT_MASK_THRESHOLD", 0.0]
    predictor = export("SparseInst", tmp_path / "exported", opts)
    found = ExportedModel(tmp_path / "exported")(picture_of((50, 100)))
    assert found.panoptic_seg is not None
    ids, segments = found.panoptic_seg
    assert ids.shape == (50, 100)
    assert {segment["isthing"] for segment in segments} <= {True, False}
    assert set(np.unique(ids)) - {0} == {segment["id"] for segment in segments} != set()
    assert found.instances is not None
    assert set(found.instances.classes) <= {0}
    assert_same(tmp_path / "exported", predictor, [(50, 100), (130, 70)])


@pytest.mark.parametrize(
    "opts",
    [
        ["CLASSIFY", True],
        pytest.param(["SCORE", "product"], marks=pytest.mark.slow),
        pytest.param(["NMS_TYPE", "matrix"], marks=pytest.mark.slow),
    ],
)
def test_kinds_of_proposals(opts: list, tmp_path: Path) -> None:
    pairs = [f"MODEL.INSTANCE_FCN.{opts[0]}", opts[1], "MODEL.INSTANCE_FCN.NMS_PRE", 1000]
    predictor = export("InstanceFCN", tmp_path / "exported", pairs)
    assert_same(tmp_path / "exported", predictor, [(64, 96), (90, 70)])


@pytest.mark.parametrize("method", ["SOLO", "DecoupledSOLO", "SOLOv2", "SparseInst"])
def test_with_nothing_to_find_all_scores_are_0(method: str) -> None:
    model = eager_to_find(tiny_model(method), found=False)
    images = torch.from_numpy(picture_of((64, 96))).permute(2, 0, 1)[None]
    with torch.no_grad():
        outputs = model.export_forward(images)
    assert outputs["candidates"].tolist() == [0]
    assert len(outputs["scores"][0]) > 0
    assert not outputs["scores"].any()
    assert outputs["masks"].isfinite().all()


@pytest.mark.parametrize("method", ["SOLO", "DecoupledSOLO", "SOLOv2"])
def test_of_more_candidates_than_n_the_best_are_looked_at(method: str) -> None:
    key = "SOLOV2" if method == "SOLOv2" else "SOLO"
    images = torch.from_numpy(picture_of((64, 96))).permute(2, 0, 1)[None]
    scores = {}
    for candidates in (5, 2000):
        opts = [f"MODEL.{key}.NMS_PRE", candidates]
        model = eager_to_find(tiny_model(method, opts=opts))
        with torch.no_grad():
            outputs = model.export_forward(images)
        assert int(outputs["candidates"]) > 5
        scores[candidates] = outputs["scores"][0]
    assert len(scores[5]) == 5
    assert scores[5][0] <= scores[2000][0]


def test_a_batch_gives_what_batches_of_one_give() -> None:
    model = eager_to_find(tiny_model("SOLOv2"))
    images = torch.stack(
        [torch.from_numpy(picture_of((64, 96), s)).permute(2, 0, 1) for s in (1, 2)]
    )
    with torch.no_grad():
        together = model.export_forward(images)
        for index in range(2):
            alone = model.export_forward(images[index : index + 1])
            part = {name: value[index : index + 1] for name, value in together.items()}
            assert output_error(alone, part) < 1e-4


@pytest.mark.parametrize("method", of_all_or_slow("SparseInst"))
def test_torchscript_follows_the_size(method: str, tmp_path: Path) -> None:
    export(method, tmp_path / "exported", format="torchscript")
    description = json.loads((tmp_path / "exported" / "model.json").read_text())
    assert {"64 x 96", "128 x 64"} <= set(description["max_error"])
    assert description["confidence_threshold"] == 0.5
    with pytest.raises(DataError, match="format torchscript, which ONNX Runtime can't run"):
        ExportedModel(tmp_path / "exported")


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(METHODS))
def test_torch_export_for_one_size(method: str, tmp_path: Path) -> None:
    export(method, tmp_path / "exported", format="torch_export", size=(64, 96))
    program = torch.export.load(tmp_path / "exported" / "model.pt2").module()
    model = eager_to_find(tiny_model(method))
    (given, *_) = cases(model.export_inputs, [(64, 96)], 1, 0.1).values()
    assert all(value.isfinite().all() for value in program(*given.values()))


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(METHODS))
def test_torch_export_follows_the_size(method: str, tmp_path: Path) -> None:
    """Even and odd maps, maps of one pixel, and of the sides of SOLO's grids, 12 and 6."""
    model = export(method, tmp_path / "exported", format="torch_export").model
    program = torch.export.load(tmp_path / "exported" / "model.pt2").module()
    sizes = [(96, 96), (32, 160), (192, 32), (224, 192)]
    for given in cases(model.export_inputs, sizes, 1, 0.1).values():
        with torch.no_grad():
            expected, actual = model.export_forward(**given), program(*given.values())
        assert output_error(expected, dict(zip(expected, actual))) < TOLERANCE
    with pytest.raises(AssertionError):
        program(torch.zeros(1, 3, 100, 96), *list(given.values())[1:])


@pytest.mark.parametrize(
    "error_class", [AssertionError, pytest.param(Exception, marks=pytest.mark.slow)]
)
def test_a_graph_that_can_not_run_a_size_is_one_line(
    error_class: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(given: dict) -> dict:
        raise error_class("Guard failed: height == 64\nand more")

    monkeypatch.setattr(self_check, "load_forward", lambda folder, description: forward)
    with pytest.raises(SoloFamilyError) as error:
        export("InstanceFCN", tmp_path / "exported")
    assert str(error.value) == (
        "The exported model can't run 64 x 96 (Guard failed: height == 64); nothing was written. "
        "Export for one --size, or with --format onnx."
    )
    assert list(tmp_path.iterdir()) == []


def test_one_size_takes_images_of_all_proportions_and_no_other_size(tmp_path: Path) -> None:
    predictor = export("SparseInst", tmp_path / "exported", size=(64, 96))
    exported = ExportedModel(tmp_path / "exported")
    for size in [(64, 96), (200, 40), (40, 200)]:
        assert exported(picture_of(size)).instances is not None
    picture = picture_of((64, 96))
    assert prediction_error(predictor(picture), exported(picture)) < TOLERANCE
    with pytest.raises(DataError, match="takes images of 64 x 96 only, but these are 96 x 64"):
        exported.forward(np.zeros((1, 3, 96, 64), np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["SparseInst", "MaskFormer"])
def test_half_precision_is_close(method: str, tmp_path: Path) -> None:
    export(method, tmp_path / "exported", half=True)
    description = json.loads((tmp_path / "exported" / "model.json").read_text())
    assert description["precision"] == "float16"
    export(method, tmp_path / "float32")
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("exported", "float32")]
    assert sizes[0] < 0.75 * sizes[1]


def test_an_nms_that_is_sequential_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NMS_TYPE is 'mask'; only 'matrix' can be exported"):
        export("SOLOv2", tmp_path / "exported", ["MODEL.SOLOV2.NMS_TYPE", "mask"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_graph_that_fails_leaves_the_old_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export("SparseInst", tmp_path / "exported")
    before = (tmp_path / "exported" / "model.onnx").read_bytes()
    monkeypatch.setattr("solo_family.export.write.TOLERANCES", {"float32": -1.0})
    with pytest.raises(SoloFamilyError, match="differs from the model by more than"):
        export("SparseInst", tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]
    assert (tmp_path / "exported" / "model.onnx").read_bytes() == before
