"""NMS, matching, targets and post-processing on sizes, counts and types of every kind."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from solo_family.methods.grid.assigner import GridAssigner
from solo_family.methods.instance_fcn.targets import WindowSampler, window_masks
from solo_family.modeling.instances import make_instances
from solo_family.modeling.matcher import hungarian_matching
from solo_family.modeling.matching_costs import mask_former_cost, sparse_inst_cost
from solo_family.ops import (
    fast_nms,
    mask_boxes,
    mask_iou,
    mask_nms,
    pack_masks,
    point_nms,
    soft_nms,
)
from solo_family.ops.host_copy import HostCopy
from solo_family.ops.matrix_nms import matrix_nms
from solo_family.ops.resize import resize_masks_with_boxes

from .fuzzing import counts, fuzz

MOST_PIXELS = 4_000_000  # of all masks together: an example must fit a test


class Scene(NamedTuple):
    """Sizes of an example, what is drawn in it, and a type."""

    height: int
    width: int
    objects: int
    seed: int
    dtype: torch.dtype
    kind: str  # of values: ordinary, ties, zeros, ones, nan


# Mostly small, but up to the largest.
side = st.one_of(st.integers(1, 9), st.integers(1, 200), st.integers(1, 2000))
scenes = st.builds(
    Scene,
    height=side,
    width=side,
    objects=st.one_of(st.integers(0, 5), st.integers(0, 300)),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
    kind=st.sampled_from(["ordinary", "ties", "zeros", "ones", "nan"]),
)


def fitted(scene: Scene) -> Scene:
    most = max(1, MOST_PIXELS // (scene.height * scene.width))
    return scene._replace(objects=min(scene.objects, most))


def soft(scene: Scene, generator: torch.Generator) -> Tensor:
    """Returns probabilities [N, H, W]: a random rectangle in each."""
    shape = (scene.objects, scene.height, scene.width)
    if scene.kind == "zeros":
        return torch.zeros(shape, dtype=scene.dtype)
    if scene.kind == "ones":
        return torch.ones(shape, dtype=scene.dtype)
    masks = torch.rand(shape, generator=generator) * 0.4
    for mask in masks:
        top, bottom = torch.randint(scene.height + 1, (2,), generator=generator).sort()[0].tolist()
        left, right = torch.randint(scene.width + 1, (2,), generator=generator).sort()[0].tolist()
        mask[top:bottom, left:right] += 0.5
    return masks.to(scene.dtype)


def numbers(scene: Scene, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    values = torch.rand(shape, generator=generator)
    if scene.kind == "ties":
        values = (values * 3).round() / 3
    elif scene.kind in ("zeros", "ones"):
        values = torch.full(shape, float(scene.kind == "ones"))
    elif scene.kind == "nan" and values.numel():
        values.view(-1)[0] = float("nan")
    return values.to(scene.dtype)


def boxes_of(masks: Tensor) -> Tensor:
    return mask_boxes(masks)


@counts
def test_nms(tmp_path: Path, examples: int) -> None:
    def check(scene: Scene) -> None:
        scene = fitted(scene)
        generator = torch.Generator().manual_seed(scene.seed)
        masks = soft(scene, generator)
        scores = numbers(scene, (scene.objects,), generator)
        labels = torch.randint(3, (scene.objects,), generator=generator)
        binary = masks > 0.5
        for nms, options in (
            (matrix_nms, {"kernel": "linear"}),
            (matrix_nms, {"pre_nms": None, "post_nms": None, "threshold": 0.0}),
            (matrix_nms, {"pre_nms": 1}),
            (mask_nms, {}),
            (fast_nms, {"class_agnostic": True}),
            (soft_nms, {"pre_nms": 40}),
        ):
            check_kept(*nms(binary, labels, scores, **options), scene, options)
        check_kept(*matrix_nms(masks, labels, scores, mask_threshold=0.5), scene, {})
        overlaps = mask_iou(binary)
        assert ((overlaps >= 0) & (overlaps <= 1)).all()
        packed = pack_masks(masks, 0.5)
        assert torch.equal(packed.areas, binary.flatten(1).sum(1))
        assert packed.maskness.isfinite().all()

    fuzz(check, scenes, examples, tmp_path)


def check_kept(keep: Tensor, scores: Tensor, scene: Scene, options: dict[str, Any]) -> None:
    assert keep.dtype == torch.int64
    assert scores.dtype == torch.float32
    assert keep.shape == scores.shape
    assert len(keep.unique()) == len(keep) <= scene.objects
    if scene.kind != "nan":
        assert (scores >= options.get("threshold", 0.05)).all()
        assert (scores.diff() <= 0).all()


@counts
def test_point_nms(tmp_path: Path, examples: int) -> None:
    def check(scene: Scene) -> None:
        generator = torch.Generator().manual_seed(scene.seed)
        scores = numbers(scene, (1, 2, min(scene.height, 60), min(scene.width, 60)), generator)
        kept = point_nms(scores)
        assert kept.dtype == scores.dtype
        assert kept.shape == scores.shape

    fuzz(check, scenes, examples, tmp_path)


@counts
def test_matching(tmp_path: Path, examples: int) -> None:
    def check(values: tuple[Scene, int]) -> None:
        scene, predictions = values
        scene = fitted(scene._replace(height=min(scene.height, 60), width=min(scene.width, 60)))
        generator = torch.Generator().manual_seed(scene.seed)
        class_logits = numbers(scene, (predictions, 4), generator) * 20 - 10
        mask_logits = numbers(scene, (predictions, scene.height, scene.width), generator)
        masks = soft(scene, generator) > 0.5
        classes = torch.randint(3, (scene.objects,), generator=generator)
        costs = [
            sparse_inst_cost(class_logits, mask_logits, classes, masks),
            mask_former_cost(class_logits, mask_logits, classes, masks),
        ]
        together = HostCopy(torch.stack(costs)[:, None])
        expected = min(predictions, scene.objects)
        matches = hungarian_matching(together, [scene.objects])
        for rows, columns in zip(matches.predictions, matches.objects):
            assert len(rows) == len(columns) == expected
            assert len(rows.unique()) == len(columns.unique()) == expected

    fuzz(check, st.tuples(scenes, st.integers(0, 120)), examples, tmp_path)


@counts
def test_targets(tmp_path: Path, examples: int) -> None:
    grid = GridAssigner(
        num_grids=[40, 12, 1],
        scale_ranges=[(1, 96), (48, 384), (192, 2048)],
        sigma=0.2,
        num_classes=3,
    )
    windows = WindowSampler(window_size=21, num_windows=64)

    def check(scene: Scene) -> None:
        scene = fitted(scene)
        generator = torch.Generator().manual_seed(scene.seed)
        masks = soft(scene, generator) > 0.5
        boxes = boxes_of(masks)
        classes = torch.randint(3, (scene.objects,), generator=generator)
        padded = (-(-scene.height // 32) * 32, -(-scene.width // 32) * 32)
        for level, grid_side in zip(grid(boxes, classes, masks, padded), grid.layout.sides):
            assert level.labels.shape == (grid_side**2,)
            assert ((level.labels >= 0) & (level.labels <= 3)).all()
            assert ((level.cells >= 0) & (level.cells < grid_side**2)).all()
            assert masks[level.objects].flatten(1).any(1).all()
        # Fewer cells, because window_masks is dense.
        map_size = (min(padded[0] // 8, 60), min(padded[1] // 8, 60))
        found = windows(boxes, map_size, 8)
        assert len(found.objects) <= len(found.centers) <= 64
        small = masks[:, ::8, ::8][:, : map_size[0], : map_size[1]]
        objects = torch.full((len(found.centers),), -1)
        objects[: len(found.objects)] = found.objects
        inside = window_masks(small, objects, found.centers, 21)
        assert inside.shape == (len(objects), 21, 21)

    fuzz(check, scenes, examples, tmp_path)


@counts
def test_postprocessing(tmp_path: Path, examples: int) -> None:
    def check(values: tuple[Scene, int, int, int]) -> None:
        scene, height, width, stride = values
        output = (scene.height, scene.width)
        # The network's sizes: the picture's, its padding's, and that of the masks.
        image = (min(height, 400), min(width, 400))
        padded = (-(-image[0] // 32) * 32, -(-image[1] // 32) * 32)
        pixels = output[0] * output[1] + padded[0] * padded[1]
        count = min(scene.objects, MOST_PIXELS // pixels)
        inner = scene._replace(height=padded[0] // stride, width=padded[1] // stride, objects=count)
        generator = torch.Generator().manual_seed(scene.seed)
        masks, boxes = resize_masks_with_boxes(soft(inner, generator), padded, image, output, 0.5)
        assert masks.shape == (count, *output)
        scores = numbers(inner, (count,), generator)
        found = make_instances(masks, scores, torch.zeros(count, dtype=torch.int64), boxes)
        assert found.scores.dtype == torch.float32
        assert len(found) == count
        empty = ~masks.flatten(1).any(1)
        areas = found.pred_boxes.area()
        assert (areas[empty] == 0).all()
        assert (areas[~empty] > 0).all()

    fuzz(check, st.tuples(scenes, side, side, st.sampled_from([4, 8, 32])), examples, tmp_path)
