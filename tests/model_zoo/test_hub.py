"""Weights of the HuggingFace Hub come by way of its own library and cache."""

from functools import partial
from pathlib import Path

import huggingface_hub
import pytest

from solo_family.errors import DataError
from solo_family.model_zoo import models
from solo_family.model_zoo.hub import HubFile, download_from_hub, hub_file
from solo_family.model_zoo.table import Entry

from .server import Files

ORIGINAL = huggingface_hub.hf_hub_download
ADDRESS = "https://huggingface.co/xinlongwang/SOLO/resolve/main/SOLO_R50_1x.pth"
PATH = "/xinlongwang/SOLO/resolve/main/SOLO_R50_1x.pth"
DATA = bytes(range(256)) * 4


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOLO_FAMILY_CACHE", str(tmp_path))
    return tmp_path


def asked_at(server: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = partial(ORIGINAL, endpoint=server.address)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)


def test_addresses_of_the_hub_are_told_from_others() -> None:
    assert hub_file(ADDRESS) == HubFile("xinlongwang/SOLO", "main", "SOLO_R50_1x.pth")
    assert hub_file("https://huggingface.co/a/b/blob/v1/c/d.pth?download=1") == HubFile(
        "a/b", "v1", "c/d.pth"
    )
    for other in ("https://dl.fbaipublicfiles.com/a/b/resolve/main/c", "https://huggingface.co/a"):
        assert hub_file(other) is None


def test_a_file_is_fetched_once_then_offline_too(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Entry("SOLO/x.yaml", "AP", "35.8", "", "", "", ADDRESS, "", "")
    with Files({PATH: DATA}) as server:
        asked_at(server, monkeypatch)
        path = models._fetch(entry)
    assert path.read_bytes() == DATA
    assert cache in path.parents
    assert [path for path, _ in server.requests] == [PATH]
    # The server is gone.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert models._fetch(entry) == path


def test_what_can_not_be_had_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = HubFile("a/b", "main", "c.pth")
    with Files({}) as server:
        asked_at(server, monkeypatch)
        with pytest.raises(DataError, match=r"^c\.pth of .*a/b does not exist any more \(404"):
            download_from_hub(file)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"is not in the cache, .* HF_HUB_OFFLINE"):
        download_from_hub(file)
    (cache / "taken").write_text("")
    monkeypatch.setenv("SOLO_FAMILY_CACHE", str(cache / "taken"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with Files({"/a/b/resolve/main/c.pth": DATA}) as server:
        asked_at(server, monkeypatch)
        with pytest.raises(DataError, match=r"can't be written to the cache .*SOLO_FAMILY_CACHE"):
            download_from_hub(file)
