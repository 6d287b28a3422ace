"""A second start goes on with the same pictures, model and settings, and with no others."""

from pathlib import Path
from typing import Any

import pytest

from solo_family.cli.inputs import Source, find_sources
from solo_family.cli.many.folder import Folder
from solo_family.cli.many.manifest import begin
from solo_family.errors import ConfigError, DataError

SETTINGS: dict[str, Any] = {"the model": "abc", "--classes": ["coin"], "--min-size": 3}


def pictures(folder: Path, *names: str) -> list[Source]:
    for name in names:
        (folder / name).write_bytes(b"")
    return [Source(folder / name, is_video=False) for name in names]


def test_a_second_start_keeps_the_size_of_shards(tmp_path: Path) -> None:
    sources = pictures(tmp_path, "a.png", "b.png")
    with Folder(str(tmp_path / "out")) as folder:
        assert begin(folder, sources, SETTINGS, 100) == 100
        assert begin(folder, sources, dict(SETTINGS), 7) == 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"the model": "abd"}, "the model has changed"),
        ({"--classes": None}, r"--classes was \['coin'\], and is None"),
        ({"--min-size": 4}, "--min-size was 3, and is 4"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    sources = pictures(tmp_path, "a.png")
    with Folder(str(tmp_path / "out")) as folder:
        begin(folder, sources, SETTINGS, 100)
        with pytest.raises(ConfigError, match=message):
            begin(folder, sources, SETTINGS | change, 100)


def test_other_pictures_are_refused_and_the_list_of_the_first_goes_on(tmp_path: Path) -> None:
    sources = pictures(tmp_path, "a.png", "b c.png", "#d.png", "e.tif")
    sources[3:] = [Source(tmp_path / "e.tif", False, page=page) for page in (1, 2)]
    with Folder(str(tmp_path / "out")) as folder:
        begin(folder, sources, SETTINGS, 100)
        with pytest.raises(ConfigError, match="5 at the first start, 4 now") as error:
            begin(folder, sources[:4], SETTINGS, 100)
        with pytest.raises(ConfigError, match="5 at the first start, 5 now"):
            begin(folder, sources[::-1], SETTINGS, 100)
        # As the message says.
        listed = str(error.value).partition("--input ")[2].partition(" ")[0]
        found, unmatched = find_sources([listed])
        assert [one.path for one in found] == list(dict.fromkeys(one.path for one in sources))
        assert not unmatched


def test_a_manifest_of_another_program_is_refused(tmp_path: Path) -> None:
    for content in ("{", "[]", '{"kind": "other"}'):
        (tmp_path / "manifest.json").write_text(content)
        with Folder(str(tmp_path)) as folder, pytest.raises(DataError, match="Name another"):
            begin(folder, [], SETTINGS, 100)
