"""Peak memory of SOLO's masks in a training step and in inference, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# The published grids, 3,872 cells, at 800x1344, over narrow features: it is the masks that count.
SCRIPT = """
import json, sys
import torch
from tests.conftest import eager_to_find, picture, tiny_model

mode = sys.argv[1]
model = tiny_model("SOLO", opts=["MODEL.SOLO.NUM_GRIDS", [40, 36, 24, 16, 12]])
padded = (800, 1344)
strides = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
torch.manual_seed(0)
features = {
    name: torch.randn(1, 16, -(-padded[0] // s), -(-padded[1] // s), requires_grad=True)
    for name, s in strides.items()
}
gt = picture(*padded, objects=20)["instances"]

def status(key):
    # VmHWM is what getrusage calls ru_maxrss, but of this program alone.
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024

eager_to_find(model)
before = status("VmRSS")
if mode == "training":
    targets = model.train().prepare_targets([gt], padded)
    sum(model.losses(features, targets, padded).values()).backward()
elif mode == "inference":
    with torch.no_grad():
        results = model.predict(features, padded, [padded], [padded])
    assert len(results[0]["instances"]) > 0
elif mode == "straightforward":  # all masks of all levels, at their own resolution only
    with torch.no_grad():
        maps = model.run_head(features, padded).mask_features
        masks = [conv(level) for conv, level in zip(model.head.mask_predictors, maps)]
else:  # all masks of all levels, at stride 4, as the official code has them in inference
    with torch.no_grad():
        maps = model.run_head(features, padded).mask_features
        masks = [
            torch.nn.functional.interpolate(conv(level).sigmoid(), (200, 336), mode="bilinear")
            for conv, level in zip(model.head.mask_predictors, maps)
        ]
print(json.dumps(status("VmHWM") - before))
"""


def peak(mode: str) -> int:
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, mode], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="measures memory through /proc")
@pytest.mark.parametrize(
    ("mode", "bound", "straightforward"),
    [("training", 500e6, "straightforward"), ("inference", 400e6, "straightforward at stride 4")],
)
def test_masks_of_all_cells_are_never_in_memory(
    mode: str, bound: float, straightforward: str
) -> None:
    assert peak(mode) < bound < peak(straightforward)
