"""The yaml of a recipe: what is written is what is read."""

from pathlib import Path

import pytest
import yaml

from solo_family.model_zoo import get_config_file
from solo_family.recipe.choice import Choice
from solo_family.recipe.write import as_yaml, base_path, write

VALUES = [
    *(0, 1, -3, 0.5, 1e-5, 12.0, True, False, "", "a", [], [1, 2], [[1.0, 2], [0.25, 3]]),
    *("it's", 'a "b" \\ c', "käfer: #1", "tab\there", ["x: y", "# no comment"], "yes", "1e3"),
]


def test_yaml_reads_every_value_as_it_was() -> None:
    choices = [Choice(f"A.B{n}", value, "why: #1\nnot") for n, value in enumerate(VALUES)]
    content = yaml.safe_load(as_yaml("../b'ase.yaml", choices, "two\nlines"))
    assert content["_BASE_"] == "../b'ase.yaml"
    assert [content["A"][f"B{n}"] for n in range(len(VALUES))] == VALUES
    assert all(type(content["A"][f"B{n}"]) is type(v) for n, v in enumerate(VALUES))


def test_a_base_is_named_so_that_it_can_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def named(base: str, output: str) -> str:
        return base_path(tmp_path / base, tmp_path / output)

    own = Path(get_config_file("SOLOv2/solov2_R50_3x.yaml"))
    assert base_path(own, tmp_path / "my.yaml") == "solo_family://SOLOv2/solov2_R50_3x.yaml"
    assert named("configs/a.yaml", "my.yaml") == "configs/a.yaml"
    assert named("run/a.yaml", "sub/my.yaml") == str(tmp_path.resolve() / "run" / "a.yaml")
    monkeypatch.chdir(tmp_path)
    assert named("run/a.yaml", "sub/my.yaml") == "../run/a.yaml"


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write("\ud800", tmp_path / "my.yaml")
    assert list(tmp_path.iterdir()) == []
