"""All that only a GPU can show, in one run: `python -m tests.gpu.check --out FOLDER`.

What measures no times runs side by side at first, then what does, one stage at a time. Each stage
is a process of its own: an illegal access, which ends a process's CUDA context, takes no other
stage with it. Rows are appended to FOLDER/rows.jsonl as they come; at the end they are printed as a
table, and all of FOLDER is in FOLDER/check.tgz. The exit status is how many rows are not ok, 100 at
most.

`--device cpu --tiny` tries the script itself where there is no GPU: kernels run in Triton's
interpreter, and stages that need a GPU say so.
"""

from __future__ import annotations

import argparse
import os
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

from .runner import Runner, Stage
from .stages import rows, settings
from .stages.rows import Row

ROOT = Path(__file__).resolve().parents[2]

# What a GPU alone can show comes first; the project's whole suite, most of which runs on CPUs every
# day, takes what time is left. `--only suite` gives it all.
STAGES = (
    Stage("compile", 150),
    Stage("kernel_tests", 150),
    Stage("models", 120),
    Stage("kernels", 90),
    Stage("training", 90),
    Stage("waits", 60),
    Stage("memory", 60),
    Stage("environment", 60),
    Stage("wrappers", 60),
    Stage("sanitizer", 100),
    Stage("suite", 280, threads=3),
    Stage("machine", 15, timed=True),
    Stage("operators", 65, timed=True),
    Stage("speed", 60, timed=True),
    Stage("compiled", 40, timed=True),
    Stage("alternatives", 25, timed=True),
)
_AT_ONCE = 4
# Of the budget, what the stages side by side may take where timed ones follow.
_SHARE = 0.6


def main(words: Sequence[str] | None = None, stages: Sequence[Stage] = STAGES) -> int:
    """Run the stages and print the table; return the exit status."""
    args = _parser(stages).parse_args(words)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "rows.jsonl"
    file.unlink(missing_ok=True)
    seed = int(time.time()) if args.seed is None else args.seed
    rows.append(file, Row("check", f"seed {seed}", True, note=" ".join(words or sys.argv[1:])))
    runner = Runner(args.out, _environment(args, seed), ROOT, args.budget)
    chosen = [stage for stage in stages if args.only is None or stage.name in args.only]
    if args.device == "cpu":  # which takes longer, and only the budget matters
        chosen = [stage._replace(limit=args.budget) for stage in chosen]
    timed = [stage for stage in chosen if stage.timed]
    others = [stage for stage in chosen if not stage.timed]
    runner.run(others, at_once=_AT_ONCE, seconds=args.budget * (_SHARE if timed else 1))
    runner.run(timed, at_once=1, seconds=args.budget)
    spent = args.budget - runner.seconds_left()
    rows.append(file, Row("check", "all stages", True, spent, "s", f"of {args.budget:.0f}"))
    found = rows.read(file)
    text = table(found)
    print(text)
    (args.out / "table.txt").write_text(text + "\n")
    _archive(args.out)
    return min(100, sum(not row.ok for row in found))


def table(found: Sequence[Row]) -> str:
    """One line a row, those of a stage together, in the order the stages have begun; a summary."""
    names = list(dict.fromkeys(row.stage for row in found))
    lines = [str(row) for row in sorted(found, key=lambda row: names.index(row.stage))]
    bad = sum(not row.ok for row in found)
    return "\n".join([*lines, f"{len(found)} rows, {bad} not ok"])


def _environment(args: argparse.Namespace, seed: int) -> dict[str, str]:
    environment = {
        **os.environ,
        settings.DEVICE: args.device,
        settings.TINY: "1" if args.tiny else "",
        settings.SEED: str(seed),
    }
    if args.device == "cpu":
        environment |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    return environment


def _archive(folder: Path) -> None:
    archive = folder / "check.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.iterdir()):
            if path != archive:
                tar.add(path, path.name)


def _parser(stages: Sequence[Stage]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests.gpu.check")
    parser.add_argument("--out", type=Path, required=True, help="a folder for all that is found")
    parser.add_argument(
        "--budget", type=float, default=300, help="seconds for all stages (default: 300)"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="STAGE", choices=[stage.name for stage in stages]
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="inputs that only try the script")
    parser.add_argument("--seed", type=int, help="of random inputs (default: the time)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
