"""The code in docs/deploy.md, as it stands there."""

import json
import threading
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest

from .conftest import ROOT
from .export.exporting import export, picture_of


def code(title: str, number: int = 0) -> str:
    """Returns a Python block of a section, counted from 0."""
    section = (ROOT / "docs" / "deploy.md").read_text().split(f"## {title}\n")[1]
    return section.split("```python\n")[number + 1].split("```")[0]


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    export("SparseInst", tmp_path / "exported")
    cv2.imwrite(str(tmp_path / "image.jpg"), picture_of((64, 96)))
    return tmp_path


def test_the_example_of_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    export("SparseInst", tmp_path / "exported", batch_size=None)
    cv2.imwrite(str(tmp_path / "image.jpg"), picture_of((64, 96)))
    variables: dict = {}
    exec(code("Python"), variables)
    alone = variables["instances"]
    exec(code("Python", 1), variables)
    assert len(variables["instances"]) == len(alone) > 0
    assert abs(variables["instances"].scores - alone.scores).max() < 1e-4


def test_the_python_example_and_the_server(exported: Path) -> None:
    variables: dict = {}
    exec(code("Python"), variables)
    assert len(variables["results"]) > 0

    assert len(code("A server").splitlines()) <= 35
    variables["__name__"] = "server"
    exec(code("A server"), variables)
    server = ThreadingHTTPServer(("127.0.0.1", 0), variables["Handler"])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        data = (exported / "image.jpg").read_bytes()
        answer = json.load(urllib.request.urlopen(url, data=data, timeout=60))
        assert answer == variables["results"]
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(url, data=b"no picture", timeout=60)
    finally:
        server.shutdown()
