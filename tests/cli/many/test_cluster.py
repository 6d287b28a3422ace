"""The engine on Ray: what its processes do, and a cluster of two workers of which one is killed."""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from solo_family.cli.inputs import Source
from solo_family.cli.many import cluster, processes
from solo_family.cli.many import worker as worker_module
from solo_family.cli.many.model import Description
from solo_family.data.loading.images import Reading
from solo_family.errors import SoloFamilyError

from ...conftest import ROOT, eager_to_find, tiny_cfg
from ..test_demo import METADATA, _save, _scene
from .test_predict_many import Model, files_of

DESCRIPTION = Description(METADATA, Reading(), "key")
FLAGS = {"batch": None, "tile": None, "classes": None, "min_size": 0, "no_overlap": False}
PICTURES, SHARD = 500, 50


def answers(batches: Any) -> list[Any]:
    return [cell for batch in batches for (cells,) in [batch.values()] for cell in cells]


def test_what_is_read_reaches_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Model(monkeypatch)
    monkeypatch.setattr(worker_module, "_MOST_PIXELS", 3 * 48 * 64)
    monkeypatch.chdir(tmp_path)
    chunk = []
    for index in range(7):
        _save(tmp_path / "in" / f"{index}.png", _scene(180 + index))
        chunk.append((index + 1, Source(Path(f"in/{index}.png"), is_video=False)))
    Path("in/3.png").write_bytes(b"\0")
    monkeypatch.chdir("/")  # as a process of Ray that another folder started
    read = list(processes.Reader(DESCRIPTION, tmp_path)(processes.column("chunk", chunk)))
    assert [len(batch["items"][0].content) for batch in read] == [4, 3]
    args = argparse.Namespace(**FLAGS, confidence_threshold=0.5)
    actor = processes.Actor(args, DESCRIPTION, tmp_path, 1)
    found = [answers(actor(batch)) for batch in read]
    rows = [row for (box,) in found for row in processes.rows_of(box.content).to_pylist()]
    assert [row["image_id"] for row in rows] == [*range(1, 8)]
    assert [len(row["masks"] or []) for row in rows] == [1, 1, 1, 0, 1, 1, 1]
    assert rows[3]["error"]


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (SoloFamilyError("no such weights"), SoloFamilyError, "^no such weights$"),
        (ZeroDivisionError("a mistake"), RuntimeError, "(?s)Traceback.*opened.*a mistake"),
    ],
)
@pytest.mark.parametrize("when", ["opening", "predicting"])
def test_an_error_of_a_worker_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, expected: type, message: str, when: str
) -> None:
    Model(monkeypatch)

    def opened(*_: Any) -> Any:
        raise raised

    if when == "opening":
        monkeypatch.setattr(worker_module, "open_model", opened)
    args = argparse.Namespace(**FLAGS, confidence_threshold=0.5)
    actor = processes.Actor(args, DESCRIPTION, Path("/nowhere"), 0)
    if when == "predicting":
        monkeypatch.setattr(actor, "_worker", opened)
    (box,) = answers(actor(processes.column("items", [])))
    with pytest.raises(expected, match=message):
        processes.rows_of(box.content)


def test_retries_are_limited_where_ray_has_a_limit() -> None:
    def older(fn: str, size: int, max_retries: int = -1) -> tuple:
        return fn, size, max_retries

    def newer(fn: str, size: int) -> tuple:
        return fn, size

    assert cluster._with_retries(older, {"max_retries": 3}, "f", size=2) == ("f", 2, 3)
    assert cluster._with_retries(newer, {"max_retries": 3}, "f", size=2) == ("f", 2)


@pytest.mark.parametrize(
    ("resources", "flags", "workers", "has_gpus", "waits"),
    [
        ({"CPU": 2.0}, {}, 2, False, False),
        ({"CPU": 2.0}, {"workers": 3}, 3, False, False),
        ({"CPU": 2.0}, {"workers": 4}, 4, False, True),
        ({"CPU": 16.0, "GPU": 3.0}, {}, 3, True, False),
        ({"CPU": 16.0, "GPU": 3.0}, {"opts": ["MODEL.DEVICE", "cpu"]}, 16, False, False),
        ({"CPU": 16.0, "GPU": 3.0}, {"exported": Path("x")}, 16, False, False),
        ({}, {}, 1, False, True),  # a cluster that has not grown yet
    ],
)
def test_a_worker_per_gpu_or_cpu(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    resources: dict[str, float],
    flags: dict[str, Any],
    workers: int,
    has_gpus: bool,
    waits: bool,
) -> None:
    monkeypatch.setattr(cluster, "_connect", lambda _: None)
    ray = SimpleNamespace(cluster_resources=lambda: resources)
    monkeypatch.setitem(sys.modules, "ray", ray)
    given = {"address": None, "workers": None, "exported": None, "opts": []} | flags
    made = cluster.Cluster(argparse.Namespace(**given), DESCRIPTION)
    assert (made._workers, made._has_gpus) == (workers, has_gpus)
    assert ("Ray waits until it has more" in caplog.text) == waits


@pytest.mark.parametrize(
    ("gpus", "device", "added"),
    [
        (2.0, "cuda:1", ["MODEL.DEVICE", "cuda"]),
        *((2.0, "cuda", []), (2.0, "cpu", []), (0.0, "cuda:1", [])),
    ],
)
def test_a_worker_s_gpu_is_the_first_that_it_sees(
    monkeypatch: pytest.MonkeyPatch, gpus: float, device: str, added: list[str]
) -> None:
    """Whichever one a training has stored: Ray shows a worker one of them."""
    monkeypatch.setattr(cluster, "_connect", lambda _: None)
    ray = SimpleNamespace(cluster_resources=lambda: {"CPU": 16.0, "GPU": gpus})
    monkeypatch.setitem(sys.modules, "ray", ray)
    opts = ["MODEL.SOLOV2.NMS_PRE", "100"]
    args = argparse.Namespace(address=None, workers=None, exported=None, opts=opts)
    made = cluster.Cluster(args, DESCRIPTION._replace(device=device))
    assert made._worker_args().opts == [*opts, *added]


@pytest.mark.parametrize("how", ["flag", "variable", "killed"])
def test_a_cluster_that_is_not_there_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    pytest.importorskip("ray", reason="needs ray: pip install 'solo-family[ray]'")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"127.0.0.1:{port}"
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if how == "variable":
        monkeypatch.setenv("RAY_ADDRESS", address)
    if how == "killed":
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
    args = argparse.Namespace(address=address if how == "flag" else None, workers=None)
    with pytest.raises(SoloFamilyError, match=rf"no Ray cluster at 127.0.0.1:{port} .*refused"):
        cluster.Cluster(args, DESCRIPTION)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The config of a small model that finds something in everything."""
    cfg = tiny_cfg(opts=["INPUT.MIN_SIZE_TEST", 96, "INPUT.MAX_SIZE_TEST", 160])
    torch.manual_seed(0)
    weights = tmp_path / "weights.pth"
    torch.save({"model": eager_to_find(build_model(cfg)).state_dict()}, weights)
    cfg.MODEL.WEIGHTS = "weights.pth"  # relative: of the folder in which the verb runs
    (tmp_path / "config.yaml").write_text(cfg.dump())
    return tmp_path / "config.yaml"


def write_pictures(folder: Path) -> None:
    generator = np.random.default_rng(0)
    folder.mkdir()
    for index in range(PICTURES):
        size = (96, 128) if index % 3 else (128, 96)
        image = generator.integers(0, 90, (*size, 3), np.uint8)
        for _ in range(4):
            top, left = generator.integers(0, 70, 2)
            image[top : top + 24, left : left + 24] += 120
        Image.fromarray(image).save(folder / f"{index:03d}.jpg")
    (folder / "123.jpg").write_bytes(b"broken")


def processes_below(pid: int) -> dict[int, str]:
    """Returns the processes that a process has started, and those that they have, by their ids."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            names[int(folder.name)] = (folder / "cmdline").read_text()
        except OSError:  # it has ended
            continue
        parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    below = {pid}
    while more := {one for one, parent in parents.items() if parent in below} - below:
        below |= more
    return {one: names[one] for one in below & names.keys()}


def start(folder: Path, words: Sequence[str]) -> "subprocess.Popen[str]":
    places = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    variables = {"PYTHONPATH": os.pathsep.join(filter(None, places)), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "solo_family", "predict-many", *words],
        cwd=folder,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_a_worker_that_is_killed_changes_no_result(tmp_path: Path, model: Path) -> None:
    pytest.importorskip("ray", reason="needs ray: pip install 'solo-family[ray]'")
    write_pictures(tmp_path / "in")
    words = ["--config-file", model.name, "--input", "in", "--confidence-threshold", "0.05"]
    words += ["--shard-size", str(SHARD), "--save", "coco-rle"]
    out = tmp_path / "ray"
    run = start(tmp_path, [*words, "--output", "ray", "--engine", "ray", "--workers", "2"])
    while run.poll() is None and not list(out.glob("shards/[!.]*")):
        time.sleep(0.1)
    workers = [pid for pid, name in processes_below(run.pid).items() if "MapWorker" in name]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    assert len(list(out.glob("shards/[!.]*"))) < PICTURES // SHARD  # it is in the middle
    said, _ = run.communicate(timeout=600)
    assert run.returncode == 1, said
    assert f"{PICTURES - 1} of {PICTURES} pictures predicted" in said

    alone = start(tmp_path, [*words, "--output", "alone", "--engine", "local"])
    said, _ = alone.communicate(timeout=600)
    assert alone.returncode == 1, said
    expected = files_of(tmp_path / "alone")
    assert len(expected) == PICTURES // SHARD + 3
    assert files_of(out) == expected
    images = json.loads((out / "coco_rle.json").read_text())["images"]
    assert [image["id"] for image in images] == [i for i in range(1, PICTURES + 1) if i != 124]
