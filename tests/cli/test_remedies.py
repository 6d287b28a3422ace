"""What a verb's message advises is typed, literally, and the second try ends with 0."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as mask_util

from solo_family import METHODS
from solo_family.__main__ import main

from ..coco_folder import CocoFolder, run_cfg, small_dataset, write_cfg


def refused(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    assert main(words) == 2
    return capsys.readouterr().err


def predictions(root: Path, folder: CocoFolder) -> str:
    """Writes one prediction."""
    mask = mask_util.encode(np.asfortranarray(np.eye(64, 48, dtype=np.uint8)))
    one = {"size": [64, 48], "counts": mask["counts"].decode()}
    found = {"image_id": 1, "category_id": 1, "score": 0.9, "segmentation": one}
    (root / "found.json").write_text(json.dumps([found]))
    return str(root / "found.json")


def test_errors_of_two_datasets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = small_dataset(tmp_path / "a"), small_dataset(tmp_path / "b")
    cfg = run_cfg(one.name, tmp_path / "run")
    cfg.DATASETS.TEST = (one.name, other.name)
    config = str(write_cfg(tmp_path / "config.yaml", cfg))
    rest = ["--predictions", predictions(tmp_path, one), "--output", str(tmp_path / "out")]
    said = refused(capsys, ["errors", "--config-file", config, *rest])
    advice = re.search(r"End the command with (--opts .*?), or give", said)
    assert advice
    words = shlex.split(advice[1].replace("NAME", one.name))
    assert main(["errors", "--config-file", config, *rest, *words]) == 0
    assert "or give --annotations FILE instead of --config-file" in said
    assert main(["errors", "--annotations", str(one.json), *rest]) == 0


def test_evaluate_says_how_a_dataset_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What else `check-data` needs, and takes as it says."""
    folder = small_dataset(tmp_path / "a")
    words = ["check-data", "--annotations", str(folder.json)]
    assert "--annotations FILE and --images DIR go together" in refused(capsys, words)
    assert main([*words, "--images", str(folder.root / "images")]) == 0
    said = refused(capsys, ["check-data"])
    assert "Give --config-file FILE, or --annotations FILE and --images DIR" in said
    config = str(write_cfg(tmp_path / "config.yaml", run_cfg(folder.name, tmp_path / "run")))
    assert main(["check-data", "--config-file", config]) == 0
    said = refused(capsys, ["check-data", "--config-file", config, "--write-fixed", "x.json"])
    assert "--write-fixed OUT.json goes with --annotations and --images" in said
    images = ["--images", str(folder.root / "images"), "--write-fixed", str(tmp_path / "x.json")]
    assert main([*words, *images]) == 0


def test_targets_of_a_method_without_a_grid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small_dataset(tmp_path / "a", images=2)
    cfg = run_cfg(folder.name, tmp_path / "run", "MODEL.META_ARCHITECTURE", "SparseInst")
    config = str(write_cfg(tmp_path / "config.yaml", cfg))
    words = ["visualize-data", "--config-file", config, "--output", str(tmp_path / "out")]
    said = refused(capsys, [*words, "--targets"])
    assert "leave it out" in said
    assert main(words) == 0
    names = re.search(r"It works with MODEL\.META_ARCHITECTURE (.*); leave", said)
    assert names
    for name in names[1].split(", "):
        opts = ["--opts", "MODEL.META_ARCHITECTURE", name, METHODS[name].num_classes_key, "0"]
        assert main([*words, "--targets", *opts]) == 0
