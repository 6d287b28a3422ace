"""The verb `init`: a config from data and machine, with nothing left behind where it refuses."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from solo_family import METHODS
from solo_family.__main__ import main
from solo_family.config import setup_cfg
from solo_family.engine.arguments import argument_parser
from solo_family.engine.main import run as train
from solo_family.evaluation.build import predicted_tasks
from solo_family.fetch import table

from ..checkpoint.lists import random_weights, save
from ..coco_folder import write_cfg
from ..conftest import ROOT, tiny_cfg, tiny_model
from ..data.coco import write_dataset
from ..fetch.server import Files
from ..fetch.tables import write_table

FAST = ("--seconds-per-iteration", "1.5")


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Return what --train takes: six images of two classes."""
    annotations = [
        {
            "image_id": image,
            "category_id": category,
            "bbox": [4 + 40 * number, 6, 30, 40],
            "area": 1200,
            "segmentation": [[x, 6, x + 30, 6, x + 30, 46, x, 46]],
        }
        for image in range(1, 7)
        for number, category in enumerate((7, 3))
        for x in [4 + 40 * number]
    ]
    name = write_dataset(tmp_path / "data", annotations, images=6)
    return name.removeprefix("coco_json:")


def init(tmp_path: Path, *words: str) -> int:
    return main(["init", "--output", str(tmp_path / "new" / "my.yaml"), *words])


def config_of(tmp_path: Path) -> CfgNode:
    return setup_cfg(str(tmp_path / "new" / "my.yaml"))


def test_it_writes_a_config_and_a_split_and_prints_the_plan(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(tmp_path, "--train", data, *FAST) == 0
    folder = tmp_path / "new"
    cfg = config_of(tmp_path)
    assert cfg.MODEL.META_ARCHITECTURE == "SOLOv2"
    assert cfg.DATASETS.TRAIN[0].startswith(f"coco_json:{folder / 'my_data' / 'train.json'}:")
    counts = {}
    for split in ("train", "val"):
        content = json.loads((folder / "my_data" / f"{split}.json").read_text())
        counts[split] = len(content["images"])
    assert counts == {"train": 5, "val": 1}
    printed = capsys.readouterr().out
    assert "5 images of 64 x 96 to 64 x 96 pixels (channels: 3), 10 objects, at most 2" in printed
    assert "SOLVER.MAX_ITER" in printed
    assert printed.endswith(f"python train_net.py --config-file {folder / 'my.yaml'}\n")
    lines = (folder / "my.yaml").read_text().splitlines()
    assert all("  # " in line for line in lines[2:] if not line.endswith(":"))
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    # It names no path of the package, and can be moved.
    moved = setup_cfg(str(folder.rename(tmp_path / "moved") / "my.yaml"))
    assert moved.dump() == cfg.dump()
    assert str(ROOT / "configs") not in "\n".join(lines)


def test_a_crowded_validation_image_keeps_all_its_objects(data: str, tmp_path: Path) -> None:
    box = {"category_id": 7, "bbox": [4, 6, 30, 40], "area": 1200}
    outline = [[4, 6, 34, 6, 34, 46, 4, 46]]
    crowd = [{"image_id": 1, "segmentation": outline} | box for _ in range(120)]
    other = write_dataset(tmp_path / "val", [*crowd, {**crowd[0], "category_id": 3}], images=1)
    val = other.removeprefix("coco_json:")
    assert init(tmp_path, "--train", data, "--val", val, "--anyway", *FAST) == 0
    assert config_of(tmp_path).TEST.DETECTIONS_PER_IMAGE >= 121


def test_it_writes_the_same_again(data: str, tmp_path: Path) -> None:
    texts = []
    for _ in range(2):
        assert init(tmp_path, "--train", data, "--val", data, "--anyway", *FAST) == 0
        texts.append((tmp_path / "new" / "my.yaml").read_bytes())
        (tmp_path / "new" / "my.yaml").unlink()
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "yolo"], "--method is yolo; allowed: "),
        (["--minutes", "0.5"], "--minutes is 0.5; 1 is the least."),
        (["--minutes", "nan"], "--minutes is nan; 1 is the least."),
        (["--seconds-per-iteration", "0"], "--seconds-per-iteration is 0; it must be above 0."),
        (["--output", "my.txt"], "--output is my.txt; it must end in .yaml."),
        (["--from", "nothing"], "--from nothing: it is no name of the model zoo"),
        (
            ["--method", "sparseinst", "--from", "coco"],
            "--from coco: no COCO weights of SparseInst",
        ),
        (["--from", "quickstart/solov2.yaml"], "--from quickstart/solov2.yaml: no weights that"),
        (["--val", "nothing.json:images"], "there is no annotation file nothing.json"),
        (["--val", "semantic:a:b:c"], "semantic:a:b:c"),
        (["--val", "nothing"], "Dataset 'nothing' is not registered."),
    ],
)
def test_refusals_have_one_line_and_leave_nothing(
    words: list[str],
    message: str,
    data: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert init(tmp_path, "--train", data, *FAST, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert [path for path in (tmp_path / "new").rglob("*.yaml")] == []


@pytest.mark.parametrize("name", ["my.yaml", "my_data", "my_weights.pth"])
def test_what_exists_is_never_overwritten(
    name: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / name
    path.parent.mkdir()
    path.write_text("mine")
    assert init(tmp_path, "--train", data, *FAST) == 2
    assert f"{path} exists: name another --output" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_problems_are_refused_in_the_words_of_check_data(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(data.partition(":")[0])
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = [[0.1, 0.1, 0.5, 0.1, 0.5, 0.9]]
    path.write_text(json.dumps(content))
    assert init(tmp_path, "--train", data, *FAST) == 2
    error = capsys.readouterr().err
    words = "1 masks whose coordinates are all from 0 to 1"
    assert words in error
    assert "--anyway goes on" in error
    assert len(error.strip().splitlines()) == 1
    assert init(tmp_path, "--train", data, "--anyway", *FAST) == 0
    assert words in capsys.readouterr().out


def test_an_image_on_both_sides_is_refused(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = data.split(":")
    copy = shutil.copy(path, tmp_path / "copy.json")
    assert init(tmp_path, "--train", data, "--val", f"{copy}:{folder}", *FAST) == 2
    words = "training and validation: 6 images that are both in training and in validation"
    assert words in capsys.readouterr().err


def test_one_image_is_not_split(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(data.partition(":")[0])
    content = json.loads(path.read_text())
    content["images"] = content["images"][:1]
    content["annotations"] = content["annotations"][:2]
    path.write_text(json.dumps(content))
    assert init(tmp_path, "--train", data, "--minutes", "1", *FAST) == 0
    cfg = config_of(tmp_path)
    assert cfg.DATASETS.TEST == ()
    assert cfg.TEST.EVAL_PERIOD == 0
    assert f"{cfg.SOLVER.MAX_ITER} iterations are few" in capsys.readouterr().out


def write_run(folder: Path, method: str, names: list[str]) -> dict[str, torch.Tensor]:
    """Write the config and the weights of a run, and return the weights."""
    folder.mkdir()
    # Which a recipe leaves out: no run has both.
    scaling = "INPUT.REDUCED_JPEG" if method == "SparseInst" else "INPUT.LSJ.ENABLED"
    keys = ["MODEL.CLASS_NAMES", names, "DATASETS.TRAIN", (), scaling, True]
    cfg = tiny_cfg(method, len(names), keys)
    write_cfg(folder / "config.yaml", cfg)
    weights = tiny_model(method, len(names)).state_dict()
    torch.save({"model": weights}, folder / "model_final.pth")
    return weights


@pytest.mark.parametrize("method", ["SOLOv2", "SparseInst", "MaskFormer"])
def test_a_class_that_the_source_has_keeps_its_weights(
    method: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write_run(tmp_path / "run", method, ["bird", "cat", "fish"])
    assert init(tmp_path, "--train", data, "--from", str(tmp_path / "run"), *FAST) == 0
    cfg = config_of(tmp_path)
    assert method == cfg.MODEL.META_ARCHITECTURE
    assert not cfg.INPUT.LSJ.ENABLED
    assert not cfg.INPUT.REDUCED_JPEG
    assert predicted_tasks(cfg) == ["instance"]
    new = torch.load(cfg.MODEL.WEIGHTS, weights_only=True)["model"]
    changed = {name for name, value in new.items() if value.shape != old[name].shape}
    assert changed
    for name, value in new.items():
        if name not in changed:
            assert torch.equal(value, old[name]), name
            continue
        assert len(value) == len(old[name]) - 1
        # The dataset's classes are dog and cat, in this order; "no object" follows them.
        assert torch.equal(value[1], old[name][1]), name
        assert torch.equal(value[2:], old[name][3:]), name
    printed = capsys.readouterr().out
    assert "classes that keep their weights: cat" in printed
    assert "left out: bird, fish" in printed


@contextmanager
def published(
    name: str, weights: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Let a server here publish the weights of a model of the zoo."""
    content = save(folder / "theirs.pth", weights).read_bytes()
    monkeypatch.setenv("SOLO_FAMILY_CACHE", str(folder / "cache"))
    with Files({"/a.pth": content}) as server:
        place = {"weights": f"{server.address}/a.pth", "checksum": server.checksum(content)}
        monkeypatch.setattr(table, "TABLE", write_table(folder / "models.csv", name, **place))
        yield


def test_published_weights_are_converted_and_their_licence_is_told(
    data: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, cat, dog = "SOLOv2/solov2_R50_1x.yaml", 15, 16  # their places among COCO's classes
    weights = random_weights("official_solov2")
    weights["bbox_head.solo_cate.weight"] = torch.randn(80, 64, 3, 3)
    weights["bbox_head.solo_cate.bias"] = torch.randn(80)
    with published(name, weights, tmp_path, monkeypatch):
        assert init(tmp_path, "--train", data, "--from", name, *FAST) == 0
    cfg = config_of(tmp_path)
    new = torch.load(cfg.MODEL.WEIGHTS, weights_only=True)["model"]
    biases = weights["bbox_head.solo_cate.bias"][[dog, cat]]
    assert torch.equal(new["head.category_branch.logits.bias"], biases)
    assert torch.equal(new["head.kernel_predictor.weight"], weights["bbox_head.solo_kernel.weight"])
    printed = capsys.readouterr().out
    assert "licence: non-commercial" in printed
    assert "classes that keep their weights: dog, cat" in printed
    # They fit the model that the config describes.
    model = build_model(with_classes_of(cfg, 2))
    assert not model.load_state_dict(new, strict=False).missing_keys


def with_classes_of(cfg: CfgNode, count: int) -> CfgNode:
    cfg = cfg.clone()
    cfg.merge_from_list([METHODS[cfg.MODEL.META_ARCHITECTURE].num_classes_key, count])
    return cfg


def test_a_method_that_is_not_the_sources_is_refused(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", "SOLO", ["a"])
    words = ("--from", str(tmp_path / "run" / "model_final.pth"), "--method", "solov2")
    assert init(tmp_path, "--train", data, *words, *FAST) == 2
    assert "is a model of solo. Leave one of the two out." in capsys.readouterr().err


def train_one_step(config: Path, folder: Path) -> dict[str, dict[str, float]]:
    short = ["SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", "0"]
    short += ["TEST.EVAL_PERIOD", "1", "DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", str(folder)]
    return train(argument_parser().parse_args(["--config-file", str(config), *short]))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_config_from_a_run_trains(method: str, data: str, tmp_path: Path) -> None:
    write_run(tmp_path / "run", method, ["bird", "cat", "fish"])
    assert init(tmp_path, "--train", data, "--from", str(tmp_path / "run"), *FAST) == 0
    assert train_one_step(tmp_path / "new" / "my.yaml", tmp_path / "output")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_config_of_every_method_trains(method: str, data: str, tmp_path: Path) -> None:
    assert init(tmp_path, "--train", data, "--method", method.lower(), *FAST) == 0
    path = tmp_path / "new" / "my.yaml"
    written = yaml.safe_load(path.read_text())
    results = train_one_step(path, tmp_path / "output")
    task, metric = written["TEST"]["BEST_METRIC"].split("/")
    assert metric in results[task]
    assert (tmp_path / "output" / "model_final.pth").is_file()


@pytest.mark.slow
def test_without_a_given_time_ten_iterations_are_timed(data: str, tmp_path: Path) -> None:
    assert init(tmp_path, "--train", data, "--minutes", "1") == 0
    reason = (tmp_path / "new" / "my.yaml").read_text().split("1 minutes of ")[1].split(" s ")[0]
    assert float(reason) == float(f"{float(reason):.1e}") > 0
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "efficientnet_lite0.pth",
        "my.yaml",
        "my_data",
    ]
