"""What `solo_family.ops` offers: functions, that need torch alone and say what doesn't agree."""

import ast
import subprocess
import sys
from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from solo_family import ops
from solo_family.ops import (
    decode_masks,
    dynamic_conv,
    fast_nms,
    mask_boxes,
    mask_iou,
    mask_nms,
    matrix_nms,
    pack_masks,
    point_nms,
    soft_nms,
    unpack_masks,
)

FOLDER = Path(ops.__path__[0])

# A process in which the package's folder is one of modules alone, and nothing else can be imported.
ALONE = """
import sys, types
from importlib import import_module
from pathlib import Path
folder = Path(sys.argv[1])
package = types.ModuleType("solo_family")
package.__path__ = [str(folder.parent)]
sys.modules["solo_family"] = package
for name in ("detectron2", "timm", "scipy", "cv2", "torchvision", "triton", "pycocotools"):
    sys.modules[name] = None
import torch
before = set(sys.modules)
import solo_family.ops.matrix_nms
imported = {name.split(".")[0] for name in set(sys.modules) - before}
assert imported <= {"solo_family", "torch"}, imported
assert not any(name.startswith(("torch._dynamo", "sympy")) for name in set(sys.modules) - before)
for path in folder.glob("*.py"):
    if not path.stem.endswith("_triton"):
        import_module(f"solo_family.ops.{path.stem}")
from solo_family import ops
for name in ops.__all__:
    assert callable(getattr(ops, name)), name
from solo_family.ops import *
masks = torch.rand(4, 6, 8, generator=torch.Generator().manual_seed(0)) > 0.5
labels, scores = torch.zeros(4, dtype=torch.int64), torch.tensor([0.9, 0.8, 0.7, 0.6])
for nms in (matrix_nms, mask_nms, fast_nms, soft_nms):
    assert nms(masks, labels, scores)[0][0] == 0
assert mask_iou(masks).diagonal().tolist() == [1] * 4
packed = pack_masks(masks)
assert torch.equal(unpack_masks(packed.words, (6, 8)), masks)
assert matrix_nms(packed.words, labels, scores)[0][0] == 0
assert decode_masks(torch.ones(2, 3), torch.ones(3, 4, 5), 0.5).areas.tolist() == [20, 20]
assert dynamic_conv(torch.ones(2, 3), torch.ones(3, 4, 5)).shape == (2, 4, 5)
sizes = (12, 16), (12, 16), (6, 8)
resized, boxes = resize_masks_with_boxes(masks.float(), *sizes, 0.5)
assert torch.equal(resized, masks) and torch.equal(boxes, mask_boxes(masks))
assert point_nms(torch.ones(1, 1, 2, 2)).sum() == 4
assert run_lengths(masks)[0].sum() == masks.numel()
"""


@pytest.mark.slow
def test_it_needs_torch_alone_and_gives_functions() -> None:
    words = [sys.executable, "-c", ALONE, str(FOLDER)]
    process = subprocess.run(words, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_imports_run_one_way() -> None:
    """And within a function only what a machine may lack: Triton's kernels, CUDA's bindings."""
    needs: dict[str, set[str]] = {}
    for path in FOLDER.glob("*.py"):
        tree = ast.parse(path.read_text())
        needs[path.stem] = set()
        for node in ast.walk(tree):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            is_ours = isinstance(node, ast.ImportFrom) and node.level == 1
            module = getattr(node, "module", None)
            names = [module] if module else [name.name for name in node.names]
            if is_ours:
                needs[path.stem].update(names)
            if node not in tree.body:
                names = [name.split(".")[0] for name in names]
                assert all(name.endswith(("triton", "cuda")) for name in names), (path, names)
    # Raises CycleError.
    list(TopologicalSorter(needs).static_order())


MASKS = torch.zeros(10, 4, 4, dtype=torch.bool)
LABELS, SCORES = torch.zeros(10, dtype=torch.int64), torch.zeros(10)
KERNELS, FEATURES = torch.zeros(2, 3), torch.zeros(3, 4, 4)
ELSEWHERE = torch.device("meta")

# What all four take, and what of it doesn't agree.
CANDIDATES: dict[str, tuple[tuple[Tensor, Tensor, Tensor], str]] = {
    "too few scores": ((MASKS, LABELS, SCORES[:5]), "10 masks, 10 labels and 5 scores"),
    "too few labels": ((MASKS, LABELS[:9], SCORES), "10 masks, 9 labels and 10 scores"),
    "too few masks": ((MASKS[:3], LABELS, SCORES), "3 masks, 10 labels and 10 scores"),
    "scores by class": ((MASKS, LABELS, SCORES[:, None]), r"10 labels and \(10, 1\) scores"),
    "labels on a device of their own": (
        (MASKS, LABELS.to(ELSEWHERE), SCORES),
        "on cpu, meta and cpu",
    ),
    "labels that are probabilities": ((MASKS, SCORES, SCORES), "labels must be integers.*float32"),
    "scores that are integers": ((MASKS, LABELS, LABELS), "scores floating-point.*int64"),
    "a mask of a batch": ((MASKS[None].expand(10, -1, -1, -1), LABELS, SCORES), r"\[N, h, w\]"),
    "integer masks": ((MASKS.long(), LABELS, SCORES), "masks must be bool.*int64"),
}


ALL_NMS = (matrix_nms, mask_nms, fast_nms, soft_nms)
# One operator of torch's infers shapes alone where a tensor has no values, as on "meta".
PAIRS = [
    (nms, name)
    for nms in ALL_NMS
    for name, (candidates, _) in CANDIDATES.items()
    if nms is not matrix_nms or not any(part.is_meta for part in candidates)
]


@pytest.mark.parametrize(("nms", "name"), PAIRS)
def test_candidates_that_do_not_agree(nms: Callable[..., Any], name: str) -> None:
    candidates, message = CANDIDATES[name]
    with pytest.raises(ValueError, match=message):
        nms(*candidates)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "IoU on two devices": (
        lambda: mask_iou(MASKS, MASKS.to(ELSEWHERE)),
        "on one device, but are on cpu and meta",
    ),
    "IoU of one mask": (lambda: mask_iou(MASKS[0]), r"\[N, h, w\].*\(4, 4\)"),
    "boxes of one mask": (lambda: mask_boxes(MASKS[0]), r"\[N, h, w\].*\(4, 4\)"),
    "boxes of probabilities": (lambda: mask_boxes(MASKS.float()), "must be bool.*float32"),
    "kernels of other channels": (
        lambda: dynamic_conv(KERNELS, FEATURES[:2]),
        r"kernels \(2, 3\) and mask features \(2, 4, 4\)",
    ),
    "kernels of one image for a batch": (
        lambda: dynamic_conv(KERNELS, FEATURES[None]),
        r"\(1, 3, 4, 4\)",
    ),
    "kernels of another batch": (
        lambda: dynamic_conv(KERNELS[None], FEATURES[None].expand(2, -1, -1, -1)),
        r"\(1, 2, 3\).*\(2, 3, 4, 4\)",
    ),
    "kernels elsewhere": (
        lambda: dynamic_conv(KERNELS.to(ELSEWHERE), FEATURES),
        "are on meta and cpu",
    ),
    "rows that are flags": (
        lambda: decode_masks(KERNELS, FEATURES, 0.5, rows=torch.tensor([True, False])),
        "rows must be int64.*bool",
    ),
    "several numbers of valid masks": (
        lambda: decode_masks(KERNELS, FEATURES, 0.5, valid=torch.tensor([1, 2])),
        r"valid must be one.*\(2,\)",
    ),
    "words of another size": (
        lambda: unpack_masks(pack_masks(MASKS).words, (8, 8)),
        r"\(8, 8\) must be int32 \[N, 2\].*\(10, 1\)",
    ),
    "scores of one image": (lambda: point_nms(torch.ones(2, 3, 3)), r"\(2, 3, 3\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    run, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        run()
