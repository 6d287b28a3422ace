"""Which metric `TEST.BEST_METRIC` is, among those that the evaluations of a run give."""

import difflib
import logging
from collections.abc import Callable, Sequence

from detectron2.config import CfgNode

from ..errors import ConfigError, first_of
from .build import kinds_of

logger = logging.getLogger(__name__)

_LISTED = 24  # of many metrics, as many are named


def possible_metrics(cfg: CfgNode) -> list[str]:
    """Return the metrics of the evaluations of `DATASETS.TEST`, as they are logged.

    With several datasets detectron2 puts the name of the dataset before them; those of averaged
    weights have "_ema" after the first part.
    """
    names = list(dict.fromkeys(cfg.DATASETS.TEST))
    found = []
    for name in names:
        for kind in kinds_of(cfg, name):
            prefix = f"{name}/" if len(names) > 1 else ""
            found += [prefix + metric for metric in kind.metrics(name)]
    if cfg.SOLVER.EMA.ENABLED:
        found += [averaged_metric(metric, names) for metric in found]
    return found


def averaged_metric(metric: str, names: Sequence[str]) -> str:
    """Return the name of a metric for averaged weights."""
    # A name in place has slashes of its own.
    first = next((name for name in names if metric.startswith(f"{name}/")), metric.split("/")[0])
    return f"{first}_ema{metric.removeprefix(first)}"


def best_metric(cfg: CfgNode) -> str:
    """Return the metric that `TEST.BEST_METRIC` means; "" for none.

    Its end, another case of letters, or the only dataset's name before it, suffice where they tell
    one metric.

    Raises:
        ConfigError: names those that there are, or those that it may mean.
    """
    given = cfg.TEST.BEST_METRIC
    if not given:
        return ""
    if not cfg.DATASETS.TEST:
        raise ConfigError(
            f"TEST.BEST_METRIC is {given!r}, but DATASETS.TEST is empty: nothing is evaluated. "
            "Name a dataset there, or leave TEST.BEST_METRIC ''."
        )
    possible = possible_metrics(cfg)
    meant = _meant(given, possible, cfg.DATASETS.TEST[0])
    if len(meant) > 1:
        raise ConfigError(
            f"TEST.BEST_METRIC is {given!r}, which may be each of {', '.join(meant[:_LISTED])}. "
            "Write one of these."
        )
    if not meant:
        nearest = difflib.get_close_matches(given, possible, n=1, cutoff=0)
        raise ConfigError(
            f"TEST.BEST_METRIC is {given!r}, which the evaluation of DATASETS.TEST does not give. "
            + (f"The nearest is {nearest[0]}; " if nearest else "")
            + f"there are {first_of(possible, _LISTED) or 'none'}."
        )
    if meant[0] != given:
        logger.info("TEST.BEST_METRIC %s is %s.", given, meant[0])
    return meant[0]


def _meant(given: str, possible: Sequence[str], dataset: str) -> list[str]:
    """Return the metrics that a name may mean, by the strictest rule that finds any."""
    rules: list[Callable[[str], bool]] = [
        lambda metric: metric == given,
        lambda metric: f"{dataset}/{metric}" == given,
        lambda metric: metric.endswith(f"/{given}"),
        lambda metric: metric.casefold() == given.casefold(),
        lambda metric: metric.casefold().endswith(f"/{given.casefold()}"),
    ]
    for rule in rules:
        meant = [metric for metric in possible if rule(metric)]
        if meant:
            return meant
    return []
