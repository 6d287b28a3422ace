"""Peak memory of MaskFormer, measured in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = """
import json, sys
import torch
from solo_family.methods.mask_former.inference import Inference
from solo_family.ops.resize import ResizedMasks

modes = json.loads(sys.argv[1])
N, K, size = 100, 150, (1024, 2048)

def status(key):
    # VmHWM is what getrusage calls ru_maxrss, but of this program alone.
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024

inference = Inference(
    **modes, hard_assignment=False, resize_first=True, stuff_classes=tuple(range(100, 150)),
    object_threshold=0.0, overlap_threshold=0.0, max_instances=100, instance_threshold=0.0,
)
generator = torch.Generator().manual_seed(0)
class_logits = torch.randn(N, K + 1, generator=generator)
logits = torch.randn(N, 256, 512, generator=generator)
class_logits[:, K] = -9  # all 100 masks take part
before = status("VmRSS")
masks = ResizedMasks(logits, size, size, size)
result = inference.of_scores(inference.score(class_logits[None]), [masks])[0]
returned = 0
if "sem_seg" in result:
    returned += result["sem_seg"].numel() * 4
if "panoptic_seg" in result:
    returned += result["panoptic_seg"][0].numel() * 4
    assert len(result["panoptic_seg"][1]) > 10
if "instances" in result:
    returned += result["instances"].pred_masks.numel()
print(json.dumps(status("VmHWM") - before - returned))
"""

# Forward and backward pass of the losses: 6 layers, 2 crops of 512x512, 6 objects in each.
TRAINING = """
import sys
import torch
from solo_family.methods.mask_former import losses as mask_classification
from solo_family.methods.mask_former.point_mask_losses import PointSampler
from solo_family.modeling.set_criterion import SetCriterion
from solo_family.modeling.set_predictions import (
    LayeredPredictions,
    SetPredictions,
    SetTargets,
)
from solo_family.modeling.matching_costs import mask_former_cost

def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024

points = PointSampler(12544, 3.0, 0.75) if sys.argv[1] == "points" else None
if sys.argv[1] == "at once":
    mask_classification._PIXELS_AT_ONCE["cpu"] = 2**40
layers = [
    SetPredictions(
        torch.randn(2, 100, 151, requires_grad=True),
        torch.randn(2, 100, 128, 128, requires_grad=True),
    )
    for _ in range(6)
]
targets = SetTargets.join(
    [torch.randint(150, (6,)) for _ in range(2)],
    [torch.rand(6, 512, 512) > 0.7 for _ in range(2)],
)
criterion = SetCriterion(
    cost=mask_former_cost,
    losses=mask_classification.MaskClassificationLosses(
        num_classes=150, no_object_weight=0.1, points=points
    ),
    weights={"loss_ce": 1.0, "loss_mask": 20.0, "loss_dice": 1.0},
    count_key="",
)
before = status("VmRSS")
sum(criterion(LayeredPredictions.stack(layers), targets).values()).backward()
print(status("VmHWM") - before)
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="measures memory through /proc"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "modes",
    [
        {"panoptic": True, "semantic": False, "instance": False},
        {"panoptic": True, "semantic": True, "instance": False},
        {"panoptic": True, "semantic": False, "instance": True},
    ],
    ids=["panoptic", "panoptic and semantic", "panoptic and instance"],
)
def test_panoptic_of_a_large_image_needs_less_than_a_gigabyte(modes: dict[str, bool]) -> None:
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(modes)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    # The 100 masks as float maps would be 839 MB alone, and so would be their probabilities.
    assert json.loads(process.stdout) < 500e6


def training_peak(mode: str) -> int:
    process = subprocess.run(
        [sys.executable, "-c", TRAINING, mode],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.slow
def test_training_needs_no_map_of_every_matched_mask() -> None:
    at_once = training_peak("at once")
    for mode in ("in parts", "points"):
        assert training_peak(mode) < 300e6 < at_once
