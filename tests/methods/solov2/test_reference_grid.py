"""MODEL.SOLOV2.GRID_REFERENCE_SIZE: cells and coordinates of one size in pixels."""

import math
from pathlib import Path

import pytest
import torch
from detectron2.data import Metadata

from solo_family.config import check_config
from solo_family.errors import ConfigError, SoloFamilyError
from solo_family.export.formats import (
    ExportGraph,
    GraphInput,
    write_onnx,
    write_torchscript,
)
from solo_family.export.write import Options, export_model
from solo_family.methods.grid.assigner import GridAssigner
from solo_family.methods.grid.category_branch import cell_scores_of
from solo_family.methods.grid.layout import GridLayout
from solo_family.methods.grid.local_masks import decode_locally
from solo_family.methods.grid.mask_decoder import MaskDecoder
from solo_family.modeling import order
from solo_family.modeling.base import MaskSegmentor
from solo_family.modeling.layers import append_coords
from solo_family.ops.resize import resize_bilinear, sample_cells

from ...conftest import eager_to_find, picture, tiny_cfg, tiny_model

KEY = "MODEL.SOLOV2.GRID_REFERENCE_SIZE"
REFERENCE = (64, 96)
SIDES = (12, 10, 8, 6, 4)


def model_of(
    reference: tuple[int, int] | tuple = REFERENCE, candidates: int = 500
) -> MaskSegmentor:
    opts = [KEY, reference, "MODEL.SOLOV2.NMS_PRE", candidates]
    opts += ["TEST.DETECTIONS_PER_IMAGE", candidates]
    return eager_to_find(tiny_model("SOLOv2", opts=opts))


def test_a_grid_grows_in_proportion_to_the_padded_input_and_shrinks_with_it() -> None:
    layout = GridLayout(SIDES, REFERENCE)
    assert layout.shapes((64, 96)) == tuple((side, side) for side in SIDES)
    assert layout.shapes((128, 288)) == tuple((2 * side, 3 * side) for side in SIDES)
    for size in ((32, 32), (96, 64), (224, 32)):
        expected = [
            tuple(math.ceil(length / (span / side)) for length, span in zip(size, REFERENCE))
            for side in SIDES
        ]
        assert list(layout.shapes(size)) == expected
    assert set(GridLayout(SIDES).shapes((4096, 32))) == {(side, side) for side in SIDES}


@pytest.mark.parametrize("side", [5, 8, 16, 37])
def test_cells_that_fill_a_map_are_sampled_as_the_published_ones(side: int) -> None:
    features = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    found = sample_cells(features, (side, side), (16 / side, 24 / side))
    torch.testing.assert_close(found, resize_bilinear(features, (side, side)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_cells_are_sampled_along_one_axis_after_the_other(
    dtype: torch.dtype, order: torch.memory_format
) -> None:
    """Bit for bit, in float32 whatever the features are in, and in any order in memory."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 8, 6, generator=generator).to(dtype, memory_format=order)
    found = sample_cells(features, (5, 7), (1.6, 1.0))
    expected = features.float()
    for axis, count, length in ((2, 5, 1.6), (3, 7, 1.0)):
        lines = []
        for cell in range(count):
            last = expected.shape[axis] - 1
            place = ((torch.tensor(cell) + 0.5) * length - 0.5).clamp(0, last)
            a, b = int(place), min(int(place) + 1, last)
            before, after = expected.select(axis, a), expected.select(axis, b)
            lines.append(before + (place - a) * (after - before))
        expected = torch.stack(lines, axis)
    assert torch.equal(found, expected.to(dtype))
    assert sample_cells(features, (8, 6), (1.0, 1.0)) is features


def test_cells_beyond_a_map_have_the_values_of_its_border() -> None:
    features = torch.arange(6.0).reshape(1, 1, 1, 6)
    found = sample_cells(features, (2, 4), (1.0, 2.0))
    # Centres at 0.5, 2.5, 4.5 and, beyond the last pixel's centre, 6.5.
    assert found.flatten().tolist() == [0.5, 2.5, 4.5, 5.0] * 2
    assert sample_cells(features.bfloat16(), (1, 2), (1.0, 2.0)).dtype == torch.bfloat16


def test_a_coordinate_is_the_same_at_the_same_pixel_of_every_image() -> None:
    small, large = torch.zeros(1, 1, 8, 12), torch.zeros(1, 1, 20, 30)
    published = append_coords(small)
    assert torch.equal(append_coords(small, (8, 12)), published)
    found = append_coords(large, (8, 12))
    torch.testing.assert_close(found[:, :, :8, :12], published)
    steps = found[0, 1, 0].diff()
    torch.testing.assert_close(steps, torch.full((29,), 2 / 11))


def test_an_input_of_the_reference_size_gives_what_the_published_grids_give() -> None:
    """Losses, and results; another size gives others."""
    published, ours = model_of(()), model_of()
    ours.load_state_dict(published.state_dict())
    inputs = [picture(*REFERENCE, seed=seed) for seed in range(2)]
    expected_losses, losses = (model.train()(inputs) for model in (published, ours))
    for name, loss in expected_losses.items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-4, atol=1e-5)
    expected, found = (model.eval()(inputs)[0]["instances"] for model in (published, ours))
    assert len(expected)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-5)
    assert (found.pred_masks != expected.pred_masks).float().mean() < 1e-4
    larger = picture(128, 192)
    outputs = [
        model.run_head(model.backbone(model.preprocess([larger["image"]]).tensor), (128, 192))
        for model in (published, ours)
    ]
    assert outputs[0].category_logits[0].shape[-2:] == (12, 12)
    assert outputs[1].category_logits[0].shape[-2:] == (24, 24)
    assert outputs[1].kernels.shape[1] == 4 * outputs[0].kernels.shape[1]


@pytest.mark.parametrize("size", [(64, 96), (160, 128), (32, 256)])
def test_an_object_has_the_cells_of_its_pixels_in_an_image_of_any_size(
    size: tuple[int, int],
) -> None:
    """Against the cell that a pixel lies in, for a centre region of one point."""
    masks = torch.zeros(3, 32, 90, dtype=torch.bool)
    boxes = [(3, 5, 14, 16), (40, 12, 49, 22), (66, 3, 81, 20)]
    for mask, (x0, y0, x1, y1) in zip(masks, boxes):
        mask[y0:y1, x0:x1] = True
    levels = [(12, (1.0, 24.0)), (7, (12.0, 48.0))]
    assigner = GridAssigner(
        num_grids=[side for side, _ in levels],
        scale_ranges=[span for _, span in levels],
        sigma=0.0,
        num_classes=3,
        reference=REFERENCE,
    )
    targets = assigner(torch.tensor(boxes).float(), torch.tensor([0, 1, 2]), masks, size)
    for (side, (low, high)), level in zip(levels, targets):
        rows, columns = (math.ceil(n * side / of) for n, of in zip(size, REFERENCE))
        expected = []
        for number, (x0, y0, x1, y1) in enumerate(boxes):
            if low <= math.sqrt((x1 - x0) * (y1 - y0)) <= high:
                y, x = (y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2
                row, column = int(y / (REFERENCE[0] / side)), int(x / (REFERENCE[1] / side))
                expected.append((number, row * columns + column))
        assert list(zip(level.objects.tolist(), level.cells.tolist())) == expected
        assert len(level.labels) == rows * columns
        assert {level.labels[cell].item() for _, cell in expected} == {n for n, _ in expected}


def test_a_batch_of_several_sizes_trains_and_predicts_as_single_images() -> None:
    model = model_of()
    inputs = [picture(64, 96), picture(100, 150), picture(30, 200), picture(64, 90)]
    together = model(inputs)
    for item, result in zip(inputs, together):
        (alone,) = model([item])
        assert len(alone["instances"])
        torch.testing.assert_close(
            result["instances"].scores, alone["instances"].scores, rtol=0, atol=1e-5
        )
        differ = result["instances"].pred_masks != alone["instances"].pred_masks
        assert differ.float().mean() < 1e-4
    model.train()
    losses = model(inputs)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for parameter in model.parameters()
        if parameter.requires_grad
    )


def test_masks_stay_within_a_window_of_the_reference_size_around_their_cell() -> None:
    """The cell is in the middle; along the shorter axis it is all of the map."""

    class Everywhere(MaskDecoder):
        def soft(self, outputs, size, cells, counts=None):
            return torch.full((len(cells), *size), 0.75)

    layout, size = GridLayout((4, 2), (64, 96)), (128, 96)
    decoder = decode_locally(Everywhere(), layout, torch.zeros(1), size, 4)
    found = decoder.soft(None, (32, 24), torch.arange(8 * 4 + 4 * 2))
    assert torch.equal(decoder.traceable(None, (32, 24), torch.arange(40)), found)
    places = [(row + 0.5) * 16 for row in range(8) for _ in range(4)]
    places += [(row + 0.5) * 32 for row in range(4) for _ in range(2)]
    for mask, y in zip(found, places, strict=True):
        rows = [abs((row + 0.5) * 4 - y) <= 32 for row in range(32)]
        assert (mask > 0).all(1).tolist() == rows
        assert mask.max() == 0.75
    # In an image of the reference size, or a smaller one, it is all of the map.
    for size in ((64, 96), (32, 64)):
        local = decode_locally(Everywhere(), layout, torch.zeros(1), size, 4)
        cells = torch.arange(sum(r * c for r, c in layout.shapes(size)))
        assert (local.soft(None, (size[0] // 4, size[1] // 4), cells) == 0.75).all()
    plain = Everywhere()
    assert decode_locally(plain, GridLayout((4, 2)), torch.zeros(1), size, 4) is plain


def test_the_way_of_a_gpu_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of()
    inputs = [picture(96, 200)]
    expected = model(inputs)[0]["instances"]
    monkeypatch.setattr(order, "waits", lambda _: True)
    found = model(inputs)[0]["instances"]
    assert len(expected)
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-6)
    assert torch.equal(found.pred_classes, expected.pred_classes)


def test_cells_are_told_the_strides_of_their_levels() -> None:
    model = model_of()
    grid = model.grid((96, 96))
    counts = [math.ceil(side * 1.5) * side for side in SIDES]
    strides = (8, 8, 16, 32, 32)
    assert grid.strides.tolist() == [s for s, n in zip(strides, counts) for _ in range(n)]
    assert grid.level_ends.tolist() == torch.tensor(counts).cumsum(0).tolist()
    images = model.preprocess([picture(96, 96)["image"]]).tensor
    with torch.no_grad():
        outputs = model.run_head(model.backbone(images), (96, 96))
    assert cell_scores_of(outputs.category_logits).shape[1] == len(grid.strides)


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_torchscript, write_onnx])
def test_a_traced_graph_follows_the_size_of_its_input(write, tmp_path: Path) -> None:
    model = model_of(candidates=700)
    graph = ExportGraph(model).eval()
    names = ["scores", "classes", "masks", "candidates"]
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 255
    given = GraphInput({"images": images, "score_threshold": torch.tensor(0.1)}, dynamic=True)
    path = tmp_path / "model"
    write(graph, given, names, path)
    for size in ((64, 96), (160, 128), (32, 32)):
        other = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1)) * 255
        with torch.no_grad():
            scores = graph(other, torch.tensor(0.1))[0]
        if write is write_torchscript:
            found = torch.jit.load(str(path))(other, torch.tensor(0.1))[0]
        else:
            import onnxruntime

            session = onnxruntime.InferenceSession(str(path))
            feed = {"images": other.numpy(), "score_threshold": torch.tensor(0.1).numpy()}
            found = torch.from_numpy(session.run(["scores"], feed)[0])
        # More than an image of 32 x 32 pixels has, whose grids are the smallest.
        assert found.shape == scores.shape == (1, 700)
        torch.testing.assert_close(found, scores, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("method", "key", "value", "message"),
    [
        ("SOLO", "MODEL.SOLO.GRID_REFERENCE_SIZE", (64, 64), "weights fix how many"),
        (
            "DecoupledSOLO",
            "MODEL.SOLO.GRID_REFERENCE_SIZE",
            (64, 64),
            "Decoupled SOLO are channels",
        ),
        ("SOLO", KEY, (64, 64), "SOLO does not read it"),
        ("SparseInst", KEY, (64, 64), "SparseInst does not read it"),
        ("MaskFormer", KEY, (64, 64), "MaskFormer does not read it"),
        ("SOLOv2", KEY, (250, 250), r"for instance \(256, 256\)"),
        ("SOLOv2", KEY, (0, 64), "multiples of 32"),
        ("SOLOv2", KEY, (64,), "height and width"),
        ("SOLOv2", KEY, (64.0, 64.0), "height and width"),
        ("SOLOv2", KEY, (-64, 64), "multiples of 32"),
    ],
)
def test_what_can_not_be_is_refused(method: str, key: str, value: tuple, message: str) -> None:
    cfg = tiny_cfg(method)
    cfg.defrost()
    node, name = key.rsplit(".", 1)
    cfg.MODEL[node.rpartition(".")[2]][name] = value
    with pytest.raises(ConfigError, match=message) as error:
        check_config(cfg)
    assert key in str(error.value)


def test_a_stride_that_does_not_divide_the_padding_is_refused() -> None:
    cfg = tiny_cfg("SOLOv2", opts=[KEY, (64, 64)])
    cfg.defrost()
    cfg.MODEL.SOLOV2.FPN_INSTANCE_STRIDES = [8, 8, 24, 32, 32]
    with pytest.raises(ConfigError, match="FPN_INSTANCE_STRIDES has 24"):
        check_config(cfg)


def test_a_program_of_torch_export_takes_one_size(tmp_path: Path) -> None:
    keys = ["MODEL.SOLOV2.GRID_REFERENCE_SIZE", (64, 96)]
    cfg = tiny_cfg("SOLOv2", opts=keys)
    options = Options(format="torch_export")
    with pytest.raises(SoloFamilyError, match=r"one size only.*--size HEIGHT WIDTH.*onnx"):
        export_model(tiny_model("SOLOv2", opts=keys), cfg, Metadata(), tmp_path / "e", options)
    assert tiny_model("SOLOv2").one_size_formats == ()
