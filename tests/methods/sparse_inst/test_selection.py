"""Inference of SparseInst, against a reference that goes through the predictions one by one."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solo_family.methods.sparse_inst.selection import SelectedMasks, SetSelector
from solo_family.modeling import order
from solo_family.modeling.set_predictions import SetPredictions

from ...conftest import eager_to_find, picture, tiny_model
from ...waits import count_waits


def select(selector: SetSelector, predictions: tuple[Tensor, Tensor, Tensor]) -> SelectedMasks:
    """Selects from one image's class logits, mask logits and objectness logits."""
    ranking = selector.rank(SetPredictions(*(part[None] for part in predictions)))
    return ranking.best(0, int(ranking.count))


def random_predictions(seed: int, n: int = 12, k: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 3

    return normal(n, k), normal(n, 10, 14), normal(n)


def reference_selection(
    class_logits: Tensor, mask_logits: Tensor, objectness: Tensor, threshold: float = 0.005
) -> list[tuple[float, int, int]]:
    """Returns (score, class, prediction), the best first."""
    found = []
    for n in range(len(class_logits)):
        scores = [
            float((logit.sigmoid() * objectness[n].sigmoid()) ** 0.5) for logit in class_logits[n]
        ]
        best = max(range(len(scores)), key=scores.__getitem__)
        if scores[best] <= threshold:
            continue
        inside = [p for p in mask_logits[n].sigmoid().flatten().tolist() if p > 0.45]
        maskness = sum(inside) / (len(inside) + 1e-6)
        found.append((scores[best] * maskness, best, n))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.005, 0.4])
def test_selection_is_the_reference(seed: int, threshold: float) -> None:
    predictions = random_predictions(seed)
    scores, classes, masks, indices = select(SetSelector(class_threshold=threshold), predictions)
    expected = reference_selection(*predictions, threshold)
    assert len(expected) > 0
    assert (threshold < 0.1) or len(expected) < 12
    assert indices.tolist() == [n for *_, n in expected]
    assert classes.tolist() == [k for _, k, _ in expected]
    assert scores.tolist() == pytest.approx([score for score, *_ in expected], rel=1e-5)
    torch.testing.assert_close(masks[:], predictions[1][indices].sigmoid())


def test_a_mask_without_pixels_scores_zero() -> None:
    class_logits, mask_logits, objectness = random_predictions(0, n=2)
    mask_logits[0] = -20
    scores, *_, indices = select(SetSelector(), (class_logits, mask_logits, objectness))
    assert scores[indices == 0].tolist() == [0]


def test_nothing_found() -> None:
    class_logits, mask_logits, objectness = random_predictions(0)
    predictions = class_logits - 100, mask_logits, objectness
    scores, classes, masks, indices = select(SetSelector(), predictions)
    assert scores.shape == classes.shape == indices.shape == (0,)
    assert masks[:].shape == (0, 10, 14)
    assert classes.dtype == indices.dtype == torch.int64


def test_the_most_detections() -> None:
    predictions = random_predictions(1)
    scores, *_, indices = select(SetSelector(max_detections=3), predictions)
    every_score, *_, every_index = select(SetSelector(), predictions)
    assert torch.equal(scores, every_score[:3])
    assert torch.equal(indices, every_index[:3])


def duplicates() -> tuple[Tensor, Tensor, Tensor]:
    """Three predictions: an object, the same object again, and another class in its place."""
    mask = torch.full((8, 8), -20.0)
    mask[2:6, 2:6] = 20
    class_logits = torch.tensor([[3.0, -9.0], [2.0, -9.0], [-9.0, 1.0]])
    return class_logits, mask.expand(3, 8, 8), torch.full((3,), 5.0)


def test_duplicates_survive_unless_matrix_nms_is_on() -> None:
    plain = select(SetSelector(), duplicates())
    assert plain.indices.tolist() == [0, 1, 2]
    scores, _, _, indices = select(SetSelector(nms="matrix"), duplicates())
    assert indices.tolist() == [0, 2, 1]
    # Of a duplicate exp(-2) of the score is left.
    assert scores[2].item() == pytest.approx(plain.scores[1].item() * 0.1353, rel=1e-3)
    assert scores[:2].tolist() == pytest.approx(plain.scores[[0, 2]].tolist())
    linear = select(SetSelector(nms="matrix", nms_kernel="linear"), duplicates())
    assert linear.indices.tolist() == [0, 2]
    across = select(
        SetSelector(nms="matrix", nms_kernel="linear", class_agnostic=True), duplicates()
    )
    assert across.indices.tolist() == [0]
    strict = select(SetSelector(nms="matrix", update_threshold=0.5), duplicates())
    assert strict.indices.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("key", "value", "attribute"),
    [
        ("CLS_THRESHOLD", 0.3, "class_threshold"),
        ("MASK_THRESHOLD", 0.6, "mask_threshold"),
        ("MAX_DETECTIONS", 7, "max_detections"),
        ("NMS_TYPE", "matrix", "nms"),
        ("NMS_KERNEL", "linear", "nms_kernel"),
        ("NMS_SIGMA", 3, "nms_sigma"),
        ("UPDATE_THR", 0.2, "update_threshold"),
        ("CLASS_AGNOSTIC_NMS", True, "class_agnostic"),
    ],
)
def test_every_constant_is_a_key(key: str, value: object, attribute: str) -> None:
    default = tiny_model("SparseInst").selector
    assert default == SetSelector()
    changed = tiny_model("SparseInst", opts=[f"MODEL.SPARSE_INST.{key}", value]).selector
    assert getattr(changed, attribute) == value


def finder(opts: list | None = None) -> nn.Module:
    return eager_to_find(tiny_model("SparseInst", opts=opts))


def test_masks_are_resized_as_probabilities_in_two_steps() -> None:
    model, image = finder(), picture(50, 70, seed=2)
    image.update(height=33, width=91)
    images = model.preprocess([image["image"]])
    with torch.no_grad():
        instances = model([image])[0]["instances"]
        features = model.backbone(images.tensor)
        levels = [features[name] for name in ("res3", "res4", "res5")]
        predictions = model.decoder(model.encoder(levels)).predictions
    expected = reference_selection(*(part[0] for part in predictions))
    assert instances.scores.tolist() == pytest.approx([s for s, *_ in expected], rel=1e-4)
    for found, (_, k, n), label in zip(instances.pred_masks, expected, instances.pred_classes):
        soft = predictions.mask_logits[:1, n : n + 1].sigmoid()
        soft = F.interpolate(soft, size=(64, 96), mode="bilinear")[..., :50, :70]
        soft = F.interpolate(soft, size=(33, 91), mode="bilinear")
        assert torch.equal(found, soft[0, 0] > 0.45)
        assert label == k


def test_inputs_are_padded_to_multiples_of_32() -> None:
    images = finder().preprocess([torch.zeros(3, 33, 65)])
    assert images.tensor.shape[-2:] == (64, 96)


@pytest.mark.parametrize(("decoder", "groups"), [("BaseIAMDecoder", 1), ("GroupIAMDecoder", 2)])
def test_activation_maps_come_with_their_instances(decoder: str, groups: int) -> None:
    keys = ["MODEL.SPARSE_INST.DECODER.NAME", decoder]
    image = picture(64, 96)
    plain = finder(keys)
    model = finder([*keys, "MODEL.SPARSE_INST.DECODER.OUTPUT_IAM", True])
    with torch.no_grad():
        instances = model([image])[0]["instances"]
        assert not plain([image])[0]["instances"].has("activation_maps")
        features = model.backbone(model.preprocess([image["image"]]).tensor)
        levels = [features[name] for name in ("res3", "res4", "res5")]
        predictions, maps = model.decoder(model.encoder(levels))
    assert instances.activation_maps.shape == (len(instances), groups, 8, 12)
    expected = reference_selection(*(part[0] for part in predictions))
    for found, (*_, n) in zip(instances.activation_maps, expected):
        torch.testing.assert_close(found, maps[0, :, n])


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the host would wait for what a CPU just asks."""
    monkeypatch.setattr(order, "waits", lambda _: True)


SELECTORS = [
    SetSelector(class_threshold=0.4),
    SetSelector(class_threshold=0.4, max_detections=3),
    SetSelector(class_threshold=0.4, nms="matrix"),
    SetSelector(class_threshold=0.4, nms="matrix", nms_kernel="linear", update_threshold=0.0),
    SetSelector(class_threshold=0.999),
]


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_gpu_looks_at_all_and_a_cpu_at_the_best(
    selector: SetSelector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With masks without pixels, which score 0 and are kept before what is below the threshold."""
    images = [random_predictions(seed) for seed in range(3)]
    for _, mask_logits, _ in images:
        mask_logits[::3] = -20
    expected = [select(selector, image) for image in images]
    as_on_a_gpu(monkeypatch)
    ranking = selector.rank(SetPredictions(*(torch.stack(parts) for parts in zip(*images))))
    for index, (count, image) in enumerate(zip(ranking.count.tolist(), expected, strict=True)):
        assert count == len(image.scores)
        best = ranking.best(index, count)
        torch.testing.assert_close(best.scores, image.scores, rtol=1e-6, atol=1e-7)
        assert torch.equal(best.classes, image.classes)
        assert torch.equal(best.indices, image.indices)
        assert torch.equal(best.masks[:], image.masks[:])


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize("nms", ["", "matrix"])
@pytest.mark.parametrize(
    ("panoptic", "most"), [(False, 1), (True, 2)], ids=["instances", "panoptic"]
)
def test_the_host_waits_once_for_a_batch(
    found: bool, nms: str, panoptic: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For how many there are; with segments, for these too."""
    opts = ["MODEL.SPARSE_INST.NMS_TYPE", nms, "MODEL.SPARSE_INST.DECODER.OUTPUT_IAM", True]
    if panoptic:
        opts += ["MODEL.SPARSE_INST.PANOPTIC_ON", True, "MODEL.STUFF_IDS", [1, 2]]
        opts += ["MODEL.SPARSE_INST.OBJECT_MASK_THRESHOLD", 0.0]
    model = eager_to_find(tiny_model("SparseInst", opts=opts), found)
    images = [picture(64, 96, seed=seed) for seed in range(3)]
    expected = model(images)
    as_on_a_gpu(monkeypatch)
    model(images)
    with count_waits() as waits:
        actual = model(images)
    assert waits.total == most, waits.where
    for result, other in zip(actual, expected, strict=True):
        fields, same = result["instances"].get_fields(), other["instances"].get_fields()
        assert torch.equal(fields["pred_masks"], same["pred_masks"])
        assert torch.equal(fields["pred_classes"], same["pred_classes"])
        assert torch.equal(fields["activation_maps"], same["activation_maps"])
        if panoptic:
            assert torch.equal(result["panoptic_seg"][0], other["panoptic_seg"][0])
    assert any(len(result["instances"]) for result in actual) == found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_precision_find_instances(dtype: torch.dtype) -> None:
    model, image = finder(), picture()
    expected = model([image])[0]["instances"]
    instances = model.to(dtype)([image])[0]["instances"]
    assert instances.scores.dtype == torch.float32
    assert instances.pred_masks.shape == expected.pred_masks.shape
    assert instances.scores.tolist() == pytest.approx(expected.scores.tolist(), abs=0.05)
