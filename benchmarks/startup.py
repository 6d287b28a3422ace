"""CPU seconds from the command to the first iteration: python -m benchmarks.startup.

The quick start's SOLOv2 and 16 images, in new processes, one after the other. Prints the least of
all rounds, part by part: other work of the machine can only add to it. Beside it stands what Python
and `import torch` take, which no program with torch can save.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

ROUNDS = 3
PARTS = ("import torch", "detectron2 and this package", "model and data", "first iteration")


def main() -> None:
    """Measure, or be one of the processes."""
    if len(sys.argv) > 1:
        start_training(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder) / "shapes")
        rounds = [one_round(Path(folder)) for _ in range(ROUNDS)]
    least = min(rounds, key=lambda parts: sum(parts.values()))
    print(table(least))


def one_round(folder: Path) -> dict[str, float]:
    """Return the CPU seconds of each part of a start in a new process, all its threads together."""
    command = [sys.executable, "-m", "benchmarks.startup", str(folder)]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(run.stdout.splitlines()[-1])


def table(parts: dict[str, float]) -> str:
    """Return the parts, and their sum, as a table."""
    rows = [*parts.items(), ("all", sum(parts.values()))]
    return tabulate(rows, ("part", "CPU s"), tablefmt="pipe", floatfmt=".2f")


def make_data(folder: Path) -> None:
    """Make 16 images, in a process that needs no torch afterwards."""
    code = "import sys; from solo_family.data.formats.synthetic import make_shapes\n"
    code += "make_shapes(sys.argv[1], num_train=16, num_val=1)"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True)


def start_training(folder: Path) -> None:
    """Train one iteration, print the CPU seconds of each part, and leave at once."""
    from solo_family.threads import choose_before_torch

    choose_before_torch()
    times = []
    import torch  # noqa: F401

    times.append(time.process_time())
    from detectron2.engine import HookBase

    from solo_family.cli.quickstart import dataset_opts
    from solo_family.engine.main import argument_parser, prepare, read_config
    from solo_family.model_zoo import get_config_file

    times.append(time.process_time())
    config = get_config_file("quickstart/solov2.yaml")
    opts = [*dataset_opts("instance", folder / "shapes"), "MODEL.TIMM.WEIGHTS", ""]
    words = ["--config-file", config, *opts, "DATASETS.TEST", "()", "SOLVER.MAX_ITER", "1"]
    words += ["OUTPUT_DIR", str(folder / "output")]
    args = argument_parser().parse_args(words)
    trainer = prepare(read_config(args), args)
    times.append(time.process_time())

    class Leave(HookBase):
        def after_step(self) -> None:
            times.append(time.process_time())
            parts = [after - before for before, after in zip([0.0, *times], times)]
            print(json.dumps(dict(zip(PARTS, parts))), flush=True)
            os._exit(0)

    trainer.register_hooks([Leave()])
    trainer.train()


if __name__ == "__main__":
    main()
