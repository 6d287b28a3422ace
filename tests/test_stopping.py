"""Long verbs that are asked to end leave whole files and one line."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from solo_family.__main__ import main as solo_family
from solo_family.cli import check_data, demo
from solo_family.files import replacing

from .coco_folder import noise, run_cfg, small_dataset, write_cfg
from .forked import Forked


def hang_in_check() -> None:
    def run(args: Any) -> int:
        with replacing(Path(args.images) / "report.txt") as temporary:
            temporary.write_text("half of it")
            os.kill(os.getpid(), signal.SIGTERM)
        return 0

    check_data.run = run


def test_what_a_verb_was_writing_is_not_left(tmp_path: Path) -> None:
    words = ["check-data", "--annotations", "x.json", "--images", tmp_path]
    with Forked(solo_family, words, tmp_path, hang_in_check) as run:
        assert run.status() == 128 + signal.SIGTERM, run.printed
    assert run.printed == "Stopped by SIGTERM: files that are written are whole.\n"
    assert not list(tmp_path.glob("*report*"))


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, marks=pytest.mark.slow),
    ],
)
def test_a_demo_of_many_pictures_ends_at_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    dataset = small_dataset(tmp_path / "data").name
    config = write_cfg(tmp_path / "config.yaml", run_cfg(dataset, tmp_path / "run"))
    (tmp_path / "in").mkdir()
    for index in range(200):
        noise(48, 64, seed=index).save(tmp_path / "in" / f"{index:03d}.png")
    output = tmp_path / "out"
    words = ["demo", "--config-file", config, "--input", tmp_path / "in", "--output", output]
    words += ["--opts", "MODEL.SOLOV2.NUM_CLASSES", 2]
    with Forked(solo_family, words, tmp_path) as run:
        run.wait_for(lambda: len(list(output.glob("*.png"))) > 2)
        os.kill(run.pid, number)
        assert run.status() == 128 + number, run.printed
    assert "Traceback" not in run.printed
    written = list(output.iterdir())
    assert 2 < len(written) < 200
    for path in written:
        Image.open(path).load()


def hang_for_ever() -> None:
    def run(args: Any) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
        return 0

    demo.run = run


def test_the_second_signal_ends_a_verb_at_once(tmp_path: Path) -> None:
    words = ["demo", "--config-file", "x", "--input", "y"]
    with Forked(solo_family, words, tmp_path, hang_for_ever) as run:
        assert run.status() == 128 + signal.SIGTERM
    assert run.printed == "Stopped at once by SIGTERM: files that are written are whole.\n"
