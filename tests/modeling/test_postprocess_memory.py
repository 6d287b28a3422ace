"""Peak memory of post-processing a crowded image, measured in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# First 5,000 cells of one class, all above the score threshold. Their kernels are discs: with the
# features (1, x, y, x^2 + y^2), a product is the squared radius less the squared distance.
SCRIPT = """
import json, sys
import torch
from solo_family.ops import dynamic_conv
from solo_family.modeling.instances import make_instances
from solo_family.ops.resize import resize_masks
from solo_family.methods.grid.mask_decoder import Grid, MaskDecoder
from solo_family.methods.grid.selection import Selection, Selector, select_in_chunks

padded, image, output, limit = json.loads(sys.argv[1])
C, E, (h, w) = 5000, 16, (padded[0] // 4, padded[1] // 4)
generator = torch.Generator().manual_seed(0)
ys, xs = torch.meshgrid(torch.arange(h) / h, torch.arange(w) / h, indexing="ij")
features = torch.zeros((E, h, w))
features[:4] = torch.stack([torch.ones_like(xs), xs, ys, xs**2 + ys**2])
x, y = torch.rand(C, generator=generator) * w / h, torch.rand(C, generator=generator)
r = 0.02 + 0.04 * torch.rand(C, generator=generator)
kernels = torch.zeros((C, E))
kernels[:, :4] = 3e3 * torch.stack([r**2 - x**2 - y**2, 2 * x, 2 * y, -torch.ones(C)], dim=1)
scores = 0.2 + 0.7 * torch.rand((C, 1), generator=generator)
strides = torch.full((C,), 8)
assert (scores > 0.1).sum() == C

def decode(cells):
    return dynamic_conv(kernels[cells], features).sigmoid_()

class Discs(MaskDecoder):
    def soft(self, outputs, size, cells, counts=None):
        return decode(cells)

def status(key):
    # VmHWM is what getrusage calls ru_maxrss, but of this program alone: ru_maxrss of a child
    # process begins at the memory of the pytest process that started it.
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024

before = status("VmRSS")
selection = Selection(Selector(), Discs(), Grid(strides, torch.tensor([C])))
kept, classes, masks = select_in_chunks(selection, None, scores, (h, w))
masks = resize_masks(masks[:], tuple(padded), tuple(image), tuple(output), 0.5)
instances = make_instances(masks, kept, classes)
print(json.dumps([len(instances), status("VmHWM") - before - masks.numel()]))
del masks, instances

# The straightforward way: only the first step of the official order, in its most sparing form (no
# copy of the logits), and only for `limit` of the candidates. Thresholding them, NMS at once and
# resizing at once come on top of this. The peak only grows, so this one is larger than the one
# above if it is larger than the bound that holds above.
masks = decode(torch.arange(C)[:limit])
print(json.dumps([len(masks), status("VmHWM") - before]))
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="measures memory through /proc"
)


def assert_bounded(
    padded: tuple[int, int],
    image: tuple[int, int],
    output: tuple[int, int],
    *,
    bound: float,
    limit: int,
) -> None:
    """Checks that the peak beyond memory before and returned masks is within `bound` bytes.

    And that `limit` of the 5,000 candidates are too many for it in the straightforward way.
    """
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps([padded, image, output, limit])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stderr
    (count, peak), (decoded, straightforward) = map(json.loads, process.stdout.splitlines()[-2:])
    assert (count, decoded) == (100, limit)
    assert peak < bound
    assert straightforward > bound


@pytest.mark.slow
def test_memory_of_a_crowded_image_is_bounded() -> None:
    assert_bounded((800, 1344), (800, 1333), (600, 1000), bound=300e6, limit=2000)


@pytest.mark.slow
def test_memory_of_a_crowded_large_image_is_bounded() -> None:
    assert_bounded((2016, 3008), (2000, 3000), (2000, 3000), bound=500e6, limit=600)
