"""train_net.py started by torchrun, and the flags that can't work. Real processes."""

import subprocess
from pathlib import Path

import pytest
import torch

from solo_family.data.formats import coco_file
from solo_family.engine import processes
from solo_family.engine.main import main

from .test_train_net import ROOT, run_python, write_config


def torchrun(*words: object) -> subprocess.CompletedProcess[str]:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2]
    return run_python(*command, ROOT / "train_net.py", "--config-file", *words)


@pytest.mark.slow
def test_torchrun_s_processes_train_together(shapes: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.yaml", shapes)
    process = torchrun(config, "OUTPUT_DIR", tmp_path / "run", "SOLVER.MAX_ITER", 2)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "run" / "model_final.pth").is_file()
    assert (tmp_path / "run" / "log.txt.rank1").is_file()
    assert "Evaluation results for segm" in process.stdout


@pytest.mark.slow
def test_torchrun_and_num_gpus_exclude_each_other(shapes: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.yaml", shapes)
    process = torchrun(config, "--num-gpus", 2, "OUTPUT_DIR", tmp_path / "run")
    assert process.returncode != 0
    assert "error: torchrun has started the processes already: remove --num-gpus" in process.stderr


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:50152", "tcp://localhost:50152", "auto"])
def test_machines_that_could_never_meet_are_refused(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config-file", f"{tmp_path}/none.yaml", "--num-machines", "2", "--dist-url", url]
    assert main(words) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: --dist-url is {url}, at which 2 machines can't connect")


@pytest.mark.parametrize("mistake", ["SOLVER.BASE_LT", "DATASETS.TRAIN", ""])
def test_mistakes_are_told_before_processes_are_started(
    mistake: str,
    shapes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of eight processes on two cores, each needs a minute before it reads the config."""
    started: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(processes, "lead", lambda _, args: started.append(args.num_gpus))
    config = write_config(tmp_path / "tiny.yaml", shapes)
    words = ["--config-file", str(config), "--num-gpus", "8", "OUTPUT_DIR", f"{tmp_path}/run"]
    status = main([*words, *([mistake, "('coco_2017_train',)"] if mistake else [])])
    assert (status, started) == ((2, []) if mistake else (0, [8]))
    said = capsys.readouterr().err
    if mistake:
        (line,) = said.splitlines()
        assert line.startswith("error: ")
        assert mistake in line or "'coco_2017_train' needs the file" in line
    assert not coco_file._files  # the processes read them; this one would only keep their memory
    assert not (tmp_path / "run").exists()
