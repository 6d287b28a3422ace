"""What evaluations need is missed before the first iteration, and the advice works."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.structures import BitMasks, Instances
from detectron2.utils import comm
from PIL import Image

from solo_family.data.formats.dataset_classes import dataset_classes
from solo_family.data.formats.register import check_datasets, register_in_place
from solo_family.engine.hooks import BestCheckpoint
from solo_family.errors import ConfigError, DataError
from solo_family.evaluation.best_metric import best_metric, possible_metrics
from solo_family.evaluation.build import build_evaluator
from solo_family.evaluation.preconditions import check_evaluation, instance_kind

from ..coco_folder import run_cfg, small_dataset
from ..conftest import tiny_cfg
from ..data.segments import write_panoptic, write_semantic

BEST = "TEST.BEST_METRIC"
TEST = "MODEL.MASK_FORMER.TEST"
CITYSCAPES = "cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling"


def registered(name: str, **metadata: Any) -> str:
    DatasetCatalog.register(name, list)
    MetadataCatalog.get(name).set(**metadata)
    return name


@pytest.mark.parametrize(
    ("kind", "module", "command"),
    [
        ("lvis", "lvis", "pip install lvis"),
        ("cityscapes_instance", CITYSCAPES, "pip install cityscapesScripts"),
    ],
)
def test_a_package_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, module: str, command: str
) -> None:
    """Of what training and evaluation are told alike, before anything is read."""
    monkeypatch.setitem(sys.modules, module, None)
    name = registered(f"{kind}_{tmp_path.name}", evaluator_type=kind, gt_dir=str(tmp_path))
    with pytest.raises(DataError, match=f"{command} \\(the extra solo-family\\["):
        check_datasets([name])
    with pytest.raises(DataError, match=command):
        check_evaluation(tiny_cfg(opts=["DATASETS.TEST", (name,)]))


def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solo_family.data.formats.register.check_package", lambda name: None)


def test_files_of_lvis_and_panoptic_datasets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_package(monkeypatch)
    missing = {"json_file": str(tmp_path / "no.json"), "image_root": str(tmp_path)}
    name = registered(f"lvis_v1_{tmp_path.name}", evaluator_type="lvis", **missing)
    with pytest.raises(DataError, match=r"needs the file .*no\.json, which does not exist"):
        check_datasets([name])
    (tmp_path / "no.json").write_text("{}")
    check_datasets([name])


def test_cityscapes_ground_truth_classes_and_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_package(monkeypatch)
    labels = ModuleType("labels")
    labels.name2label = {"car": 26}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cityscapesscripts", ModuleType("cityscapesscripts"))
    monkeypatch.setitem(sys.modules, "cityscapesscripts.helpers", ModuleType("helpers"))
    monkeypatch.setitem(sys.modules, "cityscapesscripts.helpers.labels", labels)
    name = registered(
        f"city_{tmp_path.name}",
        evaluator_type="cityscapes_instance",
        gt_dir=str(tmp_path),
        thing_classes=["car"],
    )
    with pytest.raises(DataError, match=r"there is no \*_gtFine_instanceIds\.png"):
        instance_kind(name)
    (tmp_path / "town").mkdir()
    (tmp_path / "town" / "a_gtFine_instanceIds.png").touch()
    instance_kind(name)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    with pytest.raises(ConfigError, match="works on one machine only"):
        instance_kind(name)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "cityscapesscripts.helpers.labels", labels)
    labels.name2label = {"bus": 28}  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="has the classes car, which Cityscapes' evaluator"):
        instance_kind(name)


def test_an_unknown_type_of_evaluator(tmp_path: Path) -> None:
    name = registered(f"voc_{tmp_path.name}", evaluator_type="pascal_voc", thing_classes=["a"])
    cfg = tiny_cfg(num_classes=1, opts=["DATASETS.TEST", (name,)])
    with pytest.raises(ConfigError, match="for which there is no evaluator here") as raised:
        check_evaluation(cfg)
    line = f"MetadataCatalog.get({name!r}).evaluator_type = 'coco'"
    assert line in str(raised.value)
    MetadataCatalog.pop(name)
    MetadataCatalog.get(name).set(thing_classes=["a"])
    exec(line, {"MetadataCatalog": MetadataCatalog})
    check_evaluation(cfg)


def test_labels_for_another_task_before_training(tmp_path: Path) -> None:
    """The keys that are named are the model's own."""
    panoptic, semantic = write_panoptic(tmp_path / "p")[0], write_semantic(tmp_path / "s")
    register_in_place([panoptic, semantic])
    only = [f"{TEST}.SEMANTIC_ON", False, f"{TEST}.PANOPTIC_ON", False]
    cases: list[tuple[str, list[Any], str, str]] = [
        ("MaskFormer", only, panoptic, f"{TEST}.PANOPTIC_ON True"),
        ("MaskFormer", only, semantic, f"{TEST}.SEMANTIC_ON True"),
        ("SparseInst", [], panoptic, "MODEL.SPARSE_INST.PANOPTIC_ON True"),
    ]
    for method, opts, name, advice in cases:
        cfg = tiny_cfg(method, opts=[*opts, "DATASETS.TEST", (name,)])
        with pytest.raises(ConfigError, match=f"Set {advice}"):
            check_evaluation(cfg)
        key, value = advice.split()
        cfg.merge_from_list([key, value])
        check_evaluation(cfg)
    with pytest.raises(ConfigError, match=r"Name a dataset of instances in DATASETS\.TEST"):
        check_evaluation(tiny_cfg(opts=["DATASETS.TEST", (semantic,)]))
    with pytest.raises(ConfigError, match="has no instances, but labels of every pixel"):
        instance_kind(semantic)


def two_sets(tmp_path: Path) -> tuple[str, str]:
    return (small_dataset(tmp_path / "a").name, small_dataset(tmp_path / "b").name)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("segm/AP", "segm/AP"),
        ("segm/AP-cat", "segm/AP-cat"),
        ("segm/ap50", "segm/AP50"),
        (lambda name: f"{name}/segm/AP", "segm/AP"),
    ],
)
def test_the_best_metric_of_one_dataset(
    tmp_path: Path, given: str | Callable[[str], str], meant: str
) -> None:
    name = small_dataset(tmp_path / "a").name
    given = given if isinstance(given, str) else given(name)
    assert best_metric(run_cfg(name, tmp_path, BEST, given, test=name)) == meant


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("segm/mAP", r"The nearest is segm/AP\w*; there are bbox/AP, "),
        ("sem_seg/mIoU", "does not give"),
        ("AP", "may be each of bbox/AP, segm/AP\\. Write one of these"),
    ],
)
def test_a_best_metric_that_there_is_not(tmp_path: Path, given: str, said: str) -> None:
    name = small_dataset(tmp_path / "a").name
    cfg = run_cfg(name, tmp_path, BEST, given, test=name)
    with pytest.raises(ConfigError, match=said):
        check_evaluation(cfg)
    cfg.merge_from_list([BEST, "segm/AP"])
    check_evaluation(cfg)


def test_the_best_metric_of_two_datasets_has_the_name_of_one(tmp_path: Path) -> None:
    a, b = two_sets(tmp_path)
    cfg = run_cfg(a, tmp_path, BEST, "segm/AP", "SOLVER.EMA.ENABLED", True)
    cfg.DATASETS.TEST = (a, b)
    with pytest.raises(ConfigError) as raised:
        best_metric(cfg)
    offered = [f"{a}/segm/AP", f"{b}/segm/AP", f"{a}_ema/segm/AP", f"{b}_ema/segm/AP"]
    assert f"may be each of {', '.join(offered)}. Write" in str(raised.value)
    for name in offered:
        cfg.TEST.BEST_METRIC = name
        assert best_metric(cfg) == name


def test_two_datasets_of_which_one_gives_the_metric(tmp_path: Path) -> None:
    register_in_place([semantic := write_semantic(tmp_path / "s")])
    name = small_dataset(tmp_path / "a").name
    cfg = tiny_cfg("MaskFormer", opts=["DATASETS.TEST", (name, semantic), BEST, "sem_seg/mIoU"])
    assert best_metric(cfg) == f"{semantic}/sem_seg/mIoU"


def test_without_a_dataset_or_annotations_there_is_no_best(tmp_path: Path) -> None:
    folder = small_dataset(tmp_path / "a")
    cfg = run_cfg(folder.name, tmp_path, BEST, "segm/AP")
    with pytest.raises(ConfigError, match=r"DATASETS\.TEST is empty"):
        best_metric(cfg)
    cfg.DATASETS.TEST = (folder.name,)
    best_metric(cfg)
    content = json.loads(folder.json.read_text())
    del content["annotations"]
    folder.json.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="there are none"):
        best_metric(cfg)
    check_evaluation(run_cfg(folder.name, tmp_path, test=folder.name))


@pytest.mark.parametrize("method", ["SOLOv2", "InstanceFCN", "semantic", "panoptic"])
def test_names_are_those_of_the_evaluation(tmp_path: Path, method: str) -> None:
    if method in ("semantic", "panoptic"):
        semantic = method == "semantic"
        name = write_semantic(tmp_path / "a") if semantic else write_panoptic(tmp_path / "a")[0]
        method = "MaskFormer"
    else:
        name = small_dataset(tmp_path / "a").name
    register_in_place([name])
    cfg = tiny_cfg(method, num_classes=0, opts=["DATASETS.TEST", (name,)])
    evaluator = build_evaluator(cfg, name, str(tmp_path / "out"))
    evaluator.reset()
    count = len(dataset_classes(name) or [])
    for record in DatasetCatalog.get(name):
        with Image.open(record["file_name"]) as image:
            width, height = image.size
        evaluator.process([record], [everything(height, width, count)])
    found = flatten_results_dict(evaluator.evaluate() or {})
    assert set(found) == set(possible_metrics(cfg))


def everything(height: int, width: int, count: int) -> dict[str, Any]:
    """Returns an output of every task: one object of the first class, everywhere."""
    one = torch.ones((1, height, width), dtype=torch.bool)
    instances = Instances(
        (height, width),
        pred_boxes=BitMasks(one).get_bounding_boxes(),
        pred_masks=one,
        scores=torch.tensor([0.9]),
        pred_classes=torch.tensor([0]),
    )
    segments = torch.ones((height, width), dtype=torch.int32)
    return {
        "instances": instances,
        "sem_seg": torch.zeros((count, height, width)),
        "panoptic_seg": (segments, [{"id": 1, "category_id": 0, "isthing": True}]),
    }


def test_an_evaluation_that_can_not_choose_says_why(caplog: pytest.LogCaptureFixture) -> None:
    hook: Any = BestCheckpoint(1, SimpleNamespace(), "segm/AP")
    latest: dict[str, tuple[float, int]] = {"loss": (1.0, 1), "mine/score": (2.0, 1)}
    hook.trainer = SimpleNamespace(storage=SimpleNamespace(latest=lambda: latest))
    with caplog.at_level(logging.WARNING):
        hook._best_checking()
        latest["segm/AP"] = (float("nan"), 1)
        hook._best_checking()
    assert "not among the metrics of this evaluation (mine/score)" in caplog.text
    assert "segm/AP is no number here" in caplog.text


def test_a_best_value_of_another_metric_is_forgotten() -> None:
    before: Any = BestCheckpoint(1, SimpleNamespace(), "segm/AP")
    after = BestCheckpoint(1, SimpleNamespace(), "bbox/AP")
    before.best_metric, before.best_iter = 40.0, 7
    after.load_state_dict(before.state_dict())
    assert after.best_metric is None
    same = BestCheckpoint(1, SimpleNamespace(), "segm/AP")
    same.load_state_dict(before.state_dict())
    assert (same.best_metric, same.best_iter) == (40.0, 7)
