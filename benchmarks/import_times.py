"""What an import costs, beside `import torch`: python -m benchmarks.import_times.

Each is timed in new processes, in turns, and the least of all rounds is taken: other work of the
machine can only add to it.
"""

import subprocess
import sys
import time

ROUNDS = 7
IMPORTS = (
    "import torch",
    "import solo_family",
    "import torch, solo_family",
    "import solo_family.ops",
    "import detectron2.modeling",
    "import solo_family, detectron2.modeling",
    "from solo_family import get_cfg; get_cfg()",
)


def main() -> None:
    least = dict.fromkeys(IMPORTS, float("inf"))
    for _ in range(ROUNDS):
        for statement in IMPORTS:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            least[statement] = min(least[statement], time.perf_counter() - start)
    print("| statement | s | x import torch |\n|---|---|---|")
    for statement, seconds in least.items():
        print(f"| `{statement}` | {seconds:.2f} | {seconds / least['import torch']:.2f} |")


if __name__ == "__main__":
    main()
