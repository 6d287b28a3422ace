"""Keep the confidence threshold with the best F1 in a run's config.yaml."""

from pathlib import Path

import yaml

from ..files import replacing

KEY = "TEST.CONFIDENCE_THRESHOLD"


def store_threshold(path: Path, best: float, before: float | None) -> str:
    """Write the threshold into a configuration, unless it has one that somebody has chosen.

    Args:
        path: of the config.yaml of a run.
        best: the threshold.
        before: what an earlier report has written; None if there was none.

    Returns:
        What the report says about it; "" if there is no such file.
    """
    if not path.is_file():
        return ""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    node, name = content.setdefault("TEST", {}), KEY.partition(".")[2]
    given = node.get(name)
    if given is not None and given != before:
        return f"`{KEY}` of config.yaml was chosen by somebody and stays {given:g}."
    if given != best:
        node[name] = best
        with replacing(path) as temporary:
            temporary.write_text(yaml.safe_dump(content), encoding="utf-8")
    return (
        f"`{KEY}` of config.yaml is now {best:.3g}: `demo`, `Predictor` and `visualize-results` "
        "show what has at least this score, unless they are given another threshold."
    )
