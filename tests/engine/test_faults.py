"""What the machine does to a run, with real processes and files: each fault is one line."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from solo_family.__main__ import main as solo_family
from solo_family.engine.main import main as train_net

from ..coco_folder import CocoFolder, noise, rectangle, run_cfg, small_dataset, write_cfg
from ..conftest import ROOT, tiny_model
from ..forked import Forked, children

FOR_EVER: list[Any] = ["SOLVER.MAX_ITER", 1_000_000, "SOLVER.CHECKPOINT_PERIOD", 1]


def config(root: Path, *opts: Any, test: bool = False) -> list[Any]:
    """Returns the words of a run in `root`/run on a small dataset, without or with evaluation."""
    dataset = small_dataset(root / "data").name
    cfg = run_cfg(dataset, root / "run", *opts, test=dataset if test else "")
    return ["--config-file", write_cfg(root / "config.yaml", cfg)]


def checkpoints(output: Path) -> list[Path]:
    return sorted(output.glob("*.pth"))


def last_of(output: Path) -> Path:
    return output / (output / "last_checkpoint").read_text()


def limit_files(size: int, pid: int = 0) -> None:
    """No file may grow beyond `size` bytes: as on a full disk, the system refuses to write."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def limit_memory(more: int) -> None:
    """This process may have `more` bytes beside those that it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def test_a_full_disk_ends_the_run_in_one_line_and_the_old_checkpoint_stays(tmp_path: Path) -> None:
    words, output = config(tmp_path, *FOR_EVER), tmp_path / "run"
    with Forked(train_net, words, tmp_path) as run:
        run.wait_for((output / "last_checkpoint").is_file)
        limit_files(checkpoints(output)[0].stat().st_size // 2, run.pid)
        message = run.error()
    written = checkpoints(output)
    refused = output / f"model_{len(written):07d}.pth"
    assert message == (
        f"Can't write the checkpoint {refused}: File too large. Earlier checkpoints are "
        "intact. Free some disk space, or delete old checkpoints and raise "
        "SOLVER.CHECKPOINT_PERIOD; then --resume goes on from the last."
    )
    assert f"Training stopped: {message}" in (output / "log.txt").read_text()
    assert last_of(output) == written[-1]
    for path in written:
        torch.load(path, weights_only=True)
    assert not list(output.glob("*.tmp*")) + list(output.glob(".*.tmp*"))
    # There is room again.
    with Forked(
        train_net, [*words, "--resume", "SOLVER.MAX_ITER", len(written) + 1], tmp_path
    ) as run:
        assert run.status() == 0, run.printed
    assert f"Starting training from iteration {len(written)}" in run.printed


@pytest.mark.slow
def test_metrics_that_find_no_room_are_one_line_too(tmp_path: Path) -> None:
    words = config(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").symlink_to("/dev/full")
    with Forked(train_net, words, tmp_path) as run:
        message = run.error()
    assert message == (
        f"Can't write {tmp_path}/run: No space left on device. Free space on that disk, or write "
        "to another."
    )


def test_a_dead_worker_of_the_loader_ends_the_run_in_one_line(tmp_path: Path) -> None:
    words = config(tmp_path, *FOR_EVER, "DATALOADER.NUM_WORKERS", 2)
    with Forked(train_net, words, tmp_path) as run:
        run.wait_for((tmp_path / "run" / "last_checkpoint").is_file)
        worker = children(run.pid)[0]
        os.kill(worker, signal.SIGKILL)
        message = run.error()
    # Torch says the one or the other, as it happens to notice, and may do so twice.
    how = r"(is killed by signal: Killed|exited unexpectedly)"
    line = rf"A worker process of the data loader, {worker}, died \({how}\)\. "
    assert re.match(line, message)
    assert "lower DATALOADER.NUM_WORKERS" in message
    assert re.search(f"Training stopped: {line}", (tmp_path / "run" / "log.txt").read_text())


@pytest.mark.slow
def test_a_process_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(
    tmp_path: Path,
) -> None:
    words, output = config(tmp_path, *FOR_EVER), tmp_path / "run"
    for _ in range(3):
        with Forked(train_net, [*words, "--resume"], tmp_path) as run:
            torn = stop_while_writing(run, output)
            last = last_of(output)
            # Nobody else may write here, and nobody has.
            with Forked(train_net, words, tmp_path) as other:
                assert f"another run (process {run.pid}) is writing to it" in other.error()
            run.kill()
        assert torn.is_file()
        assert last_of(output) == last
        iteration = torch.load(last, weights_only=True)["iteration"]
        more = [*words, "--resume", "SOLVER.MAX_ITER", iteration + 2]
        finished = subprocess.run(
            [sys.executable, *map(str, [ROOT / "train_net.py", *more])],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert finished.returncode == 0, finished.stderr
        assert f"Starting training from iteration {iteration + 1}" in finished.stdout
        assert last_of(output).name == "model_final.pth"
        # What the killed process left is gone.
        assert not list(output.glob(".*.tmp*"))


def stop_while_writing(run: Forked, output: Path) -> Path:
    """Stops a run in the middle of a checkpoint; returns the file of which a part is written."""
    run.wait_for((output / "last_checkpoint").is_file)
    seen = last_of(output)
    run.wait_for(lambda: last_of(output) != seen)
    while True:
        run.wait_for(lambda: list(output.glob(".model_*.tmp.pth")), every=0.0005)
        os.kill(run.pid, signal.SIGSTOP)
        time.sleep(0.01)
        torn = list(output.glob(".model_*.tmp.pth"))
        if torn:
            return torn[0]
        os.kill(run.pid, signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_dead_process_of_two_ends_the_other_within_a_minute(tmp_path: Path, victim: int) -> None:
    words = config(tmp_path, *FOR_EVER, "DATALOADER.NUM_WORKERS", 1)
    command = [ROOT / "train_net.py", *words, "--num-gpus", 2, "--dist-url", "auto"]
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not (tmp_path / "run" / "last_checkpoint").is_file():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        processes = [pid for pid in children(process.pid) if children(pid)]
        assert len(processes) == 2
        os.kill(processes[victim], signal.SIGKILL)
        _, printed = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 2, printed
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert "of this run" in line
    assert "--resume goes on from the last checkpoint" in line
    assert "Traceback" not in line
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)


def spoilt_weights(root: Path) -> Path:
    """Writes weights of which three values of one tensor are not finite."""
    state = tiny_model(num_classes=2).state_dict()
    state["head.kernel_predictor.weight"].view(-1)[:3] = torch.tensor(
        [float("nan"), float("inf"), -float("inf")]
    )
    torch.save({"model": state}, root / "spoilt.pth")
    return root / "spoilt.pth"


@pytest.mark.parametrize(
    "command", ["train", *(pytest.param(c, marks=pytest.mark.slow) for c in ("evaluate", "demo"))]
)
def test_weights_that_are_not_finite_are_refused_by_name(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = spoilt_weights(tmp_path)
    words = [str(word) for word in config(tmp_path, "MODEL.WEIGHTS", str(weights))]
    picture = str(tmp_path / "data" / "images" / "0.png")
    status = {
        "train": lambda: train_net(words),
        "evaluate": lambda: train_net([*words, "--eval-only"]),
        "demo": lambda: solo_family(
            ["demo", *words, "--input", picture, "--output", str(tmp_path / "out")]
        ),
    }[command]()
    assert status == 2
    printed = capsys.readouterr().err
    size = torch.load(weights)["model"]["head.kernel_predictor.weight"].numel()
    assert (
        f"error: MODEL.WEIGHTS {weights}: 1 weights are not finite, the first is "
        f"head.kernel_predictor.weight (3 of its {size} values are NaN or infinite). Use an "
        "earlier checkpoint.\n"
    ) in printed
    assert not list((tmp_path / "run").glob("*.pth"))


LARGE: list[Any] = ["INPUT.MIN_SIZE_TEST", 6000, "INPUT.MAX_SIZE_TEST", 8000]
LESS = [
    "Out of memory (",
    "Lower INPUT.MIN_SIZE_TEST (now 6000), INPUT.MAX_SIZE_TEST (now 8000), "
    "MODEL.SOLOV2.NMS_PRE (now 500), TEST.DETECTIONS_PER_IMAGE (now 100).",
]


def test_too_little_memory_to_evaluate_names_the_keys_that_lower_it(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    words = [*config(tmp_path, *LARGE, "MODEL.WEIGHTS", str(weights), test=True), "--eval-only"]
    torch.save({"model": tiny_model(num_classes=2).state_dict()}, weights)
    with Forked(train_net, words, tmp_path, partial(limit_memory, 200 * 2**20)) as run:
        message = run.error()
    assert all(part in message for part in LESS)


@pytest.mark.slow
def test_too_little_memory_for_a_picture_names_it_and_the_demo_goes_on(tmp_path: Path) -> None:
    folder = CocoFolder(tmp_path / "pictures", {1: "cat"})
    large = folder.add("large.png", noise(600, 800), [rectangle(5, 5, 20, 20)])
    small = folder.add("strip.png", noise(2, 800), [rectangle(5, 1, 20, 1)])
    words = ["demo", *config(tmp_path, *LARGE), "--input", large, small]
    words += ["--output", tmp_path / "out", "--opts", "MODEL.SOLOV2.NUM_CLASSES", 2]
    with Forked(solo_family, words, tmp_path, partial(limit_memory, 500 * 2**20)) as run:
        status, printed = run.status(), run.printed
    assert status == 1, printed
    assert "Traceback" not in printed
    (line,) = [line for line in printed.splitlines() if line.startswith(f"skipped {large}: ")]
    assert all(part in line for part in LESS)
    # The next one is tried, whether what is left of the limit suffices or not.
    assert "1 written" in printed or f"skipped {small}: " in printed
