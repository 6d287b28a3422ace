"""Write docs/published.md from the tables: python -m solo_family.model_zoo.published FILE."""

import sys
from itertools import groupby
from pathlib import Path

from ..config import get_cfg
from ..fetch.configs import get_config_file
from ..fetch.table import Entry, read_table
from ..files import replacing
from .differences import Difference, read_differences, read_missing

_HEAD = """# Every published number, and what it takes

Written by `python -m solo_family.model_zoo.published docs/published.md` from the configs and the
tables `solo_family/fetch/models.csv` and `solo_family/model_zoo/*.csv`; change those.

A published number depends on a model, its data, its schedule and its test. Each row names the
config that has all four, with the values that it trains and tests with.
`tests/config/test_published.py` compares 66 of these configs with the values of the official ones,
key by key; *differs* numbers [what differs](#what-differs-by-intention). The published numbers are
quoted; none was measured here ([ours](results.md)). Weights, and where they are from, are in the
[model zoo](model_zoo.md).
"""
_DIFFERENCES = """## What differs by intention

Of values in the configs. What differs in the code stands in the pages of the methods:
[SOLO](methods/solo.md), [Decoupled SOLO](methods/decoupled_solo.md), [SOLOv2](methods/solov2.md),
[InstanceFCN](methods/instancefcn.md), [MaskFormer](methods/maskformer.md),
[SparseInst](methods/sparseinst.md).

| | configs | key | official | ours | why |
|---|---|---|---|---|---|"""
_MISSING = """## Published numbers without a config

| source | row | number | what is missing |
|---|---|---|---|"""


def document() -> str:
    """Return the whole page."""
    differences = read_differences()
    parts = [_HEAD]
    entries = [entry for entry in read_table().values() if entry.published]
    for source, rows in groupby(entries, key=lambda entry: (_method(entry), entry.repository)):
        method, repository = source
        whose = f"[{repository.split('github.com/')[-1]}]({repository})" if repository else "paper"
        parts.append(f"## {method}: {whose}\n")
        parts.append("| config | number | data | schedule | test | licence of weights | differs |")
        parts.append("|---|---|---|---|---|---|---|")
        parts += [_row(entry, differences) for entry in rows]
        parts.append("")
    parts.append(_DIFFERENCES)
    parts += [
        f"| {number} | {', '.join(f'`{each}`' for each in difference.configs.split())} "
        f"| `{difference.key}` | {_cell(difference.official)} | {_cell(difference.ours)} "
        f"| {difference.reason} |"
        for number, difference in enumerate(differences, 1)
    ]
    parts += ["", _MISSING]
    parts += [
        f"| {each.source} | {each.row} | {each.value} | {each.reason} |" for each in read_missing()
    ]
    return "\n".join([*parts, ""])


def _row(entry: Entry, differences: list[Difference]) -> str:
    cfg = get_cfg()
    cfg.merge_from_file(get_config_file(entry.config))
    images, crop = cfg.INPUT, cfg.INPUT.CROP
    sizes = sorted({*_numbers(images.MIN_SIZE_TRAIN)})
    train = f"{sizes[0]}-{sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
    schedule = (
        f"{cfg.SOLVER.MAX_ITER:,} x {cfg.SOLVER.IMS_PER_BATCH} images, short edge {train}"
        f"{', LSJ' if images.LSJ.ENABLED else ''}{', crops' if crop.ENABLED else ''}"
    )
    numbers = [str(n) for n, each in enumerate(differences, 1) if each.is_of(entry.config)]
    number = f"{entry.metric} {entry.published}"
    if entry.published_multi_scale:
        number += f" ({entry.published_multi_scale} with scales)"
    cells = [
        f"`{entry.config}`",
        number,
        f"{', '.join(cfg.DATASETS.TRAIN)} / {', '.join(cfg.DATASETS.TEST)}",
        schedule,
        f"{images.MIN_SIZE_TEST}, at most {images.MAX_SIZE_TEST}",
        entry.licence if entry.weights else "no weights to download",
        ", ".join(numbers),
    ]
    return f"| {' | '.join(cells)} |"


def _numbers(sizes: int | list[int] | tuple[int, ...]) -> list[int]:
    return [sizes] if isinstance(sizes, int) else list(sizes)


def _cell(value: str) -> str:
    return {"*": "any", "": "empty"}.get(value, f"`{value}`")


def _method(entry: Entry) -> str:
    return entry.config.split("/")[0]


if __name__ == "__main__":
    with replacing(Path(sys.argv[1])) as temporary:
        temporary.write_text(document(), encoding="utf-8")
