"""The table of models: every config, what was published for it, and where its weights are."""

import csv
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError

TABLE = Path(__file__).with_name("models.csv")


@dataclass(frozen=True)
class Entry:
    """One row of `models.csv`; what is not known is "".

    Attributes:
        config: relative to `configs/`.
        metric: AP (of masks, COCO val2017), mIoU, PQ, or AR@10/100/1000 (of mask proposals).
        published: its value as the authors give it.
        published_multi_scale: the same with several scales and flips at inference.
        paper, repository: addresses.
        weights: the address of the published checkpoint.
        checksum: how the hash of that file begins: "sha256:..." or "md5:...".
        note: what else there is to know.
    """

    config: str
    metric: str
    published: str
    published_multi_scale: str
    paper: str
    repository: str
    weights: str
    checksum: str
    note: str


def read_table() -> dict[str, Entry]:
    """Returns all rows by config."""
    with open(TABLE, newline="", encoding="utf-8") as file:
        return {row["config"]: Entry(**row) for row in csv.DictReader(file)}


def names() -> list[str]:
    """Returns the names of all configs, for `get` and `get_config_file`."""
    return list(read_table())


def find(name: str) -> Entry:
    """Returns the row of a config.

    Raises:
        ConfigError: there is none.
    """
    table = read_table()
    if name not in table:
        raise ConfigError(f"There is no model {name!r}. All names: solo_family.model_zoo.list().")
    return table[name]
