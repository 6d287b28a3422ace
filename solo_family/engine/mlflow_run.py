"""A run of MLflow."""

import os
import re
from pathlib import Path
from typing import Any

from ..files import replacing
from .loggers import Logger, read_run_id

_ID = "mlflow_run.txt"
# What the names of metrics can't have.
_REFUSED = re.compile(r"[^\w\-. :/]")


class MlflowRun(Logger):
    """Log to MLflow: to `MLFLOW_TRACKING_URI`, or into the folder `mlruns` of the run.

    The id of the run is kept in the folder, so that a resumed training goes on in it.
    """

    name = "mlflow"
    _client: Any = None
    _id = ""

    def open(self, resumed: bool) -> None:
        """Begin a run, or go on in that of the folder."""
        import mlflow

        if not os.environ.get("MLFLOW_TRACKING_URI"):
            # Files need no database, for which the small package of MLflow has no driver.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        uri = os.environ.get("MLFLOW_TRACKING_URI") or (self.folder / "mlruns").resolve().as_uri()
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        path = self.folder / _ID
        identity = read_run_id(path, resumed)
        if identity is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "solo_family")
            experiment = self._client.get_experiment_by_name(name)
            place = experiment.experiment_id if experiment else self._client.create_experiment(name)
            run = self._client.create_run(place, run_name=self.folder.resolve().name)
            identity = run.info.run_id
        else:
            self._client.update_run(identity, status="RUNNING")
        self._id = identity
        with replacing(path) as temporary:
            temporary.write_text(f"{identity}\n", encoding="utf-8")

    def log(self, iteration: int, values: dict[str, float]) -> None:
        """Log the metrics; letters that MLflow refuses in their names become "_"."""
        from mlflow.entities import Metric

        metrics = [
            Metric(_REFUSED.sub("_", name), value, _now(), iteration)
            for name, value in values.items()
        ]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self) -> None:
        """End the run."""
        if self._id:
            self._client.set_terminated(self._id)


def _now() -> int:
    import time

    return int(time.time() * 1000)


def build(folder: Path) -> MlflowRun:
    """Return the logger of a folder."""
    return MlflowRun(folder)
