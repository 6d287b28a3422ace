"""What a large image takes: the whole command line, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Instances
from PIL import Image
from pycocotools import mask as mask_util

from solo_family.ops.window import Window
from solo_family.tiling.predict import PredictTiles, predict_by_tiles
from solo_family.tiling.tiles import Tiling

from ..conftest import ROOT, eager_to_find, tiny_cfg, tiny_model

# Prints the process's peak of resident memory in MiB before a picture, and after it.
SCRIPT = """
import resource, sys
from solo_family.__main__ import main

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

config, small, large, output, json_file = sys.argv[1:]
tile = ["--confidence-threshold", "0", "--tile", "1024", "64"]
assert main(["demo", "--config-file", config, "--input", small, "--output", output, *tile]) == 0
before = peak()
words = ["demo", "--config-file", config, "--input", large, "--output", output, *tile]
assert main([*words, "--json", json_file]) == 0
print("PEAK", before, peak())
"""


def write_large(path: Path, height: int, width: int) -> None:
    """Write noise with bright squares, some rows at a time."""
    random = np.random.default_rng(0)
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (height, width, 3))
    for top in range(0, height, 500):
        rows = random.integers(0, 80, (500, width, 3), dtype=np.uint8)
        for left in range(0, width - 200, 400):
            rows[100:250, left : left + 200] += 150
        array[top : top + 500] = rows
    array.flush()


@pytest.mark.slow
def test_ten_thousand_pixels_a_side_take_less_than_four_gigabytes(tmp_path: Path) -> None:
    """Beyond the model and a small picture: with the picture itself, 0.3 GB, and its drawing."""
    weights = tmp_path / "model.pth"
    keys = ["INPUT.MIN_SIZE_TEST", 128, "MODEL.WEIGHTS", str(weights)]
    torch.save({"model": eager_to_find(tiny_model(), True).state_dict()}, weights)
    (tmp_path / "config.yaml").write_text(tiny_cfg(opts=keys).dump())
    write_large(tmp_path / "large.npy", 10_000, 10_000)
    write_large(tmp_path / "small.npy", 1000, 1500)
    words = [tmp_path / name for name in ("config.yaml", "small.npy", "large.npy", "out", "x.json")]
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    before, after = map(int, process.stdout.split("PEAK ")[1].split())
    print(f"{before} MiB with a small picture, {after} MiB with the large one")
    assert after - before < 4096
    results = json.loads((tmp_path / "x.json").read_text())
    assert len(results) > 100
    assert {tuple(one["segmentation"]["size"]) for one in results} == {(10_000, 10_000)}
    assert mask_util.area(results[0]["segmentation"]) > 0
    with Image.open(tmp_path / "out" / "large.png") as drawn:
        assert drawn.size == (10_000, 10_000)


class Pattern:
    """An image without pixels, of any size."""

    def __init__(self, side: int) -> None:
        self.size = (side, side)

    def read(self, window: Window) -> np.ndarray:
        return np.zeros((*window.size, 3), np.uint8)


def finder(size: int) -> PredictTiles:
    """Return a model that finds a disc in the middle of each tile of this size."""
    rows, columns = np.mgrid[:size, :size] - size // 2
    disc = torch.from_numpy(rows**2 + columns**2 < (size // 4) ** 2)[None]
    scores, classes = torch.ones(1), torch.zeros(1, dtype=torch.int64)

    def predict(tiles: list[np.ndarray]) -> list[dict]:
        found = Instances((size, size), pred_masks=disc, scores=scores, pred_classes=classes)
        return [{"instances": found} for _ in tiles]

    return predict


def memory_mib(what: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
def test_no_mask_of_the_whole_image_is_made() -> None:
    """One of them would take 34 MiB, and there are 121."""
    predict, tiling = finder(600), Tiling(600, 20)
    predict_by_tiles(predict, Pattern(1_200), tiling)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = memory_mib("VmRSS")
    found = predict_by_tiles(predict, Pattern(6_000), tiling).predictions["instances"]
    rles = found.pred_masks.rles()
    assert memory_mib("VmHWM") - before < 34
    assert len(found) == len(rles) == 121
    area = int(predict([np.zeros(0)])[0]["instances"].pred_masks.sum())
    assert mask_util.area(rles).tolist() == [area] * 121
