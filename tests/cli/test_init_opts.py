"""Keys that are given to `init`: how images are read, and lines of the config."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from solo_family.__main__ import main
from solo_family.config import setup_cfg

from ..coco_folder import CocoFolder, rectangle
from .test_init import FAST, config_of, init


def write(root: Path, suffix: str, save: Any) -> str:
    """Writes six images, each of which `save` writes to a path, and returns what --train takes."""
    folder = CocoFolder(root, {1: "cell"})
    for number in range(6):
        name = f"{chr(97 + number)}{suffix}"
        save(root / "images" / name, np.random.default_rng(number))
        entry = {"id": number, "file_name": name, "height": 64, "width": 96}
        folder.content["images"].append(entry)
        thing = rectangle(8, 8, 40, 30)
        folder.content["annotations"].append({"id": number, "image_id": number} | thing)
    folder.write()
    return f"{folder.json}:{root}/images"


def twelve_bits(path: Path, rng: np.random.Generator) -> None:
    Image.fromarray(rng.integers(0, 4000, (64, 96), np.uint16)).save(path)


def five_channels(path: Path, rng: np.random.Generator) -> None:
    np.save(path, rng.integers(0, 255, (64, 96, 5), np.uint8))


def test_the_range_that_is_asked_for_can_be_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data", ".png", twelve_bits)
    assert init(tmp_path, "--train", data, *FAST) == 2
    error = capsys.readouterr().err
    words = shlex.split(re.findall(r"(--opts INPUT.RANGE \".*?\")", error)[0])
    assert init(tmp_path, "--train", data, *FAST, *words) == 0
    assert list(config_of(tmp_path).INPUT.RANGE) == [0, 4095]
    assert "given with --opts" in capsys.readouterr().out
    path, _, images = data.partition(":")
    check = ["check-data", "--annotations", path, "--images", images]
    assert main(check) == 1
    assert main([*check, *words]) == 0  # a config is not needed for it


def test_other_channels_are_given_as_the_messages_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data", ".npy", five_channels)
    assert init(tmp_path, "--train", data, *FAST) == 2
    assert "for instance with --opts INPUT.FORMAT 5ch;" in capsys.readouterr().err
    words = ["--train", data, "--minutes", "1", "--opts", "INPUT.FORMAT", "5ch"]
    assert init(tmp_path, *words) == 2
    error = capsys.readouterr().err
    words += shlex.split(error.partition("begin with ")[2])
    assert init(tmp_path, *words[:2], *FAST, *words[2:]) == 0
    cfg = setup_cfg(str(tmp_path / "new" / "my.yaml"))
    assert cfg.INPUT.FORMAT == "5ch"
    assert cfg.MODEL.PIXEL_MEAN == [127.0] * 5


def test_a_given_key_replaces_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data", ".png", lambda p, rng: Image.new("RGB", (96, 64)).save(p))
    words = ("--train", data, "--anyway", *FAST, "--opts")
    assert init(tmp_path, *words, "SOLVER.BASE_LRS", "0.1") == 2
    assert "There is no key SOLVER.BASE_LRS" in capsys.readouterr().err
    assert init(tmp_path, *words, "SOLVER.BASE_LR", "0.125", "TEST.EVAL_PERIOD", "7") == 0
    cfg = config_of(tmp_path)
    assert (cfg.SOLVER.BASE_LR, cfg.TEST.EVAL_PERIOD) == (0.125, 7)
    assert (tmp_path / "new" / "my.yaml").read_text().count("BASE_LR:") == 1
