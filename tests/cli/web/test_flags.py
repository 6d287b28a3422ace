"""The flags of the page, and the lines of those that can't work."""

import argparse
import errno
import os
import signal
import socket
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest

from solo_family.cli import demo
from solo_family.cli.source import Source
from solo_family.cli.web import run, server
from solo_family.cli.web.flags import LOOPBACK, Serving, serving_of
from solo_family.cli.web.model import WebModel
from solo_family.errors import ConfigError
from solo_family.predictor.predictions import Predictions
from solo_family.stopping import Stopped

from .models import find_instances, save, scene, web_model


def _parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return parser.parse_args(["--config-file", "run", *words])


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--web", "--output", "out"], "--output"),
        (["--web", "--save", "coco"], "--save"),
        (["--web", "--json", "x.json"], "--json"),
        (["--web", "--track", "--show"], "--track, --show"),
        (["--web", "--skip-existing"], "--skip-existing"),
        (["--web", "--max-download", "3"], "--max-download"),
        (["--web", "--port", "70000"], "--port is 70000"),
        (["--web", "--max-upload", "0"], "--max-upload is 0"),
        (["--web", "--confidence-threshold", "1.5"], "--confidence-threshold is 1.5"),
        (["--web", "--min-size", "-1"], "--min-size is -1"),
        (["--input", "x.png", "--port", "1"], "--port: only demo --web"),
        (["--input", "x.png", "--host", "::1"], "--host: only demo --web"),
    ],
)
def test_flags_that_can_not_work_are_refused(
    words: list[str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "check_gradio", lambda: pytest.fail("must be refused before"))
    with pytest.raises(ConfigError, match=named):
        demo.run(_parsed(*words))


def test_the_page_and_an_input_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parsed("--web", "--input", "x.png")
    assert "not allowed with argument" in capsys.readouterr().err


def pages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[WebModel, Serving]]:
    """Lets `demo --web` show no page but a line in a list; its model's own threshold is 0.12."""
    served: list[tuple[WebModel, Serving]] = []
    monkeypatch.setattr(run, "check_gradio", lambda: None)
    monkeypatch.setattr(
        run, "serve", lambda model, serving, _: served.append((model, serving)) or 0
    )
    model = replace(web_model().model, threshold=0.12)
    monkeypatch.setattr(demo, "_open_model", lambda *_: (model, "key"))
    return served


@pytest.mark.parametrize(("flags", "first"), [((), 0.12), (("--confidence-threshold", "0"), 0)])
def test_the_page_begins_with_the_models_own_threshold(
    flags: tuple[str, ...], first: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = pages(monkeypatch)
    assert demo.run(_parsed("--web", *flags)) == 0
    assert [serving.threshold for _, serving in served] == [first]


def test_what_the_flags_say_reaches_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    served = pages(monkeypatch)
    words = ["--port", "0", "--host", "0.0.0.0", "--max-upload", "2", "--classes", "high"]
    more = ["--confidence-threshold", "0.3", "--min-size", "7", "--tile", "64", "8"]
    assert demo.run(_parsed("--web", *words, *more, "--pixel-size", "2um", "--no-overlap")) == 0
    ((model, serving),) = served
    assert serving == Serving("0.0.0.0", 0, 2 * 10**6, 0.3, (1,))
    assert (model.name, model.tiling.size, model.tiling.overlap) == ("run", 64, 8)
    # The classes are the page's own choice, which may be changed there.
    assert (model.filters.labels, model.filters.min_size, model.filters.no_overlap) == (
        None,
        7,
        True,
    )
    assert model.options.pixel_size is not None


def test_this_machine_and_256_megabytes_are_the_default() -> None:
    assert serving_of(_parsed("--web"), (), 0.5) == Serving(None, None, 256 * 10**6, 0.5, ())
    assert LOOPBACK == "127.0.0.1"


def test_without_gradio_the_extra_is_named_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr(demo, "_open_model", lambda *_: pytest.fail("must not be loaded"))
    with pytest.raises(
        ConfigError, match=r"^--web needs gradio: pip install 'solo-family\[web\]'$"
    ):
        demo.run(_parsed("--web"))


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port} is in use"):
            server.serve(web_model(), Serving(None, port, 1), tmp_path)


def test_an_address_of_another_machine_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--host is 192\.0\.2\.1, which is no address of this"):
        server.serve(web_model(), Serving("192.0.2.1", 0, 1), tmp_path)


def test_a_port_that_only_root_may_use_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket, "create_server", refused)
    with pytest.raises(ConfigError, match="--port 80 is not allowed to this user"):
        server.serve(web_model(), Serving(None, 80, 1), tmp_path)


@pytest.mark.parametrize(
    ("host", "is_loud"),
    [("127.0.0.1", False), ("::1", False), ("0.0.0.0", True), ("10.1.2.3", True)],
)
def test_an_address_that_others_reach_is_said_loudly(
    host: str, is_loud: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    server._tell(host, 7860)
    printed = capsys.readouterr()
    assert ("WARNING" in printed.err) == is_loud
    assert ":7860 in a browser" in printed.out


def test_the_pages_folder_and_environment_last_as_long_as_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "True")
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    with server.page_folder() as folder:
        (folder / "x.png").write_bytes(b"x")
        assert folder.parent == tmp_path
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert not list(tmp_path.iterdir())
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "True"
    assert "GRADIO_TEMP_DIR" not in os.environ


@pytest.mark.parametrize("is_busy", [False, True])
def test_ctrl_c_waits_for_no_prediction(
    is_busy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, free, ended = Event(), Event(), []

    def find(image: np.ndarray) -> Predictions:
        begun.set()
        free.wait(60)
        return find_instances(image)

    def interrupted(*_: object) -> object:
        def run(**_: object) -> None:
            raise Stopped(signal.SIGINT)

        return SimpleNamespace(run=run)

    folder = tmp_path / "page"
    folder.mkdir()
    model = web_model(find)
    upload = Source(Path(save(tmp_path / "x.png", scene())), is_video=False)
    with ThreadPoolExecutor() as thread:
        if is_busy:
            thread.submit(model, upload)
            begun.wait(60)
        monkeypatch.setattr(server, "_GRACE", 0.1)
        monkeypatch.setattr(server, "_server", interrupted)
        monkeypatch.setattr(server, "end_at_once", lambda *given: ended.append(given))
        with pytest.raises(Stopped, match="the page is closed, and its files are removed"):
            server.serve(model, Serving(None, 0, 1), folder)
        free.set()
    text = "the page is closed, and its files are removed."
    assert ended == ([(signal.SIGINT, text)] if is_busy else [])
    assert folder.exists() != is_busy
