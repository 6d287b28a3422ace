"""InstanceFCN as a whole: scales, padding, training targets, classes."""

from typing import Any, NamedTuple

import pytest
import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from solo_family.methods.instance_fcn.head import WindowPredictions
from solo_family.methods.instance_fcn.scales import scaled_sizes
from solo_family.methods.instance_fcn.targets import SampledWindows, WindowSampler
from solo_family.modeling import order
from solo_family.modeling.base import MaskSegmentor
from solo_family.modeling.layers.remembered import constants_of_a_graph
from solo_family.modeling.recording import map_tensors
from solo_family.ops import gpu_kernels, paste_masks_triton, window_boxes_triton

from ...conftest import assert_finite_gradients, eager_to_find, picture, tiny_cfg, tiny_model
from ...versions import interpreted
from ...waits import Waits, count_waits

PREFIX = "MODEL.INSTANCE_FCN"


def model(*opts: object) -> MaskSegmentor:
    return tiny_model("InstanceFCN", opts=list(opts))


def inferred(network: nn.Module, image: dict) -> Instances:
    with torch.no_grad():
        return network([image])[0]["instances"]


def test_every_scale_gives_maps_of_its_size() -> None:
    network = model(f"{PREFIX}.TEST_SCALES", (32, 48, 96)).eval()
    with torch.no_grad():
        maps = network.multi_scale_maps(picture(64, 96)["image"], (128, 192))
    assert [tuple(scale.objectness_logits.shape) for scale in maps] == [(8, 12), (12, 18), (24, 36)]
    assert [scale.score_maps.shape[0] for scale in maps] == [9, 9, 9]
    # 128 x 192 pixels of the output over 8 x 12, 12 x 18 and 24 x 36 cells.
    assert [scale.cell_size for scale in maps] == [(side, side) for side in (16, 32 / 3, 16 / 3)]


def test_the_long_edge_is_limited() -> None:
    network = model(f"{PREFIX}.TEST_SCALES", (64,), "INPUT.MAX_SIZE_TEST", 80)
    assert (network.test_scales, network.max_size) == ((64,), 80)
    assert scaled_sizes(10, 100, (64,), 80) == [(8, 80)]
    assert scaled_sizes(1, 1000, (64,), 80) == [(1, 80)]


def test_without_scales_images_are_taken_as_they_are() -> None:
    one = eager_to_find(model(f"{PREFIX}.TEST_SCALES", (64,)))
    as_it_is = eager_to_find(model(f"{PREFIX}.TEST_SCALES", ()))
    first, second = inferred(one, picture(64, 96)), inferred(as_it_is, picture(64, 96))
    assert len(first) == len(second) > 0
    torch.testing.assert_close(first.scores, second.scores)
    assert torch.equal(first.pred_masks, second.pred_masks)


def test_no_window_has_its_centre_in_the_padding() -> None:
    """A batch is padded to a multiple of 32: 33 x 70 to 64 x 96."""
    network = model(f"{PREFIX}.TEST_SCALES", ()).eval()
    images = network.preprocess([picture(33, 70)["image"]])
    with torch.no_grad():
        predictions = network.fixed_part(network.backbone(images.tensor), (64, 96))
        (maps,) = network.dense_maps(predictions, [(33, 70)], [(33, 70)])
    assert images.tensor.shape[-2:] == (64, 96)
    assert maps.score_maps.shape == (9, 9, 18)
    assert maps.objectness_logits.shape == (9, 18)
    assert maps.features.shape[-2:] == (9, 18)


def test_proposals_are_ranked_and_of_one_class() -> None:
    instances = inferred(eager_to_find(model()), picture())
    assert (instances.scores[:-1] >= instances.scores[1:]).all()
    assert not instances.pred_classes.any()
    assert 1 < len(instances) <= 50


@pytest.mark.parametrize(
    "opts",
    [(f"{PREFIX}.SCORE", "product"), (f"{PREFIX}.NMS_TYPE", "matrix", f"{PREFIX}.NMS_PRE", 200)],
)
def test_other_scores_and_nms(opts: tuple) -> None:
    plain = inferred(eager_to_find(model()), picture())
    other = inferred(eager_to_find(model(*opts)), picture())
    assert len(other) > 0
    assert other.scores[:40].tolist() != plain.scores[:40].tolist()


def test_a_perfect_head_finds_a_rectangle() -> None:
    """With score maps that are the truth's, the best proposal is the object."""
    network = model(f"{PREFIX}.TEST_SCALES", ()).eval()
    truth = torch.zeros((64, 96), dtype=torch.bool)
    truth[20:44, 40:60] = True

    def head(features: torch.Tensor) -> WindowPredictions:
        cells = truth[2::4, 2::4].float() * 20 - 10
        objectness = torch.full((1, 16, 24), -9.0)
        objectness[0, 8, 12] = 9.0
        return WindowPredictions(cells.expand(1, 9, 16, 24), objectness, features)

    network.head.forward = head
    best = inferred(network, picture(64, 96))[0]
    overlap = (best.pred_masks[0] & truth).sum() / (best.pred_masks[0] | truth).sum()
    assert overlap > 0.9


def overfitted(*opts: object) -> tuple[nn.Module, dict, list[dict[str, float]]]:
    image = picture(64, 96, objects=1, seed=3)
    masks = image["instances"].gt_masks.tensor
    masks.zero_()
    masks[0, 20:46, 30:56] = True
    image["image"] = torch.where(masks[0], 220, 40).to(torch.uint8).expand(3, -1, -1)
    network = model(f"{PREFIX}.TEST_SCALES", (), "MODEL.BACKBONE.NORM_EVAL", True, *opts)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    history = []
    for _ in range(40):
        losses = network([image])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: float(loss.detach()) for name, loss in losses.items()})
    return network.eval(), image, history


def test_it_learns_an_object() -> None:
    network, image, history = overfitted(f"{PREFIX}.SHORT_OF_POSITIVES", "repeat")
    assert set(history[0]) == {"loss_objectness", "loss_mask"}
    assert 0.5 < history[0]["loss_mask"] < 0.9  # about log 2
    assert history[-1]["loss_mask"] < 0.5 * history[0]["loss_mask"]
    best = inferred(network, image)[0].pred_masks[0]
    truth = image["instances"].gt_masks.tensor[0]
    assert (best & truth).sum() / (best | truth).sum() > 0.6


def test_negative_windows_may_learn_empty_masks() -> None:
    empty = picture(objects=0)
    assert float(model()([empty])["loss_mask"].detach()) == 0
    assert float(model(f"{PREFIX}.LOSS.NEGATIVE_MASKS", True)([empty])["loss_mask"].detach()) > 0.5


def test_padding_is_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of a small image beside a large one have their centres in it."""
    farthest = []
    draw = WindowSampler.__call__

    def recorded(self: WindowSampler, *args: Any) -> SampledWindows:
        windows = draw(self, *args)
        farthest.append(windows.centers.amax(0).tolist())
        return windows

    monkeypatch.setattr(WindowSampler, "__call__", recorded)
    model()([picture(32, 36, objects=0), picture(128, 128, objects=0)])
    assert farthest[0] == [7, 8]
    assert max(farthest[1]) > 20


CLASSIFY = (f"{PREFIX}.CLASSIFY", True)


@pytest.mark.parametrize("count", [3, 80])
def test_with_a_classifier_proposals_have_classes(count: int) -> None:
    network = tiny_model("InstanceFCN", count, list(CLASSIFY))
    network.classifier.linear.weight.data.normal_()
    instances = inferred(eager_to_find(network), picture())
    assert len(instances) > 0
    assert 0 <= instances.pred_classes.min() <= instances.pred_classes.max() < count
    assert instances.pred_classes.any()


def test_the_classifier_is_trained_jointly() -> None:
    network, image, history = overfitted(*CLASSIFY)
    assert history[-1]["loss_class"] < 0.5 * history[0]["loss_class"]
    assert inferred(network, image)[0].pred_classes[0] == image["instances"].gt_classes[0]


@pytest.mark.parametrize("objects", [(0, 0), (0, 2)])
def test_with_a_classifier_images_without_objects_train(objects: tuple[int, int]) -> None:
    network = model(*CLASSIFY)
    losses = network([picture(objects=n, seed=n) for n in objects])
    assert_finite_gradients(network, losses)


def test_a_dilated_model_without_a_pyramid() -> None:
    opts = [
        *("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.OUTPUT_STRIDE", 8),
        *("MODEL.TIMM.NAME", "tf_efficientnet_lite0", "MODEL.TIMM.OUT_FEATURES", ["res3"]),
    ]
    network = model(*opts, f"{PREFIX}.IN_FEATURE", "res3")
    assert network.stride == 8
    assert network.head.instance_branch.conv.in_channels == 320
    assert all(loss.isfinite() for loss in network([picture()]).values())


def test_the_papers_backbone_and_window() -> None:
    opts = [
        *("MODEL.BACKBONE.NAME", "build_vgg_atrous_backbone", f"{PREFIX}.IN_FEATURE", "conv5"),
        *(f"{PREFIX}.NUM_POSITIONS", 5, f"{PREFIX}.WINDOW_SIZE", 21),
    ]
    assert tiny_cfg("InstanceFCN", opts=opts).MODEL.INSTANCE_FCN.IN_FEATURE == "conv5"
    network = model(*opts)
    assert network.stride * network.selector.window_size == 168
    assert all(loss.isfinite() for loss in network([picture(200, 200)]).values())


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize(
    ("opts", "most"),
    [
        ((f"{PREFIX}.TEST_SCALES", ()), 2),
        ((f"{PREFIX}.TEST_SCALES", (48, 72)), 2),
        ((f"{PREFIX}.NMS_TYPE", "matrix", f"{PREFIX}.NMS_PRE", 200), 1),
        ((*CLASSIFY,), 2),
        ((*CLASSIFY, f"{PREFIX}.MAX_PER_IMG", 1000), 2),
        ((*CLASSIFY, f"{PREFIX}.NMS_THR", 0.01), 3),
    ],
    ids=["one scale", "two scales", "matrix NMS", "classifier", "all windows", "two rounds of NMS"],
)
def test_the_host_waits_at_most_three_times(
    found: bool, opts: tuple, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the one of torchvision's NMS of boxes."""
    network, image = eager_to_find(model(*opts), found), picture()
    expected = inferred(network, image)
    monkeypatch.setattr(order, "waits", lambda _: True)
    inferred(network, image)
    with count_waits() as waits:
        actual = inferred(network, image)
    assert waits.total <= most, waits.where
    assert (len(actual) > 0) == found
    if network.classifier is None:
        assert torch.equal(actual.scores, expected.scores)
    # Sums over the features of all scales come in another order than those of one.
    torch.testing.assert_close(actual.scores, expected.scores)
    assert torch.equal(actual.pred_masks, expected.pred_masks)
    assert torch.equal(actual.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(actual.pred_classes, expected.pred_classes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_precision_propose(dtype: torch.dtype) -> None:
    network, image = eager_to_find(model(*CLASSIFY)), picture()
    expected = inferred(network, image)
    proposals = inferred(network.to(dtype), image)
    assert proposals.scores.dtype == torch.float32
    assert proposals.scores[:5].tolist() == pytest.approx(expected.scores[:5].tolist(), abs=0.05)


class Kinds(NamedTuple):
    """What a graph would return: tensors of these shapes and dtypes; and where it would wait."""

    tensors: list[tuple[torch.Size, torch.dtype]]
    waits: Waits


def recorded(network: MaskSegmentor, image: dict, monkeypatch: pytest.MonkeyPatch) -> Kinds:
    found: list[Kinds] = []

    def run(model: nn.Module, first: Any, finish: Any, batch: Tensor, settings: Any) -> Any:
        with constants_of_a_graph():
            # As it is rehearsed and then captured.
            first(batch)
            with count_waits() as waits:
                fixed = first(batch)
        tensors: list[Tensor] = []
        map_tensors(lambda tensor: tensors.append(tensor) or tensor, fixed)
        found.append(Kinds([(tensor.shape, tensor.dtype) for tensor in tensors], waits))
        return finish(fixed)

    monkeypatch.setattr(network.graphs, "run", run)
    monkeypatch.setattr(order, "waits", lambda _: True)
    inferred(network, image)
    return found[0]


@pytest.mark.parametrize("score", ["objectness", "product"])
def test_the_graph_of_all_scales_never_waits_and_has_sizes_of_any_picture(
    score: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opts = [f"{PREFIX}.SCORE", score, *CLASSIFY]
    cases = [(True, 1), (True, 2), (False, 1)]
    kinds = [
        recorded(eager_to_find(model(*opts), found), picture(seed=seed), monkeypatch)
        for found, seed in cases
    ]
    assert kinds[0].tensors == kinds[1].tensors == kinds[2].tensors
    assert all(one.waits.total == 0 for one in kinds), kinds[0].waits.where


@interpreted
def test_the_kernels_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of windows and of pasting, in Triton's interpreter where there is no GPU."""
    opts = [f"{PREFIX}.SCORE", "product", f"{PREFIX}.MAX_PER_IMG", 12]
    network, image = eager_to_find(model(*opts, f"{PREFIX}.TEST_SCALES", (32, 48))), picture(40, 48)
    expected = inferred(network, image)
    monkeypatch.setattr(order, "waits", lambda _: True)
    ran: set[str] = set()

    def runs(kernel: str, _: Tensor) -> bool:
        if kernel in ("windows", "paste"):
            ran.add(kernel)
        return kernel in ran

    monkeypatch.setattr(gpu_kernels, "runs", runs)
    for name, value in {"_WINDOWS": 512, "_ROWS": 16}.items():
        monkeypatch.setattr(window_boxes_triton, name, value)
    for name, value in {"_REGION_HEIGHT": 64, "_REGION_WIDTH": 64, "_ROWS": 64}.items():
        monkeypatch.setattr(paste_masks_triton, name, value)
    actual = inferred(network, image)
    assert ran == {"windows", "paste"}
    assert len(actual) > 10
    torch.testing.assert_close(actual.scores, expected.scores)
    torch.testing.assert_close(actual.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(actual.pred_masks, expected.pred_masks)
