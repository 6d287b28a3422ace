"""What `benchmarks.ratios` measures: other ways to a result, and ours.

N masks of H x W pixels.
"""

from __future__ import annotations

import copy
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import torch
from torch import Tensor

from .ratios import Pair, cpu_seconds

_SIZE = (100, 168)


def use_one_thread() -> None:
    """Let numpy's, torch's and OpenCV's work be done in this thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def matrix_nms_of_the_paper(
    masks: Tensor, labels: Tensor, scores: Tensor, sigma: float = 2.0
) -> Tensor:
    """Return decayed scores: the pseudo code of SOLOv2 (arXiv 2003.10152, Fig. 8), for classes.

    Args:
        masks: bool [N, H, W], by descending score.
        labels: int64 [N].
        scores: [N].
        sigma: of the Gaussian.
    """
    flat = masks.flatten(1).float()
    intersection = flat @ flat.T
    areas = flat.sum(1)
    union = areas[:, None] + areas[None] - intersection
    same = labels[:, None] == labels[None]
    ious = (intersection / union * same).triu(diagonal=1)
    largest = ious.max(0).values[:, None].expand_as(ious)
    decay = (-sigma * (ious**2 - largest**2)).exp().min(0).values
    return scores * decay


def matrix_nms(count: int, classes: int, _: Path) -> Pair:
    """Rectangles of all sizes, against the paper's pseudo code."""
    from solo_family.ops.matrix_nms import matrix_nms_decay

    generator = torch.Generator().manual_seed(0)
    corners = torch.rand((count, 2, 2), generator=generator) * torch.tensor(_SIZE)
    low, high = corners.amin(1), corners.amax(1) + 2
    rows, columns = torch.arange(_SIZE[0]), torch.arange(_SIZE[1])
    in_rows = (rows >= low[:, :1]) & (rows < high[:, :1])
    in_columns = (columns >= low[:, 1:]) & (columns < high[:, 1:])
    masks = in_rows[:, :, None] & in_columns[:, None]
    labels = torch.randint(0, classes, (count,), generator=generator)
    scores = torch.rand(count, generator=generator).sort(descending=True).values

    def theirs() -> Tensor:
        return matrix_nms_of_the_paper(masks, labels, scores)

    def ours() -> Tensor:
        return matrix_nms_decay(masks, labels, scores, "gaussian", 2.0, False)[1]

    if not torch.allclose(theirs().sort().values, ours().sort().values, atol=1e-6):
        raise RuntimeError("The scores are not the same.")
    return Pair(cpu_seconds(theirs), cpu_seconds(ours))


def imports(statement: str, _: Path) -> Pair:
    """What a new process takes for `import torch`, against another statement."""
    return Pair(partial(_import, "import torch"), partial(_import, statement))


def _import(statement: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def mapper(folder: Path) -> Pair:
    """Both mappers on the shapes, with the quick start's augmentation and bit masks."""
    from solo_family.cli.quickstart import dataset_opts
    from solo_family.config import setup_cfg
    from solo_family.data.formats.synthetic import make_shapes
    from solo_family.model_zoo import get_config_file

    from .mapper import of_dataset

    shapes = make_shapes(folder / "shapes", num_train=24, num_val=1)
    cfg = setup_cfg(get_config_file("quickstart/solov2.yaml"), dataset_opts("instance", shapes))
    return of_dataset(cfg, 24)


def evaluation(images: int, folder: Path) -> Pair:
    """COCO's metrics of masks: detectron2's evaluator with pycocotools, against ours."""
    from .evaluation import EVALUATOR, drawn

    return drawn(images, folder).pairs()[EVALUATOR]


def convolution(channels: int, height: int, width: int, _: Path) -> Pair:
    """A 3 x 3 convolution of a model prepared for inference, against torch's own."""
    from torch import nn

    from solo_family.modeling.packed_conv import PackedConv2d

    torch.manual_seed(0)
    conv = nn.Conv2d(channels, channels, 3, padding=1).requires_grad_(False)
    conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    packed = PackedConv2d.take(copy.deepcopy(conv))
    x = torch.randn(1, channels, height, width).contiguous(memory_format=torch.channels_last)
    if not torch.allclose(conv(x), packed(x), rtol=1e-4, atol=1e-4):
        raise RuntimeError("The results are not the same.")
    # As in inference: with gradients there are no tiles.
    without = torch.no_grad()
    return Pair(cpu_seconds(without(lambda: conv(x))), cpu_seconds(without(lambda: packed(x))))


PAIRS: dict[str, Callable[[Path], Pair]] = {
    "matrix NMS, 500 masks, 1 class": partial(matrix_nms, 500, 1),
    "matrix NMS, 500 masks, 80 classes": partial(matrix_nms, 500, 80),
    "matrix NMS, 2000 masks, 1 class": partial(matrix_nms, 2000, 1),
    "import solo_family, torch": partial(imports, "import solo_family, torch"),
    "import get_cfg": partial(imports, "from solo_family import get_cfg; get_cfg()"),
    "import the training": partial(imports, "import solo_family.engine.main"),
    "convolution, 256 channels, 50 x 68": partial(convolution, 256, 50, 68),
    "convolution, 512 channels, 25 x 34": partial(convolution, 512, 25, 34),
    "mapper": mapper,
    "evaluation of masks": partial(evaluation, 200),
}
