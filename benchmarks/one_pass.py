"""Peak memory of one pass over a picture of which a SOLOv2 keeps any number of objects.

    python -m benchmarks.one_pass --objects 2000 --side 1440

An untrained SOLOv2 (configs/quickstart/solov2.yaml), whose head's predictions are replaced by discs
that do not overlap, one in each cell of a grid: all are kept. The picture goes through the whole
model, and its instances become COCO results. Memory is the peak of the process beyond what it had
with the model built and one picture predicted, for the picture with objects and for one of which
none is kept; CPU seconds are those of the first. `--bools` returns bools of any size.
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from detectron2.modeling import build_model
from tabulate import tabulate
from torch import Tensor

from solo_family.config import get_cfg
from solo_family.evaluation.instance_results import instance_results
from solo_family.methods.solov2.model import SOLOv2Outputs

from .tiles import ROOT, memory_mib

STRIDE = 4


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--side", type=int, default=1440, help="of the picture, in pixels")
    parser.add_argument("--bools", action="store_true", help="whatever their size")
    args = parser.parse_args()
    if args.bools:
        from solo_family.ops import run_masks

        run_masks.DENSE_BYTES = 2**60
    print(tabulate([measure(args.objects, args.side)], headers="keys", floatfmt=".1f"))


def measure(objects: int, side: int) -> dict[str, Any]:
    """Return the number of instances, the memory and the seconds of a picture.

    Args:
        objects: how many discs there are.
        side: of the picture, in pixels; a multiple of 32.
    """
    cells = math.ceil(math.sqrt(objects))
    cfg = get_cfg()
    cfg.merge_from_file(str(ROOT / "configs/quickstart/solov2.yaml"))
    cfg.MODEL.SOLOV2.NUM_GRIDS, cfg.MODEL.SOLOV2.NUM_CLASSES = [cells, 1, 1, 1, 1], 1
    cfg.MODEL.SOLOV2.NMS_PRE = cfg.TEST.DETECTIONS_PER_IMAGE = objects
    cfg.MODEL.TIMM.WEIGHTS, cfg.MODEL.DEVICE = "", "cpu"
    model: Any = build_model(cfg).eval()
    picture = {"image": torch.zeros(3, side, side), "height": side, "width": side}
    channels = model.head.kernel_predictor.out_channels
    classes = model.head.category_branch.logits.out_channels
    model.predict_cells = discs(0, cells, side, channels, classes)
    found: dict[str, Any] = {}
    with torch.no_grad():
        model([picture])
        for name, count in (("MiB, none kept", 0), ("MiB, all kept", objects)):
            model.predict_cells = discs(count, cells, side, channels, classes)
            Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
            before, start = memory_mib("VmRSS"), time.process_time()
            instances = model([picture])[0]["instances"]
            results = instance_results(instances, 1)
            found[name] = memory_mib("VmHWM") - before
            seconds = time.process_time() - start
    kind = type(instances.pred_masks).__name__
    return {"kept": len(results), "masks": kind, **found, "CPU seconds": seconds}


def discs(
    objects: int, cells: int, side: int, channels: int, classes: int
) -> Callable[..., SOLOv2Outputs]:
    """Return a head whose masks are discs in the first cells of the first level.

    With the features (1, x, y, x^2 + y^2) a product with a kernel is the squared radius less the
    squared distance from the disc's centre.
    """
    length = side // STRIDE
    ys, xs = torch.meshgrid(torch.arange(length), torch.arange(length), indexing="ij")
    features = torch.zeros(1, channels, length, length)
    features[0, :4] = torch.stack([torch.ones_like(xs), xs, ys, xs**2 + ys**2]).float()
    total = cells * cells + 4
    y, x = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
    y, x = ((place.flatten() + 0.5) * length / cells for place in (y, x))
    radius = torch.full_like(x, 0.35 * length / cells)
    kernels = torch.zeros(1, total, channels)
    parts = [radius**2 - x**2 - y**2, 2 * x, 2 * y, -torch.ones_like(x)]
    kernels[0, : cells * cells, :4] = 3 * torch.stack(parts, dim=1)
    scores = torch.full((classes, cells * cells), -9.0)
    scores[0, :objects] = 2.0  # equal, since point NMS drops cells beside better ones
    first = scores.reshape(1, classes, cells, cells)

    def predict(levels: list[Tensor], _: dict[str, Tensor]) -> SOLOv2Outputs:
        others = [torch.full((1, classes, 1, 1), -9.0) for _ in levels[1:]]
        return SOLOv2Outputs([first, *others], kernels, features)

    return predict


if __name__ == "__main__":
    main()
