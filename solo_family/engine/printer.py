"""The progress line that training prints."""

import datetime
import logging
import sys

import torch
from detectron2.utils.events import EventStorage, EventWriter, get_event_storage

from .eta import Eta


class MetricPrinter(EventWriter):
    """Log ETA, iteration, losses, learning rate, times and memory, smoothed over 20 iterations.

    detectron2's own printer logs GPU memory only; this one also logs the process's memory.

    Args:
        max_iter: number of iterations of the run.
        eta: tells how long they will take; None for an estimate from the times of the iterations
            alone, as trainers of other code have it.
    """

    def __init__(self, max_iter: int, eta: Eta | None = None) -> None:
        self._logger = logging.getLogger("solo_family.train")
        self._max_iter = max_iter
        self._eta = eta

    def write(self) -> None:
        """Log the current metrics in one line."""
        storage = get_event_storage()
        if storage.iter >= self._max_iter:
            return
        parts = [f"eta: {self._left(storage)}", f"iter: {storage.iter + 1}/{self._max_iter}"]
        for name, history in storage.histories().items():
            if "loss" in name:
                parts.append(f"{name}: {history.median(20):.4g}")
        for name in ("time", "data_time"):
            if name in storage.histories():
                parts.append(f"{name}: {storage.histories()[name].avg(20):.3f} s")
        if "lr" in storage.histories():
            parts.append(f"lr: {storage.histories()['lr'].latest():.3g}")
        parts.append(f"memory: {_memory()}")
        self._logger.info("  ".join(parts))

    def _left(self, storage: EventStorage) -> str:
        finished = storage.iter + 1
        seconds = None
        if self._eta is not None:
            seconds = self._eta.left(finished, self._max_iter)
        elif "time" in storage.histories():
            seconds = (self._max_iter - finished) * storage.histories()["time"].median(1000)
        return "?" if seconds is None else str(datetime.timedelta(seconds=int(seconds)))


def _memory() -> str:
    """Return the peak memory of this process and, if there is one, of the GPU, as text."""
    parts = [f"{host_memory() / 2**20:.0f} MB"] if host_memory() else []
    if torch.cuda.is_available():
        parts.append(f"GPU {torch.cuda.max_memory_allocated() / 2**20:.0f} MB")
    return ", ".join(parts)


def host_memory() -> int:
    """Return the peak memory of this process in bytes; 0 if the system does not tell it."""
    try:
        import resource  # Windows has none
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
