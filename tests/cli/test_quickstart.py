"""`make demo`, in real processes; the full one takes minutes."""

import argparse
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from solo_family.cli import quickstart as quick
from solo_family.cli.quickstart import _headline
from solo_family.config import setup_cfg
from solo_family.errors import ConfigError
from solo_family.model_zoo import get_config_file
from solo_family.recipe.deadline import Replanned

from ..conftest import ROOT


def quickstart(output: Path, *opts: str) -> list[str]:
    return [
        *(sys.executable, "-m", "solo_family", "quickstart", "--output", str(output)),
        *("--opts", *opts),
    ]


@pytest.mark.slow
def test_a_new_user_gets_a_model_that_segments(tmp_path: Path) -> None:
    # The measured recipe, whatever this machine has time for in six minutes.
    config = str(ROOT / "configs" / "quickstart" / "solov2.yaml")
    words = quickstart(tmp_path)
    words[4:4] = ["--config-file", config, "--minutes", "60"]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "after 880 of the recipe's 880 iterations" in result.stdout
    ap = re.search(r"segm AP (\d+\.\d) on", result.stdout)
    assert ap is not None
    assert float(ap[1]) >= 40
    assert len(list((tmp_path / "solov2" / "pictures").iterdir())) == 12
    assert "eta:" in result.stdout + result.stderr


@pytest.mark.slow
def test_after_ctrl_c_the_same_command_goes_on(tmp_path: Path) -> None:
    short = ("SOLVER.MAX_ITER", "8", "SOLVER.STEPS", "(6,)", "SOLVER.CHECKPOINT_PERIOD", "2")
    checkpoint = tmp_path / "solov2" / "model_0000003.pth"
    output = tmp_path / "output.txt"
    with output.open("w") as file:  # a pipe that nobody reads would stop the process when full
        process = subprocess.Popen(
            quickstart(tmp_path, *short), cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
        )
    deadline = time.monotonic() + 200
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert "The same command continues" in output.read_text()

    again = subprocess.run(quickstart(tmp_path, *short), cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "Starting training from iteration 0" not in again.stdout
    assert re.search(r"Starting training from iteration [4-7]", again.stdout)
    assert "segm AP" in again.stdout


@pytest.mark.slow
def test_it_ends_in_the_time_that_is_given(tmp_path: Path) -> None:
    start = time.monotonic()
    words = quickstart(tmp_path)
    words[4:4] = ["--minutes", "3"]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert time.monotonic() - start < 1.1 * 180
    assert result.returncode == 0, result.stderr
    # The recipe is what `init` writes for the shapes, with its reasons.
    recipe = tmp_path / "solov2.yaml"
    assert "# Written by `python -m solo_family init`" in recipe.read_text()
    assert f"The recipe is {recipe}." in result.stdout
    assert re.search(r"SOLVER.MAX_ITER +\d+ +\S+ minutes of \S+ s per iteration", result.stdout)
    assert re.search(r"iterations took \S+ s each: \S+ .*iterations fit in 3", result.stdout)
    done = re.search(r"after (\d+) of the recipe's (\d+) iterations", result.stdout)
    assert done is not None
    assert 0 < int(done[1]) <= int(done[2])
    assert "segm AP" in result.stdout

    # The plan is kept: the run is finished, and is not gone on with; the recipe stays.
    written = recipe.stat().st_mtime_ns
    again = subprocess.run(quickstart(tmp_path), cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert f"after {done[1]} of the recipe's {done[2]} iterations" in again.stdout
    assert recipe.stat().st_mtime_ns == written


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    quick.add_arguments(parser)
    parser.set_defaults(started=time.monotonic())
    return parser.parse_args(words)


def test_training_begins_again_with_the_number_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fitting = iter([500, 300])
    counts = []

    def train(args: argparse.Namespace) -> dict:
        cfg = setup_cfg(args.config_file, args.opts)
        counts.append(cfg.SOLVER.MAX_ITER)
        (tmp_path / "solov2").mkdir(exist_ok=True)
        assert args.resume
        for number in fitting:
            raise Replanned(number)
        report = tmp_path / "solov2/report/report.md"
        report.parent.mkdir()
        report.touch()
        return {"segm": {"AP": 12.34}}

    (tmp_path / "shapes" / "val").mkdir(parents=True)
    monkeypatch.setattr(quick, "train", train)
    monkeypatch.setattr(quick, "make_shapes", lambda root, stuff: root)
    monkeypatch.setattr(quick, "write_timm_weights", lambda path: path)
    monkeypatch.setattr(quick, "_draw", lambda *_: 0)
    config = get_config_file("quickstart/solov2.yaml")
    monkeypatch.setattr(quick, "_recipe", lambda *_: config)
    assert quick.run(arguments("--output", str(tmp_path))) == 0
    assert counts == [880, 500, 300]
    expected = "segm AP 12.3 on .*, after 300 of the recipe's 880 iterations, in 0.0 minutes"
    printed = capsys.readouterr().out
    assert re.search(expected, printed)
    assert f"report:   {tmp_path / 'solov2/report/report.md'}\n" in printed
    words = ("--output", str(tmp_path), "--opts", "OUTPUT.REPORT", "False")
    monkeypatch.setattr(quick, "train", lambda _: {"segm": {"AP": 12.34}})
    assert quick.run(arguments(*words)) == 0
    assert "report" not in capsys.readouterr().out  # that of an earlier run


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf"])
def test_no_time_is_refused(minutes: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"--minutes is {minutes}; it must be a number above 0"):
        quick.run(arguments(f"--minutes={minutes}", "--output", str(tmp_path)))


def test_a_run_by_another_recipe_of_the_name_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of an earlier version, or that of --config-file."""
    by_hand = get_config_file("quickstart/solov2.yaml")
    monkeypatch.setattr(quick, "make_shapes", lambda *_, **__: pytest.fail("it goes on"))

    def refused(*words: str) -> str:
        with pytest.raises(ConfigError, match="a run by one recipe can't go on with another") as e:
            quick.run(arguments("--output", str(tmp_path), *words))
        return str(e.value)

    def goes_on(*words: str) -> None:
        with pytest.raises(pytest.fail.Exception, match="it goes on"):
            quick.run(arguments("--output", str(tmp_path), *words))

    goes_on()
    (tmp_path / "solov2").mkdir()
    (tmp_path / "solov2" / "last_checkpoint").touch()
    assert f"{tmp_path / 'solov2'} is for another recipe" in refused()
    goes_on("--config-file", by_hand)
    recipe = tmp_path / "solov2.yaml"
    recipe.write_text("_BASE_: 'solo_family://quickstart/solov2.yaml'")
    goes_on()
    goes_on("--config-file", str(recipe))
    goes_on("--config-file", get_config_file("quickstart/solo.yaml"))
    assert "remove that folder and that recipe" in refused("--config-file", by_hand)


def test_the_metric_that_is_named_is_the_methods() -> None:
    proposals = {"AR@10": 10.0, "AR@100": 34.56}
    assert _headline({"proposals": proposals}) == "proposals AR@100 34.6"
    assert _headline({"proposals": proposals, "segm": {"AP": 12.0}}) == "segm AP 12.0"


@pytest.mark.slow
def test_proposals_have_a_quick_start_too(tmp_path: Path) -> None:
    config = str(ROOT / "configs" / "quickstart" / "instance_fcn.yaml")
    words = quickstart(tmp_path, "SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "()")
    result = subprocess.run(
        [*words[:4], "--config-file", config, *words[4:]], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert re.search(r"proposals AR@100 \d+\.\d on", result.stdout)
    assert len(list((tmp_path / "instance_fcn" / "pictures").iterdir())) == 12
