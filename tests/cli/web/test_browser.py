"""The page in headless Chromium, with a small model: `demo --web` as it is typed."""

import asyncio
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

from solo_family.cli.web.flags import Serving
from solo_family.cli.web.page import build_page
from solo_family.cli.web.sessions import Sessions

from ...conftest import ROOT, eager_to_find, tiny_cfg, tiny_model
from .models import web_model

MISSING = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"pip install {' '.join(MISSING)}"),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
]
# It may go to no other host by itself.
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
SIDE = 10_000
NAMES = ["disk", "square", "star"]
SECONDS = 120_000


def write_run(folder: Path) -> None:
    """Writes a run of an untrained model that finds something everywhere, of every class."""
    cfg = tiny_cfg("SOLOv2", opts=["MODEL.CLASS_NAMES", NAMES, "TEST.DETECTIONS_PER_IMAGE", 5])
    folder.mkdir()
    (folder / "config.yaml").write_text(cfg.dump())
    model = eager_to_find(tiny_model("SOLOv2"))
    torch.save({"model": model.state_dict()}, folder / "model_final.pth")


def noise(path: Path, height: int, width: int, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(path)
    return path


# What examples/coins.py makes: a run and a picture. Their screenshot is docs/images/web.png.
COINS = ROOT / "output" / "coins"


class Server:
    """`demo --web` in a process of its own.

    Args:
        folder: for its temporary files.
        words: its flags.
    """

    def __init__(self, folder: Path, *words: object) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        command = [sys.executable, "-m", "solo_family", "demo", "--web", "--port", "0"]
        self.errors = folder / "errors.txt"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*command, *map(str, words)],
                cwd=ROOT,
                env=os.environ | {"TMPDIR": str(self.temporary)},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        line = self.process.stdout.readline()
        found = re.search(r"http://[\d.]+:\d+", line)
        assert found, f"{line}\n{self.errors.read_text()}"
        self.address = found[0]

    def files(self) -> list[Path]:
        """The files of open pages."""
        return [path for path in self.temporary.glob("*/pages/**/*") if path.is_file()]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("web")
    write_run(folder / "run")
    limits = ("--max-upload", "2", "--opts", "INPUT.MAX_PIXELS", SIDE * SIDE)
    served = Server(folder, "--config-file", folder / "run", *limits)
    yield served
    if served.process.poll() is None:
        served.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(server: Server, browser: Any) -> Iterator[Any]:
    """The page, which asks no other host for anything, and has no error in its scripts."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(SECONDS)
    asked: list[str] = []
    errors: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(server.address)
    wait_for(opened, "Drop pictures")
    yield opened
    opened.wait_for_timeout(500)
    context.close()
    hosts = {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}
    assert errors == []
    assert "Traceback" not in server.errors.read_text()


def wait_for(page: Any, text: str) -> None:
    page.locator("#message", has_text=text).wait_for()


def drop(page: Any, *files: Path) -> None:
    page.set_input_files("input[type=file]", [str(file) for file in files])


def set_threshold(page: Any, value: float) -> None:
    page.fill("#threshold input[type=number]", str(value))
    page.keyboard.press("Enter")


def download(page: Any, button: str) -> Path:
    with page.expect_download() as waited:
        page.click(button)
    path = Path(waited.value.path())
    return path.rename(path.with_name(waited.value.suggested_filename))


def rows(page: Any, count: int) -> list[str]:
    """Waits until the table has so many rows, and returns them."""
    page.locator(f"#table [role=grid][aria-rowcount='{count + 1}']").wait_for()
    return page.locator("#table [role=row][data-index]").all_inner_texts()


def test_a_picture_is_segmented_filtered_and_downloaded(page: Any, tmp_path: Path) -> None:
    drop(page, noise(tmp_path / "one.png", 96, 128), noise(tmp_path / "two.png", 64, 96, seed=1))
    wait_for(page, "one.png: ")
    set_threshold(page, 0)
    wait_for(page, "one.png: 5 objects")
    page.locator("#picture img").wait_for()
    found = rows(page, 5)
    set_threshold(page, 1)
    wait_for(page, "one.png: no object with a score of 1.00 or more")
    set_threshold(page, 0)
    wait_for(page, "one.png: 5 objects")
    names = [name for name in NAMES for row in found if name in row]
    assert len(names) == 5
    page.click("#classes input")
    page.click(f"[role=option]:has-text('{names[0]}')")
    count = names.count(names[0])
    wait_for(page, f"one.png: {count} object")
    content = json.loads(download(page, "#coco").read_text())
    assert [image["file_name"] for image in content["images"]] == ["one.png", "two.png"]
    chosen = [one for one in content["annotations"] if one["image_id"] == 1]
    assert [NAMES[one["category_id"]] for one in chosen] == [names[0]] * count
    assert download(page, "#png").name == "png.zip"
    page.click("#thumbnails button >> nth=1")
    wait_for(page, "two.png: ")


def test_what_can_not_be_read_is_a_line_and_the_page_goes_on(page: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(bytes(range(64)))
    wide = Image.new("L", (SIDE + 1, SIDE))
    wide.save(tmp_path / "wide.png", compress_level=1)
    drop(page, tmp_path / "broken.png", tmp_path / "wide.png", noise(tmp_path / "x.png", 64, 96))
    wait_for(page, "x.png: ")
    problems = page.locator("#message .problem").all_inner_texts()
    assert [problem.split()[0] for problem in problems] == ["broken.png", "wide.png"]
    assert "can't be read as an image" in problems[0]
    assert f"{SIDE} x {SIDE + 1} pixels" in problems[1]


def test_a_file_of_too_many_bytes_is_refused_before_it_is_sent(page: Any, tmp_path: Path) -> None:
    (tmp_path / "long.png").write_bytes(bytes(2_100_000))
    drop(page, tmp_path / "long.png")
    page.locator(".toast-body", has_text="long.png").wait_for()
    assert "exceed the maximum allowed size" in page.locator(".toast-body").inner_text()


def test_a_picture_of_10000_pixels_a_side_is_shown_small(page: Any, tmp_path: Path) -> None:
    Image.new("L", (SIDE, SIDE)).save(tmp_path / "huge.png", compress_level=1)
    set_threshold(page, 0)
    drop(page, tmp_path / "huge.png")
    wait_for(page, "huge.png: ")
    image = page.locator("#picture img")
    image.wait_for()
    page.wait_for_function("document.querySelector('#picture img').naturalWidth == 1600")


def test_a_page_that_is_closed_leaves_no_files(
    server: Server, browser: Any, tmp_path: Path
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.address)
    drop(page, noise(tmp_path / "one.png", 64, 96))
    wait_for(page, "one.png: ")
    assert server.files()
    context.close()
    for _ in range(100):
        if not server.files():
            break
        time.sleep(0.2)
    assert not server.files()


def test_an_address_in_place_of_a_file_is_not_fetched(tmp_path: Path) -> None:
    page = build_page(Sessions(web_model(), tmp_path), Serving(None, None, 10))
    (files,) = [block for block in page.blocks.values() if block.get_block_name() == "file"]
    moved = files.async_move_resource_to_block_cache("http://192.0.2.1/x.png")
    with ThreadPoolExecutor() as thread:  # Playwright's own loop runs in this one
        answer = thread.submit(asyncio.run, moved)
    with pytest.raises(ValueError, match="is no uploaded file"):
        answer.result()


@pytest.mark.skipif(not COINS.is_dir(), reason="no model: python examples/coins.py")
def test_the_screenshot_of_the_readme_shows_twelve_coins(browser: Any, tmp_path: Path) -> None:
    served = Server(tmp_path, "--config-file", COINS.relative_to(ROOT))
    page = browser.new_page(viewport={"width": 1200, "height": 720}, color_scheme="light")
    page.set_default_timeout(SECONDS)
    page.goto(served.address)
    wait_for(page, "Drop pictures")
    drop(page, COINS / "lower.png")
    wait_for(page, "lower.png: 12 objects")
    rows(page, 12)
    page.wait_for_function("document.querySelector('#picture img').naturalWidth > 0")
    page.wait_for_timeout(1000)  # until what is drawn moves no longer
    page.screenshot(path=tmp_path / "web.png")
    served.stop()
    with Image.open(tmp_path / "web.png") as screenshot:
        few = screenshot.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2)
    few.save(COINS / "web.png", optimize=True)
    assert (COINS / "web.png").stat().st_size < 200_000


def test_ctrl_c_ends_it_and_removes_its_files(server: Server) -> None:
    assert list(server.temporary.iterdir())
    assert server.stop() == 130
    last = server.errors.read_text().splitlines()[-1]
    assert last == "Stopped by SIGINT: the page is closed, and its files are removed."
    assert not list(server.temporary.iterdir())
