"""Keep the confidence threshold with the best F1 in a run's config.yaml."""

from pathlib import Path

import yaml

from ..files import replacing

_BEST, _GIVEN = "BEST_CONFIDENCE", "CONFIDENCE_THRESHOLD"


def store_threshold(path: Path, best: float) -> str:
    """Write the threshold into a configuration, as `TEST.BEST_CONFIDENCE`.

    Args:
        path: of the config.yaml of a run.
        best: the threshold.

    Returns:
        What the report says about it; "" if there is no such file.
    """
    if not path.is_file():
        return ""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    test = content.setdefault("TEST", {})
    if test.get(_BEST) != best:
        test[_BEST] = best
        with replacing(path) as temporary:
            temporary.write_text(yaml.safe_dump(content), encoding="utf-8")
    stored = f"It is stored in config.yaml as `TEST.{_BEST}`."
    if test.get(_GIVEN) is not None:
        return f"{stored} `TEST.{_GIVEN}` {test[_GIVEN]:g}, which was given, comes before it."
    return (
        f"{stored} `demo`, `predict-many`, `Predictor` and `visualize-results` show what has at "
        "least this score, unless they are given another threshold."
    )
