"""The yaml of a recipe: what is written is what is read."""

from pathlib import Path

import pytest
import yaml

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


def test_a_base_below_the_folder_is_relative(tmp_path: Path) -> None:
    assert base_path(tmp_path / "configs" / "a.yaml", tmp_path / "my.yaml") == "configs/a.yaml"
    other = base_path(tmp_path / "configs" / "a.yaml", tmp_path / "sub" / "my.yaml")
    assert other == str(tmp_path.resolve() / "configs" / "a.yaml")


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write("\ud800", tmp_path / "my.yaml")
    assert list(tmp_path.iterdir()) == []
