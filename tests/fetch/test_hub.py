"""Files of the HuggingFace Hub, from a server of this machine that has its layout."""

from pathlib import Path

import pytest

from solo_family.errors import ConfigError, DataError
from solo_family.fetch.hub import fetch_from_hub
from solo_family.fetch.hub_file import HubFile, hub_file, parse_hub
from solo_family.fetch.hub_request import MissingFile

from .server import Hub

SMALL, LARGE = b"MODEL: {}\n", bytes(range(256)) * 40
REPOSITORY = {"config.yaml": SMALL, "model.safetensors": LARGE, "sub/other.pth": LARGE[1:]}
COMMIT, LATER = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SOLO_FAMILY_CACHE", str(tmp_path / "cache"))
    # HuggingFace's cache is another folder, read when the library was imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "theirs"))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_TOKEN_PATH", "/nonexistent")
    for name in ("SOLO_FAMILY_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch):
    """Returns a function that lets the Hub be a server."""
    return lambda server: monkeypatch.setenv("HF_ENDPOINT", server.address)


def test_a_name_has_an_owner_a_repository_a_file_and_a_revision() -> None:
    assert parse_hub("hf:a/b") == HubFile("a/b")
    assert parse_hub("hf:a/b-1.0/c/d.pth@refs/pr/1") == HubFile("a/b-1.0", "c/d.pth", "refs/pr/1")
    assert str(HubFile("a/b", "c/d.pth", "v1")) == "hf:a/b/c/d.pth@v1"
    for wrong in (
        "hf:a",
        "hf://a/b",
        "hf:a/b/",
        "hf:a/b@",
        "hf:a/../b",
        "hf:a/b/../c",
        "hf:a/b@..",
    ):
        with pytest.raises(ConfigError, match=r"Write hf:OWNER/REPO"):
            parse_hub(wrong)


def test_addresses_of_the_hub_are_told_from_others() -> None:
    address = "https://huggingface.co/xinlongwang/SOLO/resolve/main/SOLO_R50_1x.pth"
    assert hub_file(address) == HubFile("xinlongwang/SOLO", "SOLO_R50_1x.pth")
    assert hub_file("https://huggingface.co/a/b/blob/v1/c/d.pth?download=1") == HubFile(
        "a/b", "c/d.pth", "v1"
    )
    for other in ("https://dl.fbaipublicfiles.com/a/b/resolve/main/c", "https://huggingface.co/a"):
        assert hub_file(other) is None


@pytest.mark.parametrize("name", REPOSITORY)
def test_a_file_is_fetched_once_and_then_nothing_is_asked(name: str, at, own_cache: Path) -> None:
    with Hub({"me/model": REPOSITORY}) as server:
        at(server)
        first = fetch_from_hub(HubFile("me/model", name))
        assert len(server.asked) == len(server.requests) == 1
        assert fetch_from_hub(HubFile("me/model", name)) == first
        assert fetch_from_hub(HubFile("me/model", name, COMMIT)) == first
        assert len(server.asked) == len(server.requests) == 1
    assert first.commit == COMMIT
    assert first.path == own_cache / "hub" / "me/model" / COMMIT / name
    assert first.path.read_bytes() == REPOSITORY[name]
    # The server is gone.
    assert fetch_from_hub(HubFile("me/model", name)) == first


def test_a_named_branch_is_asked_for_again_and_no_branch_is_not(
    at, caplog: pytest.LogCaptureFixture
) -> None:
    files = dict(REPOSITORY)
    plain, named = HubFile("me/model", "config.yaml"), HubFile("me/model", "config.yaml", "main")
    with Hub({"me/model": files}) as server:
        at(server)
        old = fetch_from_hub(plain)
        files["config.yaml"] = b"MODEL: {META_ARCHITECTURE: SOLO}\n"
        server.refs["main"] = LATER
        assert fetch_from_hub(plain) == old
        new = fetch_from_hub(named)
        assert (new.commit, new.path.read_bytes()) == (LATER, files["config.yaml"])
        assert fetch_from_hub(plain) == new
        assert fetch_from_hub(HubFile("me/model", "config.yaml", COMMIT)) == old
    # The server is gone: the copy is used, and it is said.
    assert fetch_from_hub(named) == new
    assert "can't be reached" in caplog.text
    assert f"of commit {LATER[:8]}" in caplog.text


def test_an_interrupted_download_goes_on_with_the_next_call(at, own_cache: Path) -> None:
    file = HubFile("me/model", "model.safetensors")
    with Hub({"me/model": REPOSITORY}, break_after=1000) as server:
        at(server)
        with pytest.raises(DataError, match=r"interrupted 3 times .* Run the same command again"):
            fetch_from_hub(file)
    with Hub({"me/model": REPOSITORY}) as server:
        at(server)
        found = fetch_from_hub(file)
    assert server.requests == [("/cdn/me/model/model.safetensors", "bytes=3000-")]
    assert found.path.read_bytes() == LARGE


@pytest.mark.parametrize(
    ("name", "kind"), [("config.yaml", "git"), ("model.safetensors", "sha256")]
)
def test_a_damaged_file_is_refused_and_removed(name: str, kind: str, at, own_cache: Path) -> None:
    with Hub({"me/model": REPOSITORY}, damage=(name,)) as server:
        at(server)
        for _ in range(2):  # nothing of the first try is left for the second
            with pytest.raises(DataError, match=rf"not the published file: its {kind} is .*delet"):
                fetch_from_hub(HubFile("me/model", name))
    assert [
        path for path in own_cache.rglob("*") if path.is_file() and path.suffix != ".lock"
    ] == []


@pytest.mark.parametrize("variable", ["SOLO_FAMILY_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_asked(variable: str, at, monkeypatch: pytest.MonkeyPatch) -> None:
    with Hub({"me/model": REPOSITORY}) as server:
        at(server)
        fetched = fetch_from_hub(HubFile("me/model", "config.yaml"))
        server.asked.clear()
        monkeypatch.setenv(variable, "1")
        assert fetch_from_hub(HubFile("me/model", "config.yaml")) == fetched
        assert fetch_from_hub(HubFile("me/model", "config.yaml", "main")) == fetched
        with pytest.raises(DataError, match=rf"sub/other\.pth is not in the cache .*{variable}=1"):
            fetch_from_hub(HubFile("me/model", "sub/other.pth"))
        assert server.asked == []
        monkeypatch.setenv(variable, "0")
        assert fetch_from_hub(HubFile("me/model", "sub/other.pth")).path.is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:me/none/a.pth", r"there is no model http\S+/me/none, or it is private.*hf auth login"),
        ("hf:me/model/a.pth", r"has no file a\.pth\. http\S+/tree/main lists its files"),
        ("hf:me/model/config.yaml@v9", r"has no branch, tag or commit v9"),
        ("hf:me/mine/config.yaml", r"or it is private.* run `hf auth login`, or set HF_TOKEN"),
    ],
)
def test_what_can_not_be_had_is_one_line(name: str, message: str, at) -> None:
    with Hub({"me/model": REPOSITORY, "me/mine": REPOSITORY}, private=("me/mine",)) as server:
        at(server)
        with pytest.raises(DataError, match=message) as raised:
            fetch_from_hub(parse_hub(name))
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, MissingFile) == name.endswith("a.pth") or "none" in name


def test_a_hub_that_does_not_answer_is_one_line(at) -> None:
    with Hub({}) as server:
        pass
    at(server)
    with pytest.raises(DataError, match=r"hf:a/b/c\.pth is not in the cache, .*can't be reached"):
        fetch_from_hub(HubFile("a/b", "c.pth"))


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors"])
def test_what_a_server_calls_a_commit_is_no_way_out_of_the_cache(
    name: str, at, own_cache: Path
) -> None:
    with Hub({"me/model": REPOSITORY}) as server:
        at(server)
        server.refs["main"] = "../../../../outside"
        with pytest.raises(DataError, match="does not answer as the HuggingFace Hub does"):
            fetch_from_hub(HubFile("me/model", name))
    assert [path.name for path in own_cache.parent.rglob("*") if path.is_file()] == []


def test_a_private_repository_gets_the_token_and_the_other_host_does_not(
    at, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    with Hub({"me/mine": REPOSITORY}, private=("me/mine",)) as server:
        at(server)
        for name in ("config.yaml", "model.safetensors"):
            assert fetch_from_hub(HubFile("me/mine", name)).path.is_file()
    base = "/me/mine/resolve/main"
    assert server.tokens[f"{base}/config.yaml"] == "Bearer secret"
    assert server.tokens["/cdn/me/mine/model.safetensors"] is None


def test_files_of_huggingfaces_own_cache_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOLO_FAMILY_OFFLINE", "1")
    folder = tmp_path / "theirs" / "models--me--model"
    snapshot = folder / "snapshots" / COMMIT / "sub"
    snapshot.mkdir(parents=True)
    (snapshot / "x.pth").write_bytes(SMALL)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    found = fetch_from_hub(HubFile("me/model", "sub/x.pth"))
    assert (found.path.read_bytes(), found.commit) == (SMALL, COMMIT)
