"""Encoder and decoder of SparseInst, recomputed from their weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...conftest import picture, tiny_model

State = dict[str, Tensor]
NAME = "MODEL.SPARSE_INST.DECODER.NAME"
DECODER = "MODEL.SPARSE_INST.DECODER"
IN_FEATURES = ["res3", "res4", "res5"]


def resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def conv(state: State, name: str, x: Tensor, groups: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2, groups=groups)


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def tower(state: State, name: str, x: Tensor, num_convs: int) -> Tensor:
    for index in range(num_convs):
        x = F.relu(conv(state, f"{name}.{2 * index}", x))
    return x


def reference_encoder(state: State, features: list[Tensor]) -> Tensor:
    """Features of strides 8, 16, 32 to one map of stride 8."""
    res3, res4, res5 = features
    top = conv(state, "encoder.fpn_laterals.0", res5)
    branches = [
        resize(
            F.relu(conv(state, f"encoder.ppm.stages.{i}.1", F.adaptive_avg_pool2d(top, side))),
            top.shape[-2:],
        )
        for i, side in enumerate((1, 2, 3, 6))
    ]
    p5 = F.relu(conv(state, "encoder.ppm.bottleneck", torch.cat([*branches, top], dim=1)))
    p4 = conv(state, "encoder.fpn_laterals.1", res4)
    p4 = p4 + p5.repeat_interleave(2, 2).repeat_interleave(2, 3)
    p3 = conv(state, "encoder.fpn_laterals.2", res3)
    p3 = p3 + p4.repeat_interleave(2, 2).repeat_interleave(2, 3)
    outputs = [conv(state, f"encoder.fpn_outputs.{i}", p) for i, p in enumerate((p5, p4, p3))]
    size = p3.shape[-2:]
    joined = [outputs[2], resize(outputs[1], size), resize(outputs[0], size)]
    return conv(state, "encoder.fusion", torch.cat(joined, dim=1))


def with_coords_first(x: Tensor) -> Tensor:
    batch, _, height, width = x.shape
    xs = torch.linspace(-1, 1, width).expand(batch, 1, height, width)
    ys = torch.linspace(-1, 1, height)[:, None].expand(batch, 1, height, width)
    return torch.cat([xs, ys, x], dim=1)


def reference_decoder(
    state: State, x: Tensor, *, groups: int, softmax: bool, num_convs: int = 1
) -> dict[str, Tensor]:
    x = with_coords_first(x)
    branch = "decoder.instance_branch"
    features = tower(state, f"{branch}.convs", x, num_convs)
    logits = conv(state, f"{branch}.iam_conv", features, groups)
    batch, count, height, width = logits.shape
    num_maps = count // groups
    maps = torch.zeros(batch, groups, num_maps, height, width)
    instances = torch.zeros(batch, num_maps, groups * features.shape[1])
    for b in range(batch):
        for g in range(groups):
            for n in range(num_maps):
                one = logits[b, g * num_maps + n]
                one = one.flatten().softmax(0).view_as(one) if softmax else one.sigmoid()
                maps[b, g, n] = one
                average = (features[b] * one).sum((1, 2)) / one.sum()
                channels = slice(g * features.shape[1], (g + 1) * features.shape[1])
                instances[b, n, channels] = average
    if f"{branch}.fc.weight" in state:
        instances = F.relu(linear(state, f"{branch}.fc", instances))
    return {**predict(state, x, instances, num_convs), "maps": maps}


def predict(state: State, x: Tensor, instances: Tensor, num_convs: int = 1) -> dict[str, Tensor]:
    predictor = "decoder.instance_branch.predictor"
    kernels = linear(state, f"{predictor}.mask_kernel", instances)
    features = tower(state, "decoder.mask_branch.convs", x, num_convs)
    features = conv(state, "decoder.mask_branch.projection", features)
    masks = torch.einsum("bne,behw->bnhw", kernels, features)
    return {
        "class_logits": linear(state, f"{predictor}.class_logits", instances),
        "mask_logits": resize(masks, (2 * masks.shape[2], 2 * masks.shape[3])),
        "objectness_logits": linear(state, f"{predictor}.objectness", instances)[..., 0],
    }


def random_model(opts: list | None = None) -> nn.Module:
    """A tiny model, with weights large enough that every one of them shows in the outputs."""
    model = tiny_model("SparseInst", opts=opts)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("backbone"):
                parameter.normal_(std=0.2, generator=generator)
    return model.eval()


def backbone_features(model: nn.Module) -> dict[str, Tensor]:
    images = model.preprocess([picture(60, 96)["image"], picture(64, 90, seed=1)["image"]])
    with torch.no_grad():
        model.train()
        features = model.backbone(images.tensor)
    return features


def assert_matches(model: nn.Module, expected: dict[str, Tensor], encoded: Tensor) -> None:
    with torch.no_grad():
        predictions, maps = model.decoder(encoded)
    found = {**predictions._asdict(), "maps": maps}
    assert found["mask_logits"].shape == (2, 10, 16, 24)
    for name, value in expected.items():
        # Relative to the largest value: sums of many terms cancel in some places.
        assert (found[name] - value).abs().max() <= 1e-5 * value.abs().max(), name


def test_the_encoder_is_the_reference() -> None:
    model = random_model()
    features = backbone_features(model)
    levels = [features[name] for name in IN_FEATURES]
    with torch.no_grad():
        found = model.encoder(levels)
        expected = reference_encoder(model.state_dict(), levels)
    assert found.shape == (2, 16, 8, 12)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("opts", "groups", "softmax"),
    [
        ([NAME, "BaseIAMDecoder"], 1, False),
        ([NAME, "GroupIAMDecoder"], 2, False),
        ([NAME, "GroupIAMDecoder", f"{DECODER}.GROUPS", 4], 4, False),
        ([NAME, "GroupIAMDecoder", f"{DECODER}.GROUPS", 1], 1, False),
        ([NAME, "GroupIAMDecoder", f"{DECODER}.GROUPS", 8], 8, False),
        ([NAME, "GroupIAMSoftDecoder"], 2, True),
        ([NAME, "BaseIAMDecoder", f"{DECODER}.IAM_ACTIVATION", "softmax"], 1, True),
        ([NAME, "GroupIAMSoftDecoder", f"{DECODER}.IAM_ACTIVATION", "sigmoid"], 2, False),
        ([NAME, "GroupIAMDecoder", f"{DECODER}.IAM_KERNEL_SIZE", 1], 2, False),
    ],
    ids=lambda value: (
        "-".join(str(part).split(".")[-1] for part in value) if isinstance(value, list) else ""
    ),
)
def test_the_decoder_is_the_reference(opts: list, groups: int, softmax: bool) -> None:
    model = random_model(opts)
    features = backbone_features(model)
    with torch.no_grad():
        encoded = model.encoder([features[name] for name in IN_FEATURES])
        expected = reference_decoder(model.state_dict(), encoded, groups=groups, softmax=softmax)
    assert_matches(model, expected, encoded)


def test_towers_of_any_length() -> None:
    model = random_model([f"{DECODER}.INST.CONVS", 3, f"{DECODER}.MASK.CONVS", 3])
    encoded = torch.randn(2, 16, 8, 12)
    with torch.no_grad():
        state = model.state_dict()
        expected = reference_decoder(state, encoded, groups=2, softmax=False, num_convs=3)
    assert_matches(model, expected, encoded)


@pytest.mark.parametrize("num_heads", [1, 2])
def test_object_queries_are_the_reference(num_heads: int) -> None:
    model = random_model([NAME, "CrossAttentionDecoder", f"{DECODER}.GROUPS", num_heads])
    state = model.state_dict()
    encoded = torch.randn(2, 16, 8, 12)
    x = with_coords_first(encoded)
    branch = "decoder.instance_branch"
    positions = tower(state, f"{branch}.convs", x, 1).flatten(2).transpose(1, 2)
    weights = state[f"{branch}.attention.in_proj_weight"].chunk(3)
    biases = state[f"{branch}.attention.in_proj_bias"].chunk(3)
    q = state[f"{branch}.queries.weight"] @ weights[0].T + biases[0]
    k, v = (positions @ w.T + b for w, b in zip(weights[1:], biases[1:]))
    attended, maps = [], []
    for qh, kh, vh in zip(q.chunk(num_heads, -1), k.chunk(num_heads, -1), v.chunk(num_heads, -1)):
        attention = (qh @ kh.transpose(1, 2) / math.sqrt(qh.shape[-1])).softmax(-1)
        attended.append(attention @ vh)
        maps.append(attention.unflatten(-1, (8, 12)))
    instances = linear(state, f"{branch}.attention.out_proj", torch.cat(attended, dim=-1))
    with torch.no_grad():
        expected = {**predict(state, x, instances), "maps": torch.stack(maps, dim=1)}
    assert_matches(model, expected, encoded)


@pytest.mark.parametrize("scale", [1.0, 2.0, 4.0])
def test_the_size_of_the_masks(scale: float) -> None:
    model = random_model([f"{DECODER}.SCALE_FACTOR", scale])
    assert model.mask_stride == 8 / scale
    with torch.no_grad():
        predictions = model.decoder(torch.randn(1, 16, 8, 12)).predictions
    assert predictions.mask_logits.shape[-2:] == (8 * scale, 12 * scale)
    assert all(loss.isfinite() for loss in model.train()([picture()]).values())


def test_average_features_exceed_no_half_precision() -> None:
    """The sum over the positions is larger than float16 can hold; the average is not."""
    model = random_model([NAME, "BaseIAMDecoder"])
    branch = model.decoder.instance_branch
    with torch.no_grad():
        branch.iam_conv.weight.zero_()
        branch.iam_conv.bias.fill_(10.0)
        for parameter in branch.convs.parameters():
            parameter.zero_()
        branch.convs[0].bias.fill_(3000.0)
        with torch.autocast("cpu", dtype=torch.float16):
            class_logits = branch(torch.zeros(1, 18, 40, 40)).class_logits
            expected = branch.predictor.class_logits(torch.full((1, 10, 16), 3000.0))
    assert class_logits.isfinite().all()
    torch.testing.assert_close(class_logits.float(), expected.float(), rtol=1e-2, atol=1)


def test_masks_exceed_no_half_precision() -> None:
    model = random_model([NAME, "BaseIAMDecoder"])
    with torch.no_grad():
        model.decoder.instance_branch.predictor.mask_kernel.bias.fill_(1000.0)
        model.decoder.mask_branch.projection.bias.fill_(1000.0)
        with torch.autocast("cpu", dtype=torch.float16):
            predictions = model.decoder(torch.zeros(1, 16, 8, 8)).predictions
    assert predictions.mask_logits.dtype == torch.float32
    assert predictions.mask_logits.isfinite().all()
    assert predictions.mask_logits.max() > 65504


def assert_spread(weight: Tensor, std: float, name: str) -> None:
    # The standard deviation of n samples is known to about 1 in sqrt(2 n).
    assert weight.std().item() == pytest.approx(std, rel=4 / math.sqrt(2 * weight.numel())), name


def test_initialisation() -> None:
    model = tiny_model("SparseInst", opts=[f"{DECODER}.GROUPS", 4, f"{DECODER}.INST.CONVS", 2])
    branch, mask_branch = model.decoder.instance_branch, model.decoder.mask_branch
    for conv in (branch.convs[0], branch.convs[2], mask_branch.convs[0], mask_branch.projection):
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        assert_spread(conv.weight, math.sqrt(2 / fan_out), "msra")
        assert (conv.bias == 0).all()
    for layer in (branch.iam_conv, branch.predictor.class_logits):
        assert_spread(layer.weight, 0.01, "prior")
        torch.testing.assert_close(layer.bias, torch.full_like(layer.bias, -math.log(99)))
    assert_spread(branch.predictor.mask_kernel.weight, 0.01, "kernel")
    assert (branch.predictor.mask_kernel.bias == 0).all()
    # Xavier: uniform to sqrt(3 / fan in), of standard deviation sqrt(1 / fan in).
    assert branch.fc.weight.abs().max() <= math.sqrt(3 / 64)
    assert_spread(branch.fc.weight, math.sqrt(1 / 64), "fc")
    for conv in (*model.encoder.fpn_laterals, *model.encoder.fpn_outputs):
        fan_in = conv.in_channels * conv.kernel_size[0] ** 2
        assert_spread(conv.weight, math.sqrt(1 / fan_in), "xavier")
        assert (conv.bias == 0).all()
    assert_spread(model.encoder.fusion.weight, math.sqrt(2 / 16), "fusion")
    # torch's own: uniform, of standard deviation sqrt(1 / (3 fan in)), with a bias.
    bottleneck = model.encoder.ppm.bottleneck
    assert_spread(bottleneck.weight, math.sqrt(1 / (3 * 32)), "pyramid pooling")
    assert (bottleneck.bias != 0).any()


def test_the_weights_have_the_official_shapes() -> None:
    """At the published sizes; from the official checkpoints' keys and the paper."""
    from detectron2.modeling import build_model

    from solo_family.config import setup_cfg
    from solo_family.model_zoo import get_config_file

    cfg = setup_cfg(get_config_file("SparseInst/sparse_inst_r50_giam.yaml"))
    shapes = {name: tuple(value.shape) for name, value in build_model(cfg).named_parameters()}
    shapes = {k: v for k, v in shapes.items() if k.endswith("weight") and "backbone" not in k}
    towers = {
        f"decoder.{branch}.convs.{index}.weight": (256, 258 if index == 0 else 256, 3, 3)
        for branch in ("instance_branch", "mask_branch")
        for index in (0, 2, 4, 6)
    }
    assert shapes == {
        **{f"encoder.fpn_laterals.{i}.weight": (256, 2048 >> i, 1, 1) for i in range(3)},
        **{f"encoder.fpn_outputs.{i}.weight": (256, 256, 3, 3) for i in range(3)},
        **{f"encoder.ppm.stages.{i}.1.weight": (64, 256, 1, 1) for i in range(4)},
        "encoder.ppm.bottleneck.weight": (256, 512, 1, 1),
        "encoder.fusion.weight": (256, 768, 1, 1),
        **towers,
        "decoder.instance_branch.iam_conv.weight": (400, 64, 3, 3),
        "decoder.instance_branch.fc.weight": (1024, 1024),
        "decoder.instance_branch.predictor.class_logits.weight": (80, 1024),
        "decoder.instance_branch.predictor.mask_kernel.weight": (128, 1024),
        "decoder.instance_branch.predictor.objectness.weight": (1, 1024),
        "decoder.mask_branch.projection.weight": (128, 256, 1, 1),
    }


def test_without_parts_of_the_encoder() -> None:
    model = random_model(["MODEL.SPARSE_INST.ENCODER.PYRAMID_POOLING", False])
    assert not [name for name in model.state_dict() if "ppm" in name]
    model = random_model(
        [
            *("MODEL.SPARSE_INST.ENCODER.PYRAMID_POOLING", False),
            *("MODEL.SPARSE_INST.ENCODER.FUSION", False),
        ]
    )
    features = backbone_features(model)
    state = model.state_dict()
    with torch.no_grad():
        encoded = model.encoder([features[name] for name in ("res3", "res4", "res5")])
        merged = None
        for index, name in enumerate(("res5", "res4", "res3")):
            lateral = conv(state, f"encoder.fpn_laterals.{index}", features[name])
            if merged is not None:
                lateral = lateral + merged.repeat_interleave(2, 2).repeat_interleave(2, 3)
            merged = lateral
        assert merged is not None
        expected = conv(state, "encoder.fpn_outputs.0", merged)
    assert (encoded - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert not [name for name in state if "fusion" in name]


@pytest.mark.parametrize("name", ["GroupIAMDecoder", "CrossAttentionDecoder"])
def test_without_coordinates_and_objectness(name: str) -> None:
    opts = [
        *("MODEL.SPARSE_INST.DECODER.USE_COORDS", False, "MODEL.SPARSE_INST.DECODER.NAME", name),
        *("MODEL.SPARSE_INST.DECODER.OBJECTNESS", False),
    ]
    model = random_model(opts)
    assert not [key for key in model.state_dict() if "objectness" in key]
    first = model.decoder.mask_branch.convs[0]
    assert first.weight.shape[1] == 16
    items = [picture(64, 96)]
    model.train()
    losses = model(items)
    assert set(losses) == {"loss_class", "loss_mask", "loss_dice"}
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    model.eval()
    with torch.no_grad():
        images = model.preprocess([items[0]["image"]])
        predictions = model._decode(model.backbone(images.tensor)).predictions
        scores, classes = model.selector._score(predictions)
    expected, best = predictions.class_logits.sigmoid().max(-1)
    assert torch.allclose(scores, expected)
    assert torch.equal(classes, best)
    assert len(model(items)[0]["instances"]) > 0
