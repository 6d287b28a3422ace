"""Check what is installed, and try every method once."""

import argparse
from pathlib import Path

from .checks import BROKEN, GOOD, LACKING, Check, all_checks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `doctor`."""
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output"),
        help="folder that runs will write to (default: output)",
    )


def run(args: argparse.Namespace) -> int:
    """Run and print the checks, and return the exit status: 1 if something is broken."""
    counts = {GOOD: 0, LACKING: 0, BROKEN: 0}
    for check in all_checks(args.output):
        counts[check.status] += 1
        print(_line(check), flush=True)
    if counts[BROKEN]:
        print(
            f"\n{counts[BROKEN]} broken: fix them from the top, because the first may cause the "
            "others."
        )
        return 1
    print(f"\nAll that is needed works; {counts[LACKING]} of the optional parts are lacking.")
    return 0


def _line(check: Check) -> str:
    line = f"{check.status:8}{check.name:26}{check.found}"
    return f"{line}\n{'':34}{check.remedy}" if check.remedy else line
