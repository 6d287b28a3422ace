"""`make soak`: random faults in random moments, as many as there are minutes for.

The seed that it prints gives the same choices again; the moments depend on the machine.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from . import faults, ranks
from .faults import Soak

FAULTS = (*faults.FAULTS, *ranks.FAULTS)
_MINUTES = 30  # for the counts of FAULTS, on two cores


def main() -> int:
    """Runs all faults, prints a table, and returns 1 where anything was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=_MINUTES, help="scales the counts")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", default="", help="the faults whose names have this in them")
    args = parser.parse_args()
    print(f"seed {args.seed}: python -m tests.soak --minutes {args.minutes:g} --seed {args.seed}")
    root = Path(tempfile.mkdtemp(prefix="soak_"))
    root.chmod(0o777)
    soak = Soak(root, random.Random(args.seed))
    rows, failed = [], 0
    for fault in (fault for fault in FAULTS if args.only in fault.name):
        count = max(1, round(fault.count * args.minutes / _MINUTES))
        start, bad = time.monotonic(), 0
        for number in range(count):
            folder = root / fault.name.replace(" ", "_").replace("/", "_") / str(number)
            folder.mkdir(parents=True)
            folder.chmod(0o777)
            try:
                fault.cause(soak, folder, number)
                shutil.rmtree(folder)
            except Exception:
                bad += 1
                print(f"{fault.name}, {number} (kept in {folder}):\n{traceback.format_exc()}")
        seconds = time.monotonic() - start
        rows.append(f"| {fault.name} | {fault.expected} | {count} | {count - bad} |")
        print(f"{fault.name}: {count - bad} of {count} in {seconds:.0f} s", flush=True)
        failed += bad
    print("\n| fault | what must happen | times | did |\n|---|---|---|---|\n" + "\n".join(rows))
    if not failed:
        shutil.rmtree(root)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
