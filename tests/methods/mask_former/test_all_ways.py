"""Results, and exported outputs made results by the runtime: both against loops over masks."""

import pickle
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solo_family.class_maps import made, with_late_class_maps, without_class_maps
from solo_family.export.query_results import query_results
from solo_family.export.results import Prediction, Sizes
from solo_family.methods.mask_former.late_scores import LateScores
from solo_family.methods.mask_former.model import MaskFormer
from solo_family.methods.mask_former.predictor import MaskPredictions
from solo_family.ops.resize import ResizedMasks

from ...conftest import picture, tiny_model

N, K, E = 9, 3, 4
PADDED, IMAGE = (16, 24), (13, 20)
STUFF = (1,)
TEST = "MODEL.MASK_FORMER.TEST"
# A score of every class and pixel; each pixel's segment, and the segments' classes; the instances:
# (score, class, mask).
Found = tuple[np.ndarray, tuple[list, list[int]], list[tuple[float, int, list]]]


def predictions(seed: int) -> MaskPredictions:
    """Of one image and two layers, of which the last counts."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(1, E, 3, 4, generator=generator)
    features = F.interpolate(features, PADDED, mode="bicubic")
    embeddings = 3 * torch.randn(2, 1, N, E, generator=generator)
    embeddings[-1, 0, 2] = 0
    class_logits = 2 * torch.randn(2, 1, N, K + 1, generator=generator)
    class_logits[-1, 0, 5:7, STUFF[0]] = 5  # two masks of one stuff class
    return MaskPredictions(class_logits, embeddings, features)


def reference(image: MaskPredictions, model: nn.Module) -> Found:
    probabilities = image.class_logits[-1, 0].softmax(1)
    height, width = IMAGE
    logits = [
        sum(weight * feature for weight, feature in zip(embedding, image.mask_features[0]))
        for embedding in image.mask_embeddings[-1, 0].tolist()
    ]
    logits = [mask[:height, :width] for mask in logits]
    soft = [1 / (1 + (-mask).exp()) for mask in logits]
    rules = model.make_results
    return (
        semantic(probabilities, soft, hard=rules.hard_assignment),
        panoptic(probabilities, soft, rules.object_threshold, rules.overlap_threshold),
        instances(probabilities, logits, rules.max_instances, rules.instance_threshold),
    )


def semantic(probabilities: Tensor, soft: list[Tensor], hard: bool) -> np.ndarray:
    result = torch.zeros(K, *IMAGE)
    if not hard:
        for mask, of_classes in zip(soft, probabilities):
            for category in range(K):
                result[category] += of_classes[category] * mask
        return result.numpy()
    objects = [i for i in range(N) if int(probabilities[i].argmax()) < K]
    for y, x in product(*map(range, IMAGE)):
        i = max(objects, key=lambda i: float(probabilities[i].max() * soft[i][y, x]))
        result[probabilities[i].argmax(), y, x] = probabilities[i].max() * soft[i][y, x]
    return result.numpy()


def panoptic(
    probabilities: Tensor, soft: list[Tensor], object_threshold: float, overlap_threshold: float
) -> tuple[list, list[int]]:
    scores, classes = probabilities.max(1).values.tolist(), probabilities.argmax(1).tolist()
    chosen = [i for i in range(N) if classes[i] < K and scores[i] > object_threshold]
    ids, found = np.zeros(IMAGE, int), []
    places = list(product(*map(range, IMAGE)))
    winner: dict[tuple[int, ...], int] = {
        (y, x): max(chosen, key=lambda i: scores[i] * float(soft[i][y, x])) for y, x in places
    }
    stuff: dict[int, int] = {}
    for i in chosen:
        won = [place for place in places if winner[place] == i]
        area = sum(float(soft[i][y, x]) >= 0.5 for y, x in places)
        if not won or not area or len(won) < overlap_threshold * area:
            continue
        if classes[i] not in stuff:
            found.append(classes[i])
        number = stuff.get(classes[i], len(found))
        if classes[i] in STUFF:
            stuff[classes[i]] = number
        for y, x in won:
            ids[y, x] = number
    return ids.tolist(), found


def instances(
    probabilities: Tensor, logits: list[Tensor], limit: int, threshold: float
) -> list[tuple[float, int, list]]:
    pairs = [
        (float(probabilities[i, category]), i, category)
        for i, category in product(range(N), range(K))
        if category not in STUFF
    ]
    found = []
    for score, i, category in sorted(pairs, reverse=True)[:limit]:
        inside = logits[i] > 0
        values = logits[i][inside].sigmoid().tolist()
        quality = sum(values) / len(values) if values else 0.0
        if score * quality > threshold:
            found.append((score * quality, category, inside.tolist()))
    return sorted(found, key=lambda one: -one[0])


def of_results(model: nn.Module) -> Found:
    with torch.no_grad():
        (result,) = model.predict({}, PADDED, [IMAGE], [IMAGE])
    ids, infos = result["panoptic_seg"]
    found = result["instances"]
    parts = found.scores, found.pred_classes, found.pred_masks
    return (
        result["sem_seg"].numpy(),
        (ids.tolist(), [info["category_id"] for info in infos]),
        list(zip(*(part.tolist() for part in parts))),
    )


def of_runtime(model: nn.Module) -> Found:
    with torch.no_grad():
        (found,) = results_of_runtime(model, model.predict_fixed({}, PADDED, None, None))
    ids, infos = found.panoptic_seg
    parts = found.instances.scores, found.instances.classes, found.instances.masks
    return (
        found.sem_seg,
        (ids.tolist(), [info["category_id"] for info in infos]),
        list(zip(*(part.tolist() for part in parts))),
    )


def results_of_runtime(model: nn.Module, outputs: dict[str, Tensor]) -> list[Prediction]:
    settings = model.export_settings()
    return [
        query_results(
            probabilities.numpy(),
            logits.numpy(),
            Sizes(PADDED, IMAGE, IMAGE),
            settings["thresholds"],
            settings["results"],
        )
        for probabilities, logits in zip(outputs["class_probabilities"], outputs["mask_logits"])
    ]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("semantic_method", ["probabilistic", "hard"])
@pytest.mark.parametrize(
    "thresholds",
    [
        (f"{TEST}.OBJECT_MASK_THRESHOLD", 0.0),
        (f"{TEST}.OBJECT_MASK_THRESHOLD", 0.45, f"{TEST}.OVERLAP_THRESHOLD", 0.4),
        (f"{TEST}.INSTANCE_SCORE_THRESHOLD", 0.3, "TEST.DETECTIONS_PER_IMAGE", 5),
    ],
)
def test_every_way_is_the_reference(seed: int, semantic_method: str, thresholds: tuple) -> None:
    opts = [f"{TEST}.SEMANTIC_INFERENCE_METHOD", semantic_method]
    model, image = tiny_of_image(seed, *opts, *thresholds)
    sem_seg, segments, found = reference(image, model)
    assert segments[1]
    assert 1 < len(found) < N * (K - len(STUFF))
    for way in (of_results, of_runtime):
        its_sem_seg, its_segments, its_found = way(model)
        np.testing.assert_allclose(its_sem_seg, sem_seg, rtol=1e-4, atol=1e-5)
        assert its_segments == segments
        assert [one[1:] for one in its_found] == [one[1:] for one in found]
        scores = [one[0] for one in found]
        assert [one[0] for one in its_found] == pytest.approx(scores, rel=1e-4)


def tiny_of_image(seed: int, *opts: object) -> tuple[nn.Module, MaskPredictions]:
    model = tiny_model("MaskFormer", opts=["MODEL.STUFF_IDS", list(STUFF), *opts]).eval()
    image = predictions(seed)
    model.sem_seg_head.forward = lambda features: image
    return model, image


def test_scores_of_classes_are_left_out_beside_segments_where_nobody_reads_them() -> None:
    model, image = tiny_of_image(0, f"{TEST}.OBJECT_MASK_THRESHOLD", 0.0)
    _, segments, found = reference(image, model)
    with without_class_maps(), torch.no_grad():
        (result,) = model.predict({}, PADDED, [IMAGE], [IMAGE])
        (other,) = results_of_runtime(model, model.predict_fixed({}, PADDED, None, None))
    assert "sem_seg" not in result
    assert other.sem_seg is None
    for ids, infos in (result["panoptic_seg"], other.panoptic_seg):
        assert (ids.tolist(), [info["category_id"] for info in infos]) == segments
    assert len(result["instances"]) == len(other.instances) == len(found)


@pytest.mark.parametrize("method", ["soft", "hard"])
@pytest.mark.parametrize("by_rows", [True, False])
def test_scores_of_classes_are_made_when_they_are_asked_for(
    method: str, by_rows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opts = [f"{TEST}.OBJECT_MASK_THRESHOLD", 0.0, f"{TEST}.SEMANTIC_INFERENCE_METHOD", method]
    model, image = tiny_of_image(0, *opts)
    sem_seg, segments, found = reference(image, model)
    monkeypatch.setattr(ResizedMasks, "by_rows", by_rows)
    with with_late_class_maps(), torch.no_grad():
        (result,) = model.predict({}, PADDED, [IMAGE], [IMAGE])
    ids, infos = result["panoptic_seg"]
    assert (ids.tolist(), [info["category_id"] for info in infos]) == segments
    assert len(result["instances"]) == len(found)
    late = result["sem_seg"]
    assert isinstance(late, LateScores)
    assert late.shape == sem_seg.shape
    with torch.autocast("cpu", torch.bfloat16):  # around what reads them
        np.testing.assert_allclose(made(late).numpy(), sem_seg, rtol=1e-4, atol=1e-5)
        for labels in (late.to("cpu").argmax(dim=0), pickle.loads(pickle.dumps(late)).argmax(0)):
            assert np.array_equal(labels.numpy(), sem_seg.argmax(0))


def test_late_scores_that_are_no_numbers_have_the_class_of_the_others() -> None:
    probabilities = torch.full((2, K + 1), 0.25)
    probabilities[1, 1] = torch.nan
    masks = ResizedMasks(torch.randn(2, 4, 4), (16, 16), (16, 16), (16, 16))
    late = LateScores(probabilities, masks, lambda *_: torch.full((K, 16, 16), torch.nan), True)
    assert (late.argmax() == 0).all()


def test_late_scores_take_the_memory_of_the_masks() -> None:
    """Of 100 masks and 133 classes a twentieth of theirs, which a list of results has for each."""
    model, _ = tiny_of_image(0)
    with with_late_class_maps(), torch.no_grad():
        (late,) = model.predict({}, PADDED, [IMAGE], [(800, 1200)])
    assert len(pickle.dumps(late["sem_seg"])) < 4 * N * PADDED[0] * PADDED[1] + 10_000


class WithMargin(MaskFormer):
    """A user's model that reads what it predicts."""

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        found = super().forward(batched_inputs)
        return [one | {"margin": one["sem_seg"].topk(2, dim=0).values} for one in found]


class WithOtherLoss(MaskFormer):
    """A user's model whose inference is its parent's."""

    def losses(self, *arguments: Any) -> dict[str, Tensor]:
        return super().losses(*arguments)


@pytest.mark.parametrize(("kind", "reads"), [(WithMargin, True), (WithOtherLoss, False)])
def test_scores_of_classes_are_there_for_a_subclass_that_may_read_them(
    kind: type[MaskFormer], reads: bool
) -> None:
    model = tiny_model("MaskFormer").eval()
    model.__class__ = kind
    with without_class_maps(), torch.no_grad():
        (found,) = model([picture()])
    assert ("sem_seg" in found) == ("margin" in found) == reads


def test_scores_of_classes_are_never_left_out_alone() -> None:
    model, image = tiny_of_image(0, f"{TEST}.PANOPTIC_ON", False)
    sem_seg, _, _ = reference(image, model)
    with without_class_maps(), without_class_maps(False), torch.no_grad():
        (result,) = model.predict({}, PADDED, [IMAGE], [IMAGE])
        (other,) = results_of_runtime(model, model.predict_fixed({}, PADDED, None, None))
    for found in (result["sem_seg"].numpy(), other.sem_seg):
        np.testing.assert_allclose(found, sem_seg, rtol=1e-4, atol=1e-5)


def test_the_runtime_sums_many_masks_and_pixels() -> None:
    """More than are multiplied at a time, with logits whose exponentials are infinite."""
    generator = np.random.default_rng(0)
    probabilities = generator.random((70, 3), np.float32)
    logits = generator.normal(scale=60, size=(70, 9, 11)).astype(np.float32)
    size = (9, 11)
    names = ("panoptic", "instance", "hard_assignment")
    settings = dict.fromkeys(names, False) | {"semantic": True, "resize_first": True}
    with np.errstate(all="raise", under="ignore"):
        large = Sizes((72, 88), (70, 81), (97, 113))
        found = query_results(probabilities, logits, large, {}, settings).sem_seg
        exact = query_results(probabilities, logits, Sizes(size, size, size), {}, settings).sem_seg
    soft = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = np.einsum("nk,nhw->khw", probabilities[:, :-1].astype(np.float64), soft)
    np.testing.assert_allclose(exact, expected, rtol=1e-5)
    masks = torch.from_numpy(logits)[None]
    masks = F.interpolate(masks, (72, 88), mode="bilinear")[..., :70, :81]
    masks = F.interpolate(masks, (97, 113), mode="bilinear")[0]
    expected = torch.einsum("nk,nhw->khw", torch.from_numpy(probabilities[:, :-1]), masks.sigmoid())
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
