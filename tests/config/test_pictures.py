"""Keys about pictures: each refusal names what to set, and with that the configuration works."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode

from solo_family.config import check_config
from solo_family.config.load import merge_file, merge_pairs
from solo_family.errors import ConfigError

from ..conftest import tiny_cfg


def checked(*pairs: Any) -> CfgNode:
    cfg = tiny_cfg()
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [123.5, 116.5, 103.5], [58.0, 57.0, 56.0]
    merge_pairs(cfg, pairs)
    check_config(cfg)
    return cfg


def advised(error: Exception) -> list[str]:
    """The keys and values that a message ends with, as a shell passes them on."""
    return shlex.split(re.split(r"begin with |Set (?=INPUT)", str(error))[-1].split(";")[0])


@pytest.mark.parametrize(
    ("pairs", "mean", "std"),
    [
        (["INPUT.FORMAT", "5ch"], [123.5, 116.5, 103.5, 114.5, 114.5], [58, 57, 56, 57, 57]),
        (["INPUT.FORMAT", "L"], [114.5], [57]),
        (["INPUT.FORMAT", "2ch"], [114.5] * 2, [57] * 2),
        (["INPUT.FORMAT", "CBGRN"], [114.5, 123.5, 116.5, 103.5, 114.5], [57, 58, 57, 56, 57]),
        (["MODEL.PIXEL_MEAN", "[1.0]"], [1.0] * 3, [58, 57, 56]),
    ],
)
def test_statistics_of_other_channels_are_refused_with_a_line_to_begin_with(
    pairs: list[str], mean: list[float], std: list[float]
) -> None:
    with pytest.raises(ConfigError, match="one for each channel is needed") as error:
        checked(*pairs)
    cfg = checked(*pairs, *advised(error.value))
    assert (mean, std) == (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)


FOUR = ["INPUT.FORMAT", "RGBN", "MODEL.PIXEL_MEAN", [1.0] * 4, "MODEL.PIXEL_STD", [1.0] * 4]


@pytest.mark.parametrize("bands", ["(5, 2, 1)", "(0, 1, 2)", "(1, 2)", "('R', 'G', 'B')"])
def test_bands_are_channels(bands: str) -> None:
    with pytest.raises(ConfigError, match=r"INPUT\.BANDS is .* from 1 to 4"):
        checked(*FOUR, "INPUT.BANDS", bands)
    assert checked(*FOUR, "INPUT.BANDS", "(4, 2, 1)").INPUT.BANDS == (4, 2, 1)


@pytest.mark.parametrize("key", ["INPUT.COLOR_AUG_SSD", "INPUT.COLOR_AUG.ENABLED"])
def test_augmentations_of_colours_are_refused_for_other_channels(key: str) -> None:
    checked(key, True)
    with pytest.raises(ConfigError, match="changes red, green and blue") as error:
        checked(*FOUR, key, True)
    checked(*FOUR, key, True, *advised(error.value))


def test_a_bare_number_of_channels_is_refused_with_its_spelling(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"INPUT\.FORMAT 5ch") as error:
        checked("INPUT.FORMAT", "5")
    (tmp_path / "x.yaml").write_text("INPUT: {FORMAT: 5}")
    with pytest.raises(ConfigError, match=r"INPUT\.FORMAT 5ch"):
        merge_file(tiny_cfg(), str(tmp_path / "x.yaml"))
    five = ["MODEL.PIXEL_MEAN", [1.0] * 5, "MODEL.PIXEL_STD", [1.0] * 5]
    line = str(error.value).rpartition("instance ")[2].rstrip(".").split()
    assert checked(*five, *line).INPUT.FORMAT == "5ch"
