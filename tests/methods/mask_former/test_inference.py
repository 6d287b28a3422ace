"""MaskFormer's three kinds of result, recomputed mask by mask and pixel by pixel."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from solo_family.methods.mask_former.inference import Inference
from solo_family.modeling.panoptic import (
    SoftMasks,
    _count_each,
    assign_segments,
    number_segments,
)
from solo_family.modeling.transfer import to_host
from solo_family.ops import resize
from solo_family.ops.resize import ResizedMasks

from ...conftest import eager_to_find, picture, tiny_model
from ...waits import count_waits

K, N = 3, 6
PADDED, IMAGE, OUTPUT = (32, 64), (30, 50), (45, 75)

INFERENCE = Inference(
    semantic=True,
    panoptic=False,
    instance=False,
    hard_assignment=False,
    resize_first=True,
    stuff_classes=(1,),
    object_threshold=0.0,
    overlap_threshold=0.0,
    max_instances=100,
    instance_threshold=0.0,
)


def inputs(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of classes and of smooth masks."""
    generator = torch.Generator().manual_seed(seed)
    class_logits = 2 * torch.randn(N, K + 1, generator=generator)
    coarse = 6 * torch.randn(1, N, 3, 5, generator=generator)
    return class_logits, F.interpolate(coarse, size=(8, 16), mode="bicubic")[0]


def results(inference: Inference, class_logits: Tensor, logits: Tensor) -> dict[str, Any]:
    """Makes one image's results."""
    masks = ResizedMasks(logits, PADDED, IMAGE, OUTPUT)
    return inference.of_scores(inference.score(class_logits[None]), [masks])[0]


def merge(
    masks: SoftMasks, scores: Tensor, classes: Tensor, size: tuple[int, int], *options: Any
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Merges masks, as of one image, to segments; options: stuff classes, overlap threshold."""
    stuff_classes, overlap_threshold = options
    assignment = assign_segments(masks, scores, classes, size, overlap_threshold)
    return number_segments([assignment], to_host([assignment.table]), stuff_classes)[0]


def resize_logits(logits: Tensor, output: bool = True) -> Tensor:
    """To the padded input, cut out the image, to the output."""
    up = F.interpolate(logits[None], size=PADDED, mode="bilinear")[..., :30, :50]
    return F.interpolate(up, size=OUTPUT, mode="bilinear")[0] if output else up[0]


@pytest.fixture(params=[64 * 2**20, 1], ids=["at once", "one by one"], autouse=True)
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The results don't depend on how many masks are resized at a time."""
    monkeypatch.setattr(resize, "_CHUNK_BYTES", request.param)


def test_semantic_scores_are_marginalised() -> None:
    class_logits, logits = inputs()
    result = results(INFERENCE, class_logits, logits)
    assert set(result) == {"sem_seg"}
    probabilities = class_logits.softmax(1)[:, :-1]
    masks = 1 / (1 + (-resize_logits(logits)).exp())
    expected = torch.zeros(K, *OUTPUT)
    for i in range(N):
        for c in range(K):
            expected[c] += probabilities[i, c] * masks[i]
    torch.testing.assert_close(result["sem_seg"], expected, atol=1e-5, rtol=1e-5)


def test_semantic_scores_may_be_resized_after_they_are_summed() -> None:
    class_logits, logits = inputs()
    result = results(replace(INFERENCE, resize_first=False), class_logits, logits)["sem_seg"]
    scores = torch.einsum(
        "nk,nhw->khw", class_logits.softmax(1)[:, :-1], resize_logits(logits, False).sigmoid()
    )
    expected = F.interpolate(scores[None], size=OUTPUT, mode="bilinear")[0]
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
    first = results(INFERENCE, class_logits, logits)["sem_seg"]
    assert not torch.allclose(result, first, atol=1e-3)


def test_hard_assignment_gives_a_pixel_to_one_mask() -> None:
    class_logits, logits = inputs()
    class_logits[2] = torch.tensor([0.0, 0.0, 0.0, 9.0])  # an "object" of no class
    result = results(replace(INFERENCE, hard_assignment=True), class_logits, logits)["sem_seg"]
    scores, classes = class_logits.softmax(1).max(1)
    masks = resize_logits(logits).sigmoid()
    expected = torch.zeros(K, *OUTPUT)
    for y in range(OUTPUT[0]):
        for x in range(OUTPUT[1]):
            candidates = [i for i in range(N) if classes[i] < K]
            winner = max(candidates, key=lambda i: float(scores[i] * masks[i, y, x]))
            expected[classes[winner], y, x] = scores[winner] * masks[winner, y, x]
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def panoptic_reference(
    class_logits: Tensor, logits: Tensor, inference: Inference
) -> tuple[Tensor, list[tuple[int, bool]]]:
    """Section 3.4, "general inference", with the filters of section 4.1."""
    scores, classes = class_logits.softmax(1).max(1)
    masks = resize_logits(logits).sigmoid()
    kept = [i for i in range(N) if classes[i] < K and scores[i] > inference.object_threshold]
    result = torch.zeros(OUTPUT, dtype=torch.int32)
    segments: list[tuple[int, bool]] = []
    stuff: dict[int, int] = {}
    if not kept:
        return result, segments
    winner = torch.stack([scores[i] * masks[i] for i in kept]).argmax(0)
    for index, i in enumerate(kept):
        won, area = winner == index, masks[i] >= 0.5
        category = int(classes[i])
        if not won.any() or not area.any():
            continue
        if won.sum() / area.sum() < inference.overlap_threshold:
            continue
        is_stuff = category in inference.stuff_classes
        if is_stuff and category in stuff:
            result[won] = stuff[category]
            continue
        segments.append((category, not is_stuff))
        result[won] = len(segments)
        if is_stuff:
            stuff[category] = len(segments)
    return result, segments


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("object_threshold", "overlap_threshold"), [(0, 0), (0.5, 0.8), (2, 0)])
def test_panoptic_segments_are_the_papers(
    seed: int, object_threshold: float, overlap_threshold: float
) -> None:
    class_logits, logits = inputs(seed)
    class_logits[3] = torch.tensor([0.0, 5.0, 0.0, 0.0])  # two of the stuff class
    class_logits[4] = torch.tensor([0.0, 4.0, 0.0, 0.0])
    inference = replace(
        INFERENCE,
        semantic=False,
        panoptic=True,
        object_threshold=object_threshold,
        overlap_threshold=overlap_threshold,
    )
    result = results(inference, class_logits, logits)
    assert set(result) == {"panoptic_seg"}
    segmentation, segments = result["panoptic_seg"]
    expected, expected_segments = panoptic_reference(class_logits, logits, inference)
    assert torch.equal(segmentation, expected)
    assert [(s["category_id"], s["isthing"]) for s in segments] == expected_segments
    assert [segment["id"] for segment in segments] == list(range(1, len(segments) + 1))


def test_a_segment_has_the_score_of_its_best_mask() -> None:
    masks = torch.zeros(3, 4, 6)
    masks[0, :, :2], masks[1, :, 2:4], masks[2, :, 4:] = 1, 1, 1
    scores, classes = torch.tensor([0.6, 0.7, 0.9]), torch.tensor([1, 0, 1])
    segmentation, segments = merge([(slice(0, 3), masks)], scores, classes, (4, 6), [1], 0.8)
    assert segmentation[0].tolist() == [1, 1, 2, 2, 1, 1]
    assert [segment["score"] for segment in segments] == pytest.approx([0.9, 0.7])


@pytest.mark.parametrize("limit", [4, 100])
def test_instances_are_the_best_pairs_of_mask_and_class(limit: int) -> None:
    class_logits, logits = inputs()
    logits[5] = -3.0  # a mask without pixels
    inference = replace(INFERENCE, semantic=False, instance=True, max_instances=limit)
    instances = results(inference, class_logits, logits)["instances"]
    probabilities = class_logits.softmax(1)
    pairs = [(float(probabilities[i, c]), i, c) for i in range(N) for c in range(K) if c != 1]
    soft = resize_logits(logits)
    expected = []
    for score, i, c in sorted(pairs, reverse=True)[:limit]:
        inside = soft[i] > 0
        if inside.any():
            expected.append((score * float(soft[i].sigmoid()[inside].mean()), i, c))
    expected.sort(reverse=True)
    assert instances.scores.tolist() == pytest.approx([score for score, _, _ in expected])
    assert instances.pred_classes.tolist() == [c for _, _, c in expected]
    for mask, (_, i, _) in zip(instances.pred_masks, expected):
        assert torch.equal(mask, soft[i] > 0)
    threshold = float(instances.scores[2])
    fewer = results(replace(inference, instance_threshold=threshold), class_logits, logits)
    assert len(fewer["instances"]) == 2


def test_the_last_layer_predicts_at_the_size_asked_for() -> None:
    model = eager_to_find(tiny_model("MaskFormer"))
    item = picture(50, 70)
    item.update(height=33, width=91)
    with torch.no_grad():
        result = model([item])[0]
        images = model.preprocess([item["image"]])
        head = model.sem_seg_head(model.backbone(images.tensor))
    masks = torch.einsum("ne,ehw->nhw", head.mask_embeddings[-1, 0], head.mask_features[0])
    up = F.interpolate(masks[None], size=(64, 96), mode="bilinear")[..., :50, :70]
    up = F.interpolate(up, size=(33, 91), mode="bilinear")[0].sigmoid()
    expected = torch.einsum("nk,nhw->khw", head.class_logits[-1, 0].softmax(1)[:, :-1], up)
    torch.testing.assert_close(result["sem_seg"], expected, atol=1e-4, rtol=1e-4)
    assert result["panoptic_seg"][0].shape == (33, 91)


@pytest.mark.parametrize("size", [(61, 83), (1, 1)])
def test_inputs_need_not_be_padded(size: tuple[int, int]) -> None:
    """The official COCO panoptic configs have SIZE_DIVISIBILITY 0."""
    opts = [
        "MODEL.MASK_FORMER.SIZE_DIVISIBILITY",
        0,
        "MODEL.BACKBONE.NAME",
        "build_resnet_backbone",
    ]
    opts += ["MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res2", "res3", "res4", "res5"]]
    model = tiny_model(
        "MaskFormer", opts=[*opts, "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE", "res5"]
    )
    image = torch.zeros((3, *size), dtype=torch.uint8)
    with torch.no_grad():
        result = model.eval()([{"image": image}])[0]
    assert result["sem_seg"].shape == (K, *size)
    assert model.preprocess([image]).tensor.shape[-2:] == size


TASKS = [("SEMANTIC_ON", 0), ("PANOPTIC_ON", 2), ("INSTANCE_ON", 1)]


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize(("tasks", "most"), [*(([task], n) for task, n in TASKS), (None, 2)])
def test_the_host_waits_at_most_twice_for_a_batch(
    found: bool, tasks: list[str] | None, most: int
) -> None:
    """For the masks that take part in segments, and for segments and instances."""
    opts = []
    for task, _ in TASKS:
        opts += [f"MODEL.MASK_FORMER.TEST.{task}", tasks is None or task in tasks]
    model = eager_to_find(tiny_model("MaskFormer", opts=[*opts, "MODEL.STUFF_IDS", [1]]), found)
    images = [picture(64, 96, seed=seed) for seed in range(3)]
    alone = [model([image])[0] for image in images]
    with count_waits() as waits:
        together = model(images)
    assert waits.total == most, waits.where
    for result, expected in zip(together, alone, strict=True):
        assert set(result) == set(expected)
        if "sem_seg" in result:
            torch.testing.assert_close(result["sem_seg"], expected["sem_seg"], atol=1e-4, rtol=1e-4)
        if "panoptic_seg" in result:
            segments, others = result["panoptic_seg"][1], expected["panoptic_seg"][1]
            names = ("id", "category_id", "isthing")
            assert [[one[name] for name in names] for one in segments] == [
                [one[name] for name in names] for one in others
            ]
            same = result["panoptic_seg"][0] == expected["panoptic_seg"][0]
            assert same.float().mean() > 0.99
        if "instances" in result:
            assert len(result["instances"]) == len(expected["instances"])
            torch.testing.assert_close(
                result["instances"].scores, expected["instances"].scores, atol=1e-4, rtol=1e-4
            )


class Operators(TorchDispatchMode):
    """Keeps the names of all operators."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("deterministic", [False, True])
def test_pixels_are_counted_with_deterministic_algorithms_too(deterministic: bool) -> None:
    """On a GPU, for which a tensor without values stands: there torch refuses histograms."""
    with FakeTensorMode():
        index = torch.zeros(4, 5, dtype=torch.int64, device="cuda")
        torch.use_deterministic_algorithms(deterministic)
        try:
            with Operators() as operators:
                counts = _count_each(index, 3)
        finally:
            torch.use_deterministic_algorithms(False)
    assert (counts.shape, counts.dtype) == ((3,), torch.int64)
    assert ("histc" in operators.names) is not deterministic


def test_segments_are_counted_however_pixels_are_chunked() -> None:
    """Against masks and pixels one by one; some mask wins nothing, and one has no pixels."""
    generator = torch.Generator().manual_seed(3)
    masks = torch.rand(5, 9, 11, generator=generator)
    masks[2], scores = 0.2, torch.tensor([0.9, 0.5, 0.9, 0.05, 0.7])
    classes = torch.tensor([0, 1, 0, 2, 1])
    expected = torch.zeros(9, 11, dtype=torch.int32)
    winners = [[0] * 11 for _ in range(9)]
    for y in range(9):
        for x in range(11):
            winners[y][x] = max(range(5), key=lambda i: float(masks[i, y, x] * scores[i]))
    kept = []
    for i in range(5):
        won = sum(row.count(i) for row in winners)
        area = sum(value >= 0.5 for value in masks[i].flatten().tolist())
        if won and area and won >= 0.2 * area:
            kept.append(i)
    for y in range(9):
        for x in range(11):
            if winners[y][x] in kept:
                expected[y, x] = 1 + kept.index(winners[y][x])
    assert 1 < len(kept) < 5
    for step in (1, 2, 5):
        parts = [slice(start, min(start + step, 5)) for start in range(0, 5, step)]
        chunks = [(part, masks[part]) for part in parts]
        segmentation, segments = merge(chunks, scores, classes, (9, 11), [], 0.2)
        assert torch.equal(segmentation, expected)
        assert [segment["category_id"] for segment in segments] == classes[kept].tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_precision_give_every_result(dtype: torch.dtype) -> None:
    model, image = eager_to_find(tiny_model("MaskFormer")), picture()
    expected = model([image])[0]
    result = model.to(dtype)([image])[0]
    assert result["sem_seg"].dtype == torch.float32
    torch.testing.assert_close(result["sem_seg"], expected["sem_seg"], atol=0.1, rtol=0.1)
    assert result["panoptic_seg"][0].shape == expected["panoptic_seg"][0].shape
    assert len(result["instances"]) > 0


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0], ids=["all", "some", "none"])
def test_two_kinds_of_result_together_are_those_of_each(threshold: float) -> None:
    """On a CPU masks are resized once for both."""
    both = replace(INFERENCE, panoptic=True, object_threshold=threshold)
    for seed in range(3):
        given = inputs(seed)
        found = results(both, *given)
        semantic = results(INFERENCE, *given)["sem_seg"]
        torch.testing.assert_close(found["sem_seg"], semantic, rtol=0, atol=1e-5)
        ids, segments = results(replace(both, semantic=False), *given)["panoptic_seg"]
        assert torch.equal(found["panoptic_seg"][0], ids)
        assert found["panoptic_seg"][1] == segments
    assert bool(segments) == (threshold < 1)
