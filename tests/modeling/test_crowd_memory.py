"""Peak memory of all that follows a network against the number of objects, in another process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FEW, MANY = 500, 5000

# Discs of 64 x 64 pixels, so that what grows with pairs of masks outweighs what grows with masks.
SCRIPT = """
import gc, json, sys
import torch
from solo_family.evaluation.instance_results import instance_results
from solo_family.methods.mask_former.inference import Inference
from solo_family.methods.sparse_inst.selection import SetSelector
from solo_family.modeling.instances import make_instances
from solo_family.modeling.set_predictions import SetPredictions
from solo_family.methods.instance_fcn.paste_separably import paste_separably
from solo_family.ops import fast_nms, mask_nms, pack_masks, soft_nms
from solo_family.ops.compact import resize_compactly
from solo_family.ops.matrix_nms import matrix_nms_decay
from solo_family.ops.resize import ResizedMasks, resize_masks_with_boxes

SIDE, SIZES = 64, ((256, 256),) * 3


def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024


def peak(part):
    gc.collect()
    open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
    before = status("VmRSS")
    part()
    return status("VmHWM") - before


def parts(count):
    generator = torch.Generator().manual_seed(0)
    ys, xs = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    y, x = torch.rand(2, count, 1, 1, generator=generator) * SIDE
    masks = (ys - y) ** 2 + (xs - x) ** 2 < 9
    scores = torch.rand(count, generator=generator).sort(descending=True).values
    classes = torch.zeros(count, dtype=torch.long)
    words, soft = pack_masks(masks.float(), 0.5).words, masks.float()
    logits = 10 * soft - 5
    limits = {"pre_nms": count, "post_nms": count}
    yield "matrix", lambda: matrix_nms_decay(words, classes, scores, "gaussian", 2.0, False)
    for nms in (mask_nms, soft_nms, fast_nms):
        yield nms.__name__, lambda: nms(masks, classes, scores, **limits)
    predictions = SetPredictions(torch.ones(1, count, 1), logits[None], torch.ones(1, count))
    for kind in ("", "matrix"):
        selector = SetSelector(max_detections=count, nms=kind)
        yield f"SparseInst {kind}", lambda: selector.rank(predictions).best(0, count)
    yield "resize", lambda: resize_masks_with_boxes(soft, *SIZES, 0.5)
    binary, boxes = resize_masks_with_boxes(soft, *SIZES, 0.5)
    instances = make_instances(binary, scores, classes, boxes)
    yield "encode", lambda: instance_results(instances, 1)
    yield "compact", lambda: instance_results(
        make_instances(resize_compactly(soft, *SIZES, 0.5)[0], scores, classes), 1
    )
    corners = 4 * torch.cat([x, y], dim=1).flatten(1)
    windows = torch.cat([corners - 30, corners + 30], dim=1)
    yield "InstanceFCN", lambda: paste_separably(soft[:, :21, :21], windows, SIZES[0], 0.5)
    class_logits = torch.tensor([3.0, 0.0]).expand(1, count, 2)
    for panoptic in (False, True):
        inference = Inference(
            semantic=False, panoptic=panoptic, instance=not panoptic, hard_assignment=False,
            resize_first=True, stuff_classes=(), object_threshold=0, overlap_threshold=0,
            max_instances=count, instance_threshold=0.0,
        )
        resized = [ResizedMasks(logits, *SIZES)]
        scored = inference.score(class_logits)
        yield f"MaskFormer {panoptic}", lambda: inference.of_scores(scored, resized)


for count in map(int, sys.argv[1:]):
    print(json.dumps({name: peak(part) for name, part in parts(count)}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="resets the peak")
def test_nothing_grows_faster_than_the_objects_but_one_integer_per_pair() -> None:
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(FEW), str(MANY)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    few, many = map(json.loads, process.stdout.splitlines())
    pairs, slack = 4 * MANY**2, 64e6
    for name in ("matrix", "mask_nms", "soft_nms", "fast_nms", "SparseInst matrix"):
        # The masks themselves, as bytes and as probabilities, are linear.
        assert many[name] < pairs + slack + 5 * 64 * 64 * MANY, name
    for name in ("SparseInst ", "resize", "encode", "MaskFormer False", "MaskFormer True"):
        assert many[name] < MANY / FEW * few[name] + slack + 256 * 256 * MANY, name
    # What ends in results has the masks as bools only where these are small enough.
    for name in ("compact", "InstanceFCN", "MaskFormer False"):
        assert many[name] < 0.6 * 256 * 256 * MANY, name
