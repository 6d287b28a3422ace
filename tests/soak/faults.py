"""The faults, each in a real process, and what must happen then."""

import os
import random
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from solo_family.data.formats.synthetic import make_shapes
from solo_family.engine.main import main as train_net
from solo_family.engine.resume import check_checkpoint, newest_checkpoint

from ..coco_folder import run_cfg, small_dataset, write_cfg
from ..conftest import ROOT
from ..engine.test_bare_environment import ENVIRONMENTS, run_in
from ..engine.test_environment import MACHINES, words_in
from ..engine.test_exact_resume import BFLOAT16, COLOURS, CROP, EMA, LSJ
from ..engine.test_resume import assert_equal
from ..forked import Forked, children
from ..namespaces import mounting

LIMIT = 30.0  # seconds until a run has ended, whatever it has met
ENDLESS: list[Any] = ["SOLVER.MAX_ITER", 10**6, "SOLVER.CHECKPOINT_PERIOD", 2]
_ITERATIONS = 8


class Soak:
    """What all faults have in common: datasets, random choices, and runs that were not disturbed.

    Args:
        root: a folder.
        rng: of the one seed.
    """

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.rng = rng
        self._root = root
        self._finals: dict[str, dict[str, Any]] = {}
        self._kept: dict[str, Any] = {}
        self._data = small_dataset(root / "data", images=7).name
        shapes = make_shapes(root / "shapes", num_train=6, num_val=1, image_size=(64, 96))
        self._shapes = f"coco_json:{shapes}/annotations/train.json:{shapes}/train"

    def small(self, folder: Path, *opts: Any) -> list[Any]:
        """Returns the words of a run of a tiny model."""
        cfg = run_cfg(self._data, folder / "run", *opts)
        return ["--config-file", write_cfg(folder / "config.yaml", cfg)]

    def config(self, name: str) -> list[Any]:
        """Returns the words of one of five configs, without an output folder."""
        short = ["SOLVER.MAX_ITER", _ITERATIONS, "SOLVER.CHECKPOINT_PERIOD", 2, "SEED", 3]
        if name in _AUGMENTED:
            folder = self._root / name
            folder.mkdir(exist_ok=True)
            return [*self.small(folder, *_AUGMENTED[name]), *short]
        config = ROOT / "configs" / "quickstart" / f"{name}.yaml"
        return [
            *("--config-file", config, "DATASETS.TRAIN", f"('{self._shapes}',)"),
            *("DATASETS.TEST", "()", "INPUT.MIN_SIZE_TRAIN", "(48,64)", "SOLVER.IMS_PER_BATCH", 2),
            *("MODEL.DEVICE", "cpu", *short),
        ]

    def kept(self, name: str, make: Callable[[Path], Any]) -> Any:
        """Returns what `make` has made, in a folder, when it was first asked for."""
        if name not in self._kept:
            folder = self._root / name.replace(" ", "_")
            folder.mkdir()
            self._kept[name] = make(folder)
        return self._kept[name]

    def final(self, name: str) -> dict[str, Any]:
        """Returns the last checkpoint of an undisturbed run of a config."""
        if name not in self._finals:
            output = self._root / f"{name}_whole"
            words = [*self.config(name), "DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", output]
            with Forked(train_net, words, self._root) as run:
                assert run.status() == 0, run.printed
            self._finals[name] = torch.load(output / "model_final.pth", weights_only=True)
        return self._finals[name]


_AUGMENTED = {"crops": [*COLOURS, *CROP, *EMA, *BFLOAT16], "jitter": [*LSJ, *COLOURS]}
_CONFIGS = ("solov2", "sparse_inst", "mask_former_instance", *_AUGMENTED)


def kill_and_resume(soak: Soak, folder: Path, number: int) -> None:
    """Kills a run up to three times, with other workers each time; its end is that of one."""
    name = _CONFIGS[number % len(_CONFIGS)]
    expected, output = soak.final(name), folder / "run"
    flag, *keys = soak.config(name)
    for attempt in range(4):
        workers = ["DATALOADER.NUM_WORKERS", soak.rng.randrange(3), "OUTPUT_DIR", output]
        words = [flag, keys[0], *(["--resume"] if attempt else []), *keys[1:], *workers]
        with Forked(train_net, words, folder) as run:
            if attempt < 3:
                before = set(output.glob("model_*.pth"))
                wait_until(run, partial(other_checkpoints, output, before))
                time.sleep(soak.rng.uniform(0, 0.3))
                run.kill()
            else:
                assert run.status() == 0, run.printed
        assert newest_checkpoint(str(output)) is not None
    assert_equal(torch.load(output / "model_final.pth", weights_only=True), expected)


def other_checkpoints(output: Path, before: set[Path]) -> bool:
    """Returns whether a folder's checkpoints are others than before."""
    return set(output.glob("model_*.pth")) != before


def wait_until(run: Forked, condition: Callable[[], bool]) -> None:
    """Returns when `condition()` is true, or the run has ended."""
    deadline = time.monotonic() + 120
    while not condition() and Path(f"/proc/{run.pid}").exists():
        if run._process.exitcode is not None:
            return
        assert time.monotonic() < deadline, run.printed
        time.sleep(0.005)


def kill_a_worker(soak: Soak, folder: Path, number: int) -> None:
    """Kills one of the loader's processes at a random moment."""
    words = soak.small(folder, *ENDLESS, "DATALOADER.NUM_WORKERS", soak.rng.randint(1, 4))
    with Forked(train_net, words, folder) as run:
        # Before it trains, it starts other programs, to tell of the machine.
        run.wait_for(lambda: "Starting training" in run.printed and children(run.pid))
        time.sleep(soak.rng.uniform(0, 1.0))
        how = soak.rng.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
        os.kill(soak.rng.choice(children(run.pid)), how)
        message = run.error(LIMIT)
    assert "worker process of the data loader" in message
    assert "--resume goes on" in message


def send_a_signal(soak: Soak, folder: Path, number: int) -> None:
    """Asks a run to end, at a random moment after its start."""
    words = soak.small(folder, *ENDLESS, "DATALOADER.NUM_WORKERS", soak.rng.randrange(3))
    asked = soak.rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
    with Forked(train_net, words, folder) as run:
        run.wait_for(lambda: "Starting training" in run.printed)
        time.sleep(soak.rng.uniform(0, 1.0))
        os.kill(run.pid, asked)
        assert run.status(LIMIT) == 128 + asked, run.printed
    (line,) = [line for line in run.printed.splitlines() if line.startswith("Stopped by ")]
    assert "Traceback" not in run.printed
    assert_whole(folder / "run")
    if "--resume goes on from there" in line:
        last = check_checkpoint(folder / "run" / (folder / "run/last_checkpoint").read_text())
        assert f"iteration {last['iteration'] + 1} of" in line


def fill_the_disk(soak: Soak, folder: Path, number: int) -> None:
    """No file finds more than a random number of bytes, from a random moment on."""
    words = soak.small(folder, *ENDLESS, *EMA)
    with Forked(train_net, words, folder) as run:
        run.wait_for((folder / "run" / "last_checkpoint").is_file)
        size = max(path.stat().st_size for path in (folder / "run").glob("*.pth"))
        time.sleep(soak.rng.uniform(0, 0.5))
        # What a run prints goes on; a checkpoint's beginning does.
        low = (folder / "run" / "log.txt").stat().st_size + 2**17
        limit = soak.rng.randrange(low, max(low + 1, size))
        resource.prlimit(run.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        assert "File too large" in run.error(LIMIT)
    assert_whole(folder / "run")


def assert_whole(output: Path) -> None:
    """All that has the name of a checkpoint is one."""
    for path in output.glob("model_*.pth"):
        torch.load(path, weights_only=True)
    if (output / "last_checkpoint").is_file():
        assert newest_checkpoint(str(output)) == output / (output / "last_checkpoint").read_text()


def run_on_a_machine(soak: Soak, folder: Path, number: int) -> None:
    """Trains where something is missing."""
    machine = list(MACHINES)[number % len(MACHINES)]
    words = words_in(folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777)
    with Forked(train_net, words, folder, MACHINES[machine]) as run:
        assert run.status() == 0, f"{machine}: {run.printed}"
    assert "Traceback" not in run.printed


def run_in_an_environment(soak: Soak, folder: Path, number: int) -> None:
    """Trains with the real command: few environment variables, odd ones, closed streams."""
    environment = list(ENVIRONMENTS)[number % len(ENVIRONMENTS)]
    process = run_in(environment, "train_net.py", *words_in(folder))
    assert process.returncode == 0, f"{environment}: {process.stdout}{process.stderr}"
    assert "Traceback" not in process.stdout + process.stderr
    assert_whole(folder / "run")


def run_with_little_shared_memory(soak: Soak, folder: Path, number: int) -> None:
    """Trains where /dev/shm is of a random size, or read-only."""
    pages = soak.rng.choice([1, 16, 256, 2**14])
    small = mounting("/dev/shm", f"size={4 * pages}k", read_only=number % 4 == 3)
    words = soak.small(folder, "SOLVER.MAX_ITER", 4, "DATALOADER.NUM_WORKERS", 2)
    with Forked(train_net, words, folder, small) as run:
        assert run.status() == 0, run.printed


@dataclass(frozen=True)
class Fault:
    """One kind.

    Attributes:
        name: in the table.
        expected: what must happen, in a few words.
        count: in half an hour.
        cause: raises where it did not happen. Given the soak, an empty folder, and a number.
    """

    name: str
    expected: str
    count: int
    cause: Callable[[Soak, Path, int], None]


FAULTS = (
    Fault(
        "killed three times, five configs",
        "each time --resume goes on; the end is that of a run that was never killed, to the bit",
        30,
        kill_and_resume,
    ),
    Fault(
        "a worker of the loader killed",
        "one line with its id, status 2, within 30 s",
        60,
        kill_a_worker,
    ),
    Fault(
        "SIGINT, SIGTERM or SIGUSR1",
        "one line, status 128 + signal, a checkpoint of the last iteration",
        30,
        send_a_signal,
    ),
    Fault(
        "no room for a checkpoint",
        "one line, status 2, every older checkpoint whole",
        10,
        fill_the_disk,
    ),
    Fault("machines as they are", "it trains to the end", 3 * len(MACHINES), run_on_a_machine),
    Fault(
        "commands with few or odd environment variables",
        "they train to the end, without a traceback",
        len(ENVIRONMENTS),
        run_in_an_environment,
    ),
    Fault(
        "/dev/shm of 4 KB to 64 MB, or read-only",
        "it trains to the end",
        10,
        run_with_little_shared_memory,
    ),
)
