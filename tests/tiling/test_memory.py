"""What a large image takes: the whole command line, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as mask_util

from ..conftest import ROOT, eager_to_find, tiny_cfg, tiny_model

MIB = 2**20
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
    assert len(results) > 1000
    assert {tuple(one["segmentation"]["size"]) for one in results} == {(10_000, 10_000)}
    assert mask_util.area(results[0]["segmentation"]) > 0
    with Image.open(tmp_path / "out" / "large.png") as drawn:
        assert drawn.size == (10_000, 10_000)
