"""Training in containers as they are: little shared memory, or none."""

from pathlib import Path

import pytest

from solo_family.engine.main import main as train_net

from ..coco_folder import CocoFolder, noise, rectangle, run_cfg, write_cfg
from ..forked import Forked
from ..namespaces import mounting


@pytest.mark.parametrize(
    "kind", [pytest.param("64 MB", marks=pytest.mark.slow), "4 KB", "read only"]
)
def test_shared_memory_of_any_size_trains_to_the_end(tmp_path: Path, kind: str) -> None:
    """Batches of 100 MB; Docker gives 64 MB, and the pictures of the 4 KB case are small."""
    large = kind == "64 MB"
    folder = CocoFolder(tmp_path / "data", {1: "cat"})
    for index in range(4):
        boxes = [rectangle(5 + shift, 5, 20, 24) for shift in range(60 if large else 1)]
        folder.add(f"{index}.png", noise(800, 1216) if large else noise(48, 64), boxes)
    opts = ["DATALOADER.NUM_WORKERS", 2, "SOLVER.MAX_ITER", 2, "DATALOADER.TIMEOUT", 60]
    if large:  # the model's targets of so many objects are not what this is about
        opts += ["INPUT.MIN_SIZE_TRAIN", (800,), "MODEL.SOLOV2.SIGMA", 0.01]
    cfg = run_cfg(folder.write(), tmp_path / "run", *opts)
    words = ["--config-file", write_cfg(tmp_path / "config.yaml", cfg)]
    size = {"64 MB": "size=64m", "4 KB": "size=4k", "read only": "size=4k"}[kind]
    before = mounting("/dev/shm", size, read_only=kind == "read only")
    with Forked(train_net, words, tmp_path, before) as run:
        assert run.status() == 0, run.printed
    assert (tmp_path / "run" / "model_final.pth").is_file()
    assert "takes longer" not in run.printed
