"""Tables of the zoo that tests change."""

import csv
from pathlib import Path

from solo_family.fetch.table import TABLE


def write_table(path: Path, config: str, **columns: str) -> Path:
    """Writes the zoo's table with other values in one config's row, which is added if need be."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if config not in {row["config"] for row in rows}:
        rows.append(dict.fromkeys(rows[0], "") | {"config": config})
    for row in rows:
        if row["config"] == config:
            row |= columns
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path
