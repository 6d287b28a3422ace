"""Read the table of models: every config, what was published for it, and where its weights are."""

import csv
import difflib
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError
from .configs import config_names

TABLE = Path(__file__).with_name("models.csv")
# Of the published weights, by the repository that they belong to.
LICENCES = {
    "https://github.com/WXinlong/SOLO": "non-commercial",
    "https://github.com/aim-uofa/AdelaiDet": "non-commercial",
    "https://github.com/facebookresearch/MaskFormer": "CC-BY-NC 4.0 (non-commercial)",
    "https://github.com/hustvl/SparseInst": "MIT",
    "https://github.com/open-mmlab/mmdetection": "Apache-2.0",
}


@dataclass(frozen=True)
class Entry:
    """What is known about one config; "" stands for what is not known.

    Attributes:
        config: relative to `configs/`.
        metric: AP (of masks, COCO val2017), mIoU, PQ, or AR@10/100/1000 (of mask proposals).
        published: its value as the authors report it.
        published_multi_scale: the same with several scales and flips at inference.
        paper, repository: addresses.
        weights: the address of the published checkpoint.
        checksum: the beginning of the hash of that file: "sha256:..." or "md5:...".
        note: any other remark.
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

    @property
    def licence(self) -> str:
        """The licence of the published weights; "" where there are none."""
        return LICENCES.get(self.repository, "unknown") if self.published else ""

    @property
    def is_commercial(self) -> bool:
        """Whether the licence of the published weights is known to allow commercial use."""
        return bool(self.weights) and self.licence in ("MIT", "Apache-2.0")


def read_table() -> dict[str, Entry]:
    """Return all rows by config, including configs for which nothing is published."""
    with open(TABLE, newline="", encoding="utf-8") as file:
        rows = {row["config"]: Entry(**row) for row in csv.DictReader(file)}
    unpublished = {name: Entry(name) for name in config_names() if name not in rows}
    # Sorted so that the configs of one folder are together.
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
        (nearest,) = difflib.get_close_matches(name, table, n=1, cutoff=0)
        raise ConfigError(
            f"There is no model {name!r} in the zoo. The most similar name is {nearest}; "
            "docs/model_zoo.md and solo_family.model_zoo.list() have all names."
        )
    return table[name]
