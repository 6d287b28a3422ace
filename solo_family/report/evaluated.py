"""Which weights and which configuration the predictions in a run's folder are of.

A training leaves no note: they are of its last evaluation. `train_net.py --eval-only` may have had
other weights, another dataset, other keys.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..files import replacing

INFERENCE = "inference"
_NOTE = "evaluated.json"


@dataclass(frozen=True)
class Evaluated:
    """An evaluation by itself, without a training.

    Attributes:
        weights: the path of the weights.
        config: the name of its config in the run's folder.
    """

    weights: str
    config: str


def note_evaluation(run: Path, evaluated: Evaluated) -> None:
    """Note that the predictions in a run's folder are those of an evaluation by itself."""
    folder = run / INFERENCE
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / _NOTE) as temporary:
        temporary.write_text(json.dumps(asdict(evaluated), indent=1), encoding="utf-8")


def note_training(run: Path) -> None:
    """Note that the predictions are those of the training."""
    (run / INFERENCE / _NOTE).unlink(missing_ok=True)


def evaluation_of(run: Path) -> Evaluated | None:
    """Return the evaluation by itself that the predictions are of; None for the training's own."""
    try:
        content = json.loads((run / INFERENCE / _NOTE).read_text(encoding="utf-8"))
        return Evaluated(**content)
    except (OSError, ValueError, TypeError):
        return None
