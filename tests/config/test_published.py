"""Our configs have the values of the official ones, key by key."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from detectron2.config import CfgNode

from solo_family.checkpoint.convert import nested
from solo_family.config import get_cfg, setup_cfg
from solo_family.config.rules import get_key
from solo_family.fetch.table import read_table
from solo_family.model_zoo import get_config_file
from solo_family.model_zoo.differences import read_differences, read_missing
from solo_family.model_zoo.published import document

from ..conftest import ROOT
from .golden_configs import GOLDEN, official_configs, read_golden

OFFICIAL = dict(official_configs())
DIFFERENCES = read_differences()


def values_of(name: str) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_file(get_config_file(name))
    return cfg


def plain(value: Any) -> Any:
    """Return numbers as floats and tuples as lists, so that only what they mean is compared."""
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return float(value)


def listed(name: str, key: str, official: Any, ours: Any) -> bool:
    """Return whether the list has a difference; `*` in it stands for any value."""
    return any(
        row.key == key
        and row.is_of(name)
        and row.official in ("*", str(official))
        and row.ours in ("*", str(ours))
        for row in DIFFERENCES
    )


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_values_are_the_official_ones_but_for_the_list_of_differences(name: str) -> None:
    cfg = values_of(name)
    wrong = []
    for key, official in OFFICIAL[name].items():
        ours = get_key(cfg, key)
        if plain(ours) != plain(official) and not listed(name, key, official, ours):
            wrong.append(f"{key} is {ours!r}, officially {official!r}")
    assert not wrong


def test_every_listed_difference_is_one_and_has_a_reason() -> None:
    for row in DIFFERENCES:
        assert len(row.reason) > 20, row
        assert any(
            plain(get_key(values_of(name), row.key)) != plain(OFFICIAL[name][row.key])
            for name in OFFICIAL
            if row.is_of(name) and row.key in OFFICIAL[name]
        ), f"no config differs in this: {row}"


def test_the_page_is_current_and_has_every_published_number() -> None:
    page = (ROOT / "docs" / "published.md").read_text(encoding="utf-8")
    assert page == document(), "python -m solo_family.model_zoo.published docs/published.md"
    for entry in read_table().values():
        assert (f"| `{entry.config}` |" in page) == bool(entry.published)
    assert all(len(row.reason) > 20 for row in read_missing())


def test_whoever_downloads_weights_learns_their_licence() -> None:
    for entry in read_table().values():
        if entry.weights:
            assert entry.licence not in ("", "unknown"), entry.config


OF_DETECTRON2 = [
    *((f"MaskFormer/{name}", values) for name, values in read_golden("mask_former")),
    *((f"SparseInst/{name}", values) for name, values in read_golden("sparse_inst")),
    *((f"SOLOv2/{name}", values) for name, values in read_golden("adelaidet")),
]


@pytest.mark.parametrize(
    "values", [pair[1] for pair in OF_DETECTRON2], ids=[p[0] for p in OF_DETECTRON2]
)
def test_the_official_yaml_loads_unchanged(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "official.yaml"
    lines = yaml.safe_dump(nested(values)).splitlines()
    # MaskFormer's own files write this list as code.
    sizes = values["INPUT.MIN_SIZE_TRAIN"]
    if sizes == [int(x * 0.1 * 512) for x in range(5, 21)]:
        start = lines.index("  MIN_SIZE_TRAIN:")
        lines[start : start + 1 + len(sizes)] = [
            "  MIN_SIZE_TRAIN: !!python/object/apply:eval "
            '["[int(x * 0.1 * 512) for x in range(5, 21)]"]'
        ]
    path.write_text("\n".join(lines))
    cfg = setup_cfg(str(path))
    for key, official in values.items():
        assert plain(get_key(cfg, key)) == plain(official), key


PUBLISHED = set((GOLDEN / "published_weights.txt").read_text(encoding="utf-8").split())
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "configs")))
def test_weights_are_published_or_made_by_a_command_that_the_config_gives(path: Any) -> None:
    text = path.read_text(encoding="utf-8")
    for weights in re.findall(r'^ +WEIGHTS: "([^"]*)"', text, re.MULTILINE):
        # $DATA's own; timm's and torchvision's, by their libraries.
        if weights in ("", "pretrained") or weights.startswith("$DATA/"):
            continue
        if weights in PUBLISHED:
            continue
        source = re.search(r"made once, from (\S+):$", text, re.MULTILINE)
        assert source, weights
        assert source.group(1) in PUBLISHED
        downloaded = source.group(1).rsplit("/", 1)[1]
        assert f"#   python -m solo_family convert {downloaded} {weights}\n" in text
