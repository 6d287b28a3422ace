"""Lines of metrics.json that strict readers of JSON take."""

import json
from pathlib import Path
from typing import NoReturn

from detectron2.utils.events import EventStorage

from solo_family.engine.metrics_file import MetricsFile


def refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    writer = MetricsFile(str(path))
    with EventStorage() as storage:
        storage.put_scalars(AP=1.5, APs=float("nan"), loss=float("inf"), smoothing_hint=False)
        writer.write()
        storage.step()
        storage.put_scalars(AP=2.5, smoothing_hint=False)
        writer.write()
    writer.close()
    lines = [json.loads(line, parse_constant=refuse) for line in path.open()]
    assert [line["AP"] for line in lines] == [1.5, 2.5]
    assert lines[0]["APs"] is lines[0]["loss"] is None
    assert [line["iteration"] for line in lines] == [0, 1]
