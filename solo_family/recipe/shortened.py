"""A training with fewer iterations than its recipe has."""

import json
from pathlib import Path

from detectron2.config import CfgNode

from ..files import replacing


class Plan:
    """The number of iterations of a run, which a file keeps for the call that resumes it.

    Args:
        folder: of the run.
        cfg: the recipe's; a plan of another number of iterations is not followed.
    """

    def __init__(self, folder: Path, cfg: CfgNode) -> None:
        self._path = folder / "plan.json"
        self._cfg = cfg

    def iterations(self) -> int:
        """Return the number that was planned last, at first the recipe's."""
        full = self._cfg.SOLVER.MAX_ITER
        try:
            plan = json.loads(self._path.read_text(encoding="utf-8"))
            return plan["planned"] if plan["recipe"] == full else full
        except (OSError, ValueError, LookupError, TypeError):
            return full

    def change(self, iterations: int) -> None:
        """Keep another number."""
        content = {"recipe": self._cfg.SOLVER.MAX_ITER, "planned": iterations}
        with replacing(self._path) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")

    def opts(self, iterations: int) -> list[str]:
        """Return the keys and values that replace the recipe's."""
        same = iterations == self._cfg.SOLVER.MAX_ITER
        return [] if same else shortened(self._cfg, iterations)


def shortened(cfg: CfgNode, iterations: int) -> list[str]:
    """Return the keys and values of a schedule like a config's, with fewer iterations.

    The steps come after the same share of the iterations. The warm-up is at most a seventh, as in
    other short recipes.

    Args:
        cfg: the recipe's.
        iterations: at least 1.
    """
    share = iterations / cfg.SOLVER.MAX_ITER
    steps = sorted({int(step * share) for step in cfg.SOLVER.STEPS if int(step * share)})
    warmup = min(cfg.SOLVER.WARMUP_ITERS, iterations // 7)
    return [
        *("SOLVER.MAX_ITER", str(iterations), "SOLVER.STEPS", str(tuple(steps))),
        *("SOLVER.WARMUP_ITERS", str(warmup)),
    ]
