"""Peak memory of SparseInst's targets and of its inference, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# 100 masks over narrow features: it is the masks that count.
SCRIPT = """
import json, sys
import torch
import torch.nn.functional as F
from solo_family.methods.sparse_inst import model as sparse_inst
from solo_family.ops import resize
from tests.conftest import eager_to_find, picture, tiny_model

mode, way = sys.argv[1:]
keys = ["MODEL.SPARSE_INST.DECODER.NUM_MASKS", 100, "MODEL.STUFF_IDS", [1, 2]]
keys += ["MODEL.SPARSE_INST.PANOPTIC_ON", mode == "panoptic"]
keys += ["MODEL.SPARSE_INST.OBJECT_MASK_THRESHOLD", 0.0, "MODEL.SPARSE_INST.CLS_THRESHOLD", 0.0]
model = eager_to_find(tiny_model("SparseInst", opts=keys))
if way == "straightforward":
    # All masks resized together; true masks as float maps of the input, which are then shrunk.
    resize._CHUNK_BYTES = 2**40
    resize.ResizedMasks.by_rows = False
    sparse_inst.downsample_soft_masks = lambda images, padded, stride: F.interpolate(
        images[0][None].float(), scale_factor=1 / stride, mode="bilinear"
    )[0]
padded = (800, 1344) if mode == "targets" else (1024, 2048)
torch.manual_seed(0)
features = {
    name: torch.randn(1, channels, padded[0] // s, padded[1] // s, requires_grad=True)
    for name, channels, s in (("res3", 32, 8), ("res4", 64, 16), ("res5", 128, 32))
}
gt = picture(*padded, objects=100)["instances"] if mode == "targets" else None

def status(key):
    # VmHWM is what getrusage calls ru_maxrss, but of this program alone.
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024

before = status("VmRSS")
if mode == "targets":
    targets = model.train().prepare_targets([gt], padded)
else:
    with torch.no_grad():
        result = model.predict(features, padded, [padded], [padded])[0]
    if mode == "panoptic":
        assert len(result["panoptic_seg"][1]) > 0
    else:
        assert len(result["instances"]) == 100
print(json.dumps(status("VmHWM") - before))
"""


def peak(mode: str, way: str = "ours") -> int:
    command = [sys.executable, "-c", SCRIPT, mode, way]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="measures memory through /proc")
@pytest.mark.parametrize(
    ("mode", "bound"), [("targets", 150e6), ("inference", 600e6), ("panoptic", 600e6)]
)
def test_masks_of_the_whole_image_are_in_memory_a_few_at_a_time(mode: str, bound: float) -> None:
    assert peak(mode) < bound < peak(mode, "straightforward")
