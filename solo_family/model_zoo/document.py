"""Write docs/model_zoo.md from the table: python -m solo_family.model_zoo.document FILE."""

import sys
from itertools import groupby
from pathlib import Path

from ..fetch.table import Entry, read_table
from ..files import replacing
from ..registry import METHODS

_HEAD = """# Model zoo

Written by `python -m solo_family.model_zoo.document docs/model_zoo.md` from
`solo_family/fetch/models.csv`; change that.

```python
from solo_family import model_zoo

model_zoo.list()                                    # the names below
model = model_zoo.get("SOLOv2/solov2_R50_3x.yaml")  # downloads, checks, converts, loads
```

On the command line `zoo:` comes before a name: `--config-file zoo:SOLOv2/solov2_R50_3x.yaml`, and
`MODEL.WEIGHTS zoo:SOLOv2/solov2_R50_3x.yaml`. [Sharing](sharing.md) has the rest: the cache,
working offline, and models of the HuggingFace Hub.

*Published* is the authors' number, for their weights or their training; it was not measured
here. Ours are in [results.md](results.md); [published.md](published.md) has the data, schedule
and test of each number. AP is of masks on COCO val2017, with one scale; AR is of mask proposals.
*With scales* is the authors' number with several scales and flips at inference.

Weights have the licences of their authors; those of SOLO, AdelaiDet and MaskFormer allow no
commercial use. The log names the licence before a download. Weights are downloaded from where
their authors put them, and from nowhere else. A checksum is the beginning of the file's hash, as
the authors publish it; files without one are not compared. Addresses were not fetched when this
was written.

Weights of mmdetection, AdelaiDet and HuggingFace can be converted with
[`python -m solo_family convert`](convert.md).
"""
# Titles of the folders that belong to no method.
_TITLES = {
    "benchmarks": "Small real benchmarks",
    "quickstart": "Quickstart, on shapes",
}


def document() -> str:
    """Return the whole page."""
    parts = [_HEAD]
    for folder, entries in groupby(read_table().values(), key=_folder):
        rows = list(entries)
        links = _links(rows[0])
        parts.append(f"## {_title(folder)}\n")
        if links:
            parts.append(f"{links}\n")
        parts.append("| config | metric | published | with scales | weights | their licence |")
        parts.append("|---|---|---|---|---|---|")
        parts += [_row(entry) for entry in rows]
        parts.append("")
    return "\n".join(parts)


def _title(folder: str) -> str:
    """Return the title of the method whose configs a folder holds, or else the folder's own."""
    titles = {method.base_config.split("/")[0]: method.title for method in METHODS.values()}
    return (titles | _TITLES).get(folder) or folder


def _folder(entry: Entry) -> str:
    return entry.config.split("/")[0]


def _links(entry: Entry) -> str:
    addresses = {"paper": entry.paper, "official code": entry.repository}
    return ", ".join(f"[{name}]({address})" for name, address in addresses.items() if address)


def _row(entry: Entry) -> str:
    weights = f"[file]({entry.weights})" if entry.weights else ""
    parts = [weights, entry.checksum, entry.note]
    cells = [
        f"`{entry.config}`",
        entry.metric,
        entry.published,
        entry.published_multi_scale,
        "; ".join(part for part in parts if part),
        entry.licence if entry.weights else "",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    with replacing(Path(sys.argv[1])) as temporary:
        temporary.write_text(document(), encoding="utf-8")
