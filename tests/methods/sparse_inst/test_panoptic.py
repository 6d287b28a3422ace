"""SparseInst's panoptic results: things and stuff from the same maps."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from torch import Tensor, nn

from solo_family.data.formats.register import register_in_place
from solo_family.data.loading.loader import build_train_mapper
from solo_family.evaluation.build import build_evaluator, predicted_tasks
from solo_family.evaluation.panoptic_quality import PanopticEvaluator
from solo_family.methods.sparse_inst.panoptic import PanopticMerge
from solo_family.ops.resize import ResizedMasks

from ...coco_folder import train_records
from ...conftest import (
    assert_finite_gradients,
    assert_learns,
    eager_to_find,
    picture,
    tiny_cfg,
    tiny_model,
)
from ...data.segments import write_panoptic

ON = ["MODEL.SPARSE_INST.PANOPTIC_ON", True]
# Of three classes the last two are stuff; all masks take part.
KEYS = [*ON, "MODEL.STUFF_IDS", [1, 2], "MODEL.SPARSE_INST.OBJECT_MASK_THRESHOLD", 0.0]
PADDED, IMAGE, OUTPUT = (32, 64), (30, 50), (45, 75)


def panoptic_model(opts: list | None = None, found: bool = True) -> nn.Module:
    return eager_to_find(tiny_model("SparseInst", opts=[*KEYS, *(opts or [])]), found)


def some_masks(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns smooth probabilities of 6 masks, their scores and classes."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 6 * torch.randn(1, 6, 3, 5, generator=generator)
    masks = F.interpolate(coarse, size=(8, 16), mode="bicubic")[0].sigmoid()
    return masks, torch.rand(6, generator=generator), torch.tensor([0, 1, 1, 0, 2, 0])


def reference(
    masks: Tensor, scores: Tensor, classes: Tensor, merge: PanopticMerge
) -> tuple[Tensor, list[tuple[int, bool]]]:
    """Mask by mask, as MaskFormer's paper merges (arXiv 2107.06278, section 3.4)."""
    up = F.interpolate(masks[None], size=PADDED, mode="bilinear")[..., : IMAGE[0], : IMAGE[1]]
    soft = F.interpolate(up, size=OUTPUT, mode="bilinear")[0]
    result = torch.zeros(OUTPUT, dtype=torch.int32)
    kept = [i for i in range(len(scores)) if scores[i] > merge.object_threshold]
    segments: list[tuple[int, bool]] = []
    stuff: dict[int, int] = {}
    if not kept:
        return result, segments
    winner = torch.stack([scores[i] * soft[i] for i in kept]).argmax(0)
    for place, i in enumerate(kept):
        won, area, category = winner == place, soft[i] >= 0.5, int(classes[i])
        if not won.any() or not area.any() or won.sum() < merge.overlap_threshold * area.sum():
            continue
        if category in stuff:
            result[won] = stuff[category]
            continue
        segments.append((category, category not in merge.stuff_classes))
        result[won] = len(segments)
        if category in merge.stuff_classes:
            stuff[category] = len(segments)
    return result, segments


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("object_threshold", "overlap_threshold"), [(0.0, 0.0), (0.4, 0.8), (1, 0)]
)
def test_segments_are_merged_as_maskformers(
    seed: int, object_threshold: float, overlap_threshold: float
) -> None:
    masks, scores, classes = some_masks(seed)
    merge = PanopticMerge((1, 2), object_threshold, overlap_threshold)
    kept = scores > object_threshold
    resized = ResizedMasks(masks[kept], PADDED, IMAGE, OUTPUT)
    ((segmentation, segments),) = merge.number([merge.assign(resized, scores[kept], classes[kept])])
    expected, expected_segments = reference(masks, scores, classes, merge)
    assert torch.equal(segmentation, expected)
    assert [(s["category_id"], s["isthing"]) for s in segments] == expected_segments


@pytest.mark.parametrize(
    ("key", "value", "attribute"),
    [
        ("OBJECT_MASK_THRESHOLD", 0.7, "object_threshold"),
        ("OVERLAP_THRESHOLD", 0.9, "overlap_threshold"),
    ],
)
def test_the_thresholds_are_keys(key: str, value: float, attribute: str) -> None:
    opts = [*ON, f"MODEL.SPARSE_INST.{key}", value]
    assert getattr(tiny_model("SparseInst", opts=opts).panoptic, attribute) == value


@pytest.mark.parametrize("found", [True, False])
def test_results_are_in_detectron2s_form(found: bool) -> None:
    image = picture(50, 70)
    image.update(height=33, width=91)
    with torch.no_grad():
        result = panoptic_model(found=found)([image])[0]
    segmentation, segments = result["panoptic_seg"]
    assert segmentation.shape == (33, 91)
    assert segmentation.dtype == torch.int32
    assert (len(segments) > 0) == found
    ids = set(segmentation.unique().tolist()) - {0}
    assert ids == {segment["id"] for segment in segments}
    for segment in segments:
        assert set(segment) == {"id", "category_id", "isthing", "score"}
        assert isinstance(segment["id"], int)
        assert segment["isthing"] is (segment["category_id"] == 0)
        assert 0 < segment["score"] <= 1


def test_instances_are_those_of_things() -> None:
    model, image = panoptic_model(["MODEL.SPARSE_INST.DECODER.OUTPUT_IAM", True]), picture()
    with torch.no_grad():
        things = model([image])[0]["instances"]
        model.panoptic = None
        plain = model([image])[0]
    assert set(plain) == {"instances"}
    everything = plain["instances"]
    assert set(everything.pred_classes.tolist()) > {0}
    expected = everything[everything.pred_classes == 0]
    assert len(things) == len(expected) > 0
    for name, value in expected.get_fields().items():
        actual = things.get(name)
        same = (actual, value) if isinstance(value, Tensor) else (actual.tensor, value.tensor)
        assert torch.equal(*same), name


def test_a_batch_gives_what_batches_of_one_give() -> None:
    model = panoptic_model()
    batch = [picture(64, 96), picture(130, 70, seed=3), picture(60, 90, seed=4)]
    with torch.no_grad():
        together = model(batch)
        alone = [model([image])[0] for image in batch]
    for one, other in zip(together, alone):
        segmentation, segments = one["panoptic_seg"]
        expected, expected_segments = other["panoptic_seg"]
        assert (segmentation != expected).float().mean() < 1e-3
        assert [s["category_id"] for s in segments] == [s["category_id"] for s in expected_segments]


def test_panoptic_truth_trains(tmp_path: Path) -> None:
    """Each segment, of things and stuff, is an object to be matched; crowds are not."""
    name, _, segments = write_panoptic(tmp_path)
    opts = [*ON, "DATASETS.TRAIN", (name,), "INPUT.MIN_SIZE_TRAIN", (48,)]
    cfg = tiny_cfg("SparseInst", 0, opts)
    records = train_records(cfg)
    mapper = build_train_mapper(cfg, records)
    batch = [mapper(record) for record in records]
    assert [len(item["instances"]) for item in batch] == [
        sum(not segment["iscrowd"] for segment in image) for image in segments
    ]
    torch.manual_seed(0)
    model = build_model(cfg)
    assert model.panoptic.stuff_classes == (2,)
    assert_learns(model, batch, steps=20)


@pytest.mark.parametrize("objects", [(0,), (0, 2), (0, 0)])
def test_images_without_segments_train(objects: tuple[int, ...]) -> None:
    model = tiny_model("SparseInst", opts=KEYS)
    losses = model([picture(objects=count, seed=count) for count in objects])
    assert_finite_gradients(model, losses)


def test_bfloat16_autocast_infers() -> None:
    model = panoptic_model()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        segmentation, segments = model([picture()])[0]["panoptic_seg"]
    assert segmentation.max() == len(segments) > 0


def test_panoptic_truth_is_evaluated_with_pq(tmp_path: Path) -> None:
    name = write_panoptic(tmp_path)[0]
    register_in_place([name])
    cfg = tiny_cfg("SparseInst", opts=ON)
    assert predicted_tasks(cfg) == ["panoptic", "instance"]
    assert predicted_tasks(tiny_cfg("SparseInst")) == ["instance"]
    assert type(build_evaluator(cfg, name, "")) is PanopticEvaluator
