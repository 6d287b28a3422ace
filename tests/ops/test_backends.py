"""torch, numpy and Triton's kernels say the same of random masks: ties, duplicates, empty, none.

Triton's kernels run compiled where there is a GPU, and else in Triton's interpreter.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from onnxruntime import InferenceSession
from torch import Tensor, nn

from solo_family.export import masks as in_numpy
from solo_family.export import panoptic as panoptic_in_numpy
from solo_family.export.formats import OPSET, quiet
from solo_family.modeling.panoptic import assign_segments, number_segments
from solo_family.modeling.transfer import to_host
from solo_family.ops import mask_boxes, mask_iou, pack_masks
from solo_family.ops.matrix_nms import matrix_nms_decay
from solo_family.ops.matrix_nms_torch import (
    decay_all_pairs,
    decay_by_class,
    decay_factors,
    matrix_nms_plain,
)
from solo_family.ops.matrix_nms_triton import decay_by_class_triton
from solo_family.ops.packing_triton import pack_masks_triton
from solo_family.ops.resize_masks_triton import resize_masks_triton

from ..versions import interpreted

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Scene(NamedTuple):
    """Masks by descending score.

    Attributes:
        masks: bool [N, h, w].
        scores: float32 [N].
        classes: int64 [N].
    """

    masks: Tensor
    scores: Tensor
    classes: Tensor


def scene(count: int, size: tuple[int, int], seed: int) -> Scene:
    """Masks out of a few, so that many are alike; one of these is empty, one full. Scores tie."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(size)
    pool = [np.zeros(size, bool), np.ones(size, bool)]
    for _ in range(max(3, count // 2)):
        top, left = rng.integers(0, size[0]), rng.integers(0, size[1])
        bottom, right = rng.integers(top, size[0] + 1), rng.integers(left, size[1] + 1)
        pool.append((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right))
    masks = np.stack(pool)[rng.integers(0, len(pool), count)]
    scores = np.sort(rng.integers(1, 9, count) / 8)[::-1].astype(np.float32)
    return Scene(
        torch.from_numpy(masks),
        torch.from_numpy(scores.copy()),
        torch.from_numpy(rng.integers(0, 3, count)),
    )


SCENES = [
    scene(0, (5, 7), 0),
    scene(1, (1, 1), 1),
    scene(2, (4, 9), 2),
    scene(13, (6, 11), 3),
    scene(40, (9, 17), 4),
]
scenes = pytest.mark.parametrize("given", SCENES, ids=lambda given: f"{len(given.masks)} masks")


@scenes
def test_iou(given: Scene) -> None:
    some = given.masks[::2]
    expected = mask_iou(given.masks, some)
    array = in_numpy.mask_iou(given.masks.numpy(), some.numpy())
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, expected.numpy())


@interpreted
@scenes
def test_boxes(given: Scene) -> None:
    expected = mask_boxes(given.masks)
    array = in_numpy.mask_boxes(given.masks.numpy())
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, expected.numpy())
    # Where no side changes the kernel that resizes is one that thresholds and finds boxes.
    size = (given.masks.shape[1], given.masks.shape[2])
    some = given.masks[:4]
    masks, boxes = resize_masks_triton(some.float().to(DEVICE), size, size, size, 0.5)
    assert torch.equal(masks.cpu(), some)
    assert torch.equal(boxes.cpu(), expected[:4])


@interpreted
@scenes
def test_packing(given: Scene) -> None:
    expected = pack_masks(given.masks)
    for part, other in zip(pack_masks_triton(given.masks.to(DEVICE), None), expected):
        assert torch.equal(part.cpu(), other)


@interpreted
@scenes
@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
def test_matrix_nms(given: Scene, kernel: str) -> None:
    count = len(given.masks)
    rows, one_class = torch.arange(count), torch.zeros(count, dtype=torch.int64)
    expected = in_numpy.decay_factors(
        in_numpy.mask_iou(given.masks.numpy(), given.masks.numpy()), kernel, 2.0
    )
    assert expected.shape == (count,)
    candidates = given.masks, rows, one_class, kernel, 2.0, None
    masks, places, labels = (part.to(DEVICE) for part in (given.masks, rows, one_class))
    factors = {
        "of an IoU": decay_factors(mask_iou(given.masks), one_class, kernel=kernel),
        "all pairs": decay_all_pairs(*candidates),
        "by class": decay_by_class(*candidates),
        "Triton": decay_by_class_triton(masks, places, labels, kernel, 2.0, None).cpu(),
    }
    for name, found in factors.items():
        assert found.dtype == torch.float32, name
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6, err_msg=name)


@scenes
@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
def test_matrix_nms_in_few_operations(given: Scene, kernel: str, class_agnostic: bool) -> None:
    arguments = given.masks, given.classes, given.scores, kernel, 2.0, class_agnostic
    order, decayed = matrix_nms_decay(*arguments)
    same_order, same_decayed = matrix_nms_plain(*arguments)
    assert torch.equal(same_order, order)
    assert torch.equal(same_decayed, decayed)


class _MatrixNMS(nn.Module):
    def forward(self, masks: Tensor, classes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        return matrix_nms_plain(masks, classes, scores, "gaussian", 2.0, False)


def test_equal_scores_keep_their_order_in_onnx_runtime(tmp_path: Path) -> None:
    """Although ONNX has no stable sort. Masks without pixels leave all scores as they are."""
    given = scene(60, (9, 17), 5)
    scores = given.scores[torch.randperm(60, generator=torch.Generator().manual_seed(0))]
    inputs = torch.zeros_like(given.masks), given.classes, scores
    path, names = tmp_path / "nms.onnx", ["masks", "classes", "scores"]
    with quiet():
        torch.onnx.export(
            _MatrixNMS(), inputs, str(path), input_names=names, opset_version=OPSET, dynamo=False
        )
    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    order, decayed = session.run(None, {n: part.numpy() for n, part in zip(names, inputs)})
    expected = sorted(range(60), key=lambda n: -float(scores[n]))
    assert order.tolist() == expected
    assert decayed.tolist() == scores[expected].tolist()
    assert matrix_nms_decay(*inputs, "gaussian", 2.0, False)[0].tolist() == expected


@scenes
@pytest.mark.parametrize("overlap_threshold", [0.0, 0.8])
def test_panoptic_segments(given: Scene, overlap_threshold: float) -> None:
    size = (given.masks.shape[1], given.masks.shape[2])
    # One half is inside, and many products of scores and probabilities tie.
    soft = torch.where(given.masks, 0.5, 0.25)
    settings: dict[str, Any] = {"stuff_classes": [1], "overlap_threshold": overlap_threshold}
    chunks = [(slice(n, n + 3), soft[n : n + 3]) for n in range(0, len(soft), 3)]
    assigned = assign_segments(
        chunks, given.scores, given.classes, size, settings["overlap_threshold"]
    )
    tables = to_host([assigned.table])
    ((ids, segments),) = number_segments([assigned], tables, settings["stuff_classes"])
    array, same_segments = panoptic_in_numpy.merge_panoptic(
        soft.numpy(), given.scores.numpy(), given.classes.numpy(), size, **settings
    )
    assert segments == same_segments
    assert bool(segments) == bool(len(given.masks) and given.masks.any())
    np.testing.assert_array_equal(array, ids.numpy())
    assert array.dtype == np.int32
