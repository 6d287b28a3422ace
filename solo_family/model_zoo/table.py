"""The table of models: every config, what was published for it, and where its weights are."""

import csv
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from .configs import config_names

TABLE = Path(__file__).with_name("models.csv")


@dataclass(frozen=True)
class Entry:
    """What is known of one config; what is not known is "".

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
    metric: str = ""
    published: str = ""
    published_multi_scale: str = ""
    paper: str = ""
    repository: str = ""
    weights: str = ""
    checksum: str = ""
    note: str = ""


def read_table() -> dict[str, Entry]:
    """Return all rows by config; configs of which nothing is published are there all the same."""
    with open(TABLE, newline="", encoding="utf-8") as file:
        rows = {row["config"]: Entry(**row) for row in csv.DictReader(file)}
    unpublished = {name: Entry(name) for name in config_names() if name not in rows}
    # Those of one folder stand together.
    folders = list(dict.fromkeys(name.split("/")[0] for name in (*rows, *unpublished)))
    return dict(
        sorted((rows | unpublished).items(), key=lambda item: folders.index(item[0].split("/")[0]))
    )


def names() -> list[str]:
    """Return the names of all configs, for `get` and `get_config_file`."""
    return list(read_table())


def find(name: str) -> Entry:
    """Return the row of a config.

    Raises:
        ConfigError: there is none.
    """
    table = read_table()
    if name not in table:
        raise ConfigError(f"There is no model {name!r}. All names: solo_family.model_zoo.list().")
    return table[name]
