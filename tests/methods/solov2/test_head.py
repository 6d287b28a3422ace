import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solo_family.config import check_config
from solo_family.errors import ConfigError

from ...conftest import TINY, picture, tiny_cfg, tiny_model

SIDES = dict(zip(TINY["SOLOv2"][::2], TINY["SOLOv2"][1::2]))["MODEL.SOLOV2.NUM_GRIDS"]
P2_TO_P5 = ["p2", "p3", "p4", "p5"]


def with_coords(x: Tensor) -> Tensor:
    batch, _, height, width = x.shape
    ys, xs = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    return torch.cat([x, torch.stack([xs, ys]).expand(batch, -1, -1, -1)], dim=1)


def resize(x: Tensor, **size: Any) -> Tensor:
    return F.interpolate(x, mode="bilinear", align_corners=False, **size)


def conv_norm_relu(state: dict[str, Tensor], prefix: str, x: Tensor, padding: int) -> Tensor:
    weight = state[f"{prefix}.conv.weight"]
    assert f"{prefix}.conv.bias" not in state
    x = F.conv2d(x, weight, padding=padding)
    groups = math.gcd(32, weight.shape[0])
    return F.relu(
        F.group_norm(x, groups, state[f"{prefix}.norm.weight"], state[f"{prefix}.norm.bias"])
    )


def reference_head(
    state: dict[str, Tensor], features: dict[str, Tensor], num_convs: int, coord_conv: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Returns, per level, category logits [B, K, S, S] and kernels [B, E, S, S]."""
    levels = [
        resize(features["p2"], scale_factor=0.5),
        features["p3"],
        features["p4"],
        features["p5"],
        resize(features["p6"], size=features["p5"].shape[-2:]),
    ]
    category_logits: list[Tensor] = []
    kernels: list[Tensor] = []
    for feature, side in zip(levels, SIDES):
        grid = resize(with_coords(feature), size=(side, side))
        category = grid[:, :-2]
        kernel = grid if coord_conv else category
        for index in range(num_convs):
            category = conv_norm_relu(state, f"head.category_branch.tower.{index}", category, 1)
            kernel = conv_norm_relu(state, f"head.kernel_tower.{index}", kernel, 1)
        for outputs, x, prefix in (
            (category_logits, category, "head.category_branch.logits"),
            (kernels, kernel, "head.kernel_predictor"),
        ):
            outputs.append(F.conv2d(x, state[f"{prefix}.weight"], state[f"{prefix}.bias"], 1, 1))
    return category_logits, kernels


def reference_mask_features(
    state: dict[str, Tensor], features: list[Tensor], coord_level: int | None
) -> Tensor:
    total = torch.zeros(())
    for level, x in enumerate(features):
        if level == coord_level:
            x = with_coords(x)
        for index in range(max(level, 1)):
            x = conv_norm_relu(state, f"mask_branch.levels.{level}.{index}", x, 1)
            if level > 0:
                x = resize(x, scale_factor=2)
        total = total + x
    return conv_norm_relu(state, "mask_branch.projection", total, 0)


def random_model(opts: list | None = None, method: str = "SOLOv2") -> nn.Module:
    """A tiny model, with weights large enough that every one of them shows in the outputs."""
    model = tiny_model(method, opts=opts)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("backbone"):
                parameter.normal_(std=0.3, generator=generator)
    return model.eval()


def backbone_features(model: nn.Module) -> tuple[dict[str, Tensor], tuple[int, int]]:
    images = model.preprocess([picture(60, 96)["image"], picture(64, 90, seed=1)["image"]])
    with torch.no_grad():
        model.train()
        features = model.backbone(images.tensor)
    return features, (64, 96)


@pytest.mark.parametrize(
    ("opts", "num_convs", "coord_conv"),
    [
        ([], 1, True),
        (["MODEL.SOLOV2.NUM_INSTANCE_CONVS", 3], 3, True),
        # 48 channels make 16 groups.
        (["MODEL.SOLOV2.INSTANCE_CHANNELS", 48, "MODEL.SOLOV2.MASK_CHANNELS", 40], 1, True),
        (["MODEL.SOLOV2.USE_COORD_CONV", False], 1, False),
    ],
    ids=["one conv", "three convs", "other groups", "no coords"],
)
def test_outputs_are_those_of_the_reference(opts: list, num_convs: int, coord_conv: bool) -> None:
    model = random_model(opts)
    state = {name: value.detach() for name, value in model.state_dict().items()}
    features, padded_size = backbone_features(model)
    with torch.no_grad():
        outputs = model.run_head(features, padded_size)
    expected_logits, expected_kernels = reference_head(state, features, num_convs, coord_conv)
    assert len(outputs.category_logits) == len(SIDES)
    for found, expected, side in zip(outputs.category_logits, expected_logits, SIDES):
        assert found.shape == (2, 3, side, side)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    # Kernels follow one another level by level, each row by row.
    cells = [
        level[:, :, row, column]
        for level, side in zip(expected_kernels, SIDES)
        for row in range(side)
        for column in range(side)
    ]
    torch.testing.assert_close(outputs.kernels, torch.stack(cells, dim=1), rtol=1e-5, atol=1e-5)
    expected = reference_mask_features(state, [features[name] for name in P2_TO_P5], 3)
    assert outputs.mask_features.shape == (2, 8, 16, 24)
    torch.testing.assert_close(outputs.mask_features, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "coord_key", "coord_level"),
    [
        (P2_TO_P5, "fourth", 3),
        (P2_TO_P5, "last", 3),
        (P2_TO_P5[:3], "last", 2),
        (P2_TO_P5[:3], "fourth", None),
    ],
)
def test_the_mask_level_with_coordinates(
    names: list[str], coord_key: str, coord_level: int | None
) -> None:
    model = random_model(
        ["MODEL.SOLOV2.MASK_IN_FEATURES", names, "MODEL.SOLOV2.MASK_COORD_LEVEL", coord_key]
    )
    inputs = [convs[0].conv.in_channels for convs in model.mask_branch.levels]
    assert inputs == [16 + 2 * (level == coord_level) for level in range(len(names))]
    features, padded_size = backbone_features(model)
    with torch.no_grad():
        mask_features = model.run_head(features, padded_size).mask_features
        expected = reference_mask_features(
            model.state_dict(), [features[name] for name in names], coord_level
        )
    torch.testing.assert_close(mask_features, expected, rtol=1e-5, atol=1e-5)


def test_only_the_kernel_branch_sees_coordinates() -> None:
    model = tiny_model()
    assert model.head.category_branch.tower[0].conv.in_channels == 16
    assert model.head.kernel_tower[0].conv.in_channels == 18
    model = tiny_model(opts=["MODEL.SOLOV2.USE_COORD_CONV", False])
    assert model.head.kernel_tower[0].conv.in_channels == 16


def test_initialisation() -> None:
    model = tiny_model(
        opts=["MODEL.SOLOV2.INSTANCE_CHANNELS", 32, "MODEL.SOLOV2.NUM_INSTANCE_CONVS", 2]
    )
    convs = {
        f"{part}.{name}": module
        for part in ("head", "mask_branch")
        for name, module in getattr(model, part).named_modules()
        if isinstance(module, nn.Conv2d)
    }
    # Two towers of 2, two predictors, 1 + 1 + 2 + 3 for the mask features, the projection.
    assert len(convs) == 4 + 2 + 7 + 1
    for name, conv in convs.items():
        # The standard deviation of n samples is known to about 1 in sqrt(2 n).
        tolerance = 4 / math.sqrt(2 * conv.weight.numel())
        assert conv.weight.std().item() == pytest.approx(0.01, rel=tolerance), name
        assert conv.weight.mean().abs() < 0.04 / math.sqrt(conv.weight.numel()), name
    logits = model.head.category_branch.logits
    assert logits.weight.shape == (3, 32, 3, 3)
    torch.testing.assert_close(logits.bias, torch.full((3,), -math.log(99)))
    assert (model.head.kernel_predictor.bias == 0).all()


def test_another_prior() -> None:
    model = tiny_model(opts=["MODEL.SOLOV2.PRIOR_PROB", 0.2])
    bias = model.head.category_branch.logits.bias
    torch.testing.assert_close(bias.sigmoid(), torch.full((3,), 0.2))


@pytest.mark.parametrize(("channels", "groups"), [(16, 16), (32, 32), (48, 16), (64, 32), (40, 8)])
def test_groups_of_the_towers(channels: int, groups: int) -> None:
    model = tiny_model(opts=["MODEL.SOLOV2.INSTANCE_CHANNELS", channels])
    for tower in (model.head.category_branch.tower, model.head.kernel_tower):
        assert [block.norm.num_groups for block in tower] == [groups]


def test_coordinates_are_left_out_of_the_mask_features() -> None:
    with_coords = tiny_model("SOLOv2").mask_branch
    without = tiny_model("SOLOv2", opts=["MODEL.SOLOV2.MASK_COORD_LEVEL", "none"]).mask_branch
    widths = [[level[0].conv.weight.shape[1] for level in b.levels] for b in (with_coords, without)]
    assert widths[0][:3] == widths[1][:3]
    assert widths[0][3] == widths[1][3] + 2


def test_kernels_of_3x3_are_convolutions_of_3x3() -> None:
    opts = [
        *("MODEL.SOLOV2.KERNEL_SIZE", 3, "MODEL.SOLOV2.NUM_MASKS", 8),
        *("MODEL.SOLOV2.NUM_KERNELS", 72),
    ]
    model = tiny_model("SOLOv2", opts=opts)
    items = [picture(64, 96)]
    losses = model(items)
    torch.stack(list(losses.values())).sum().backward()
    model.eval()
    with torch.no_grad():
        images = model.preprocess([items[0]["image"]])
        features = model.backbone(images.tensor)
        plain = model.mask_branch([features[name] for name in model.mask_features])
        outputs = model.run_head(features, images.tensor.shape[-2:])
        (image,) = outputs.images()
        masks = model.decoder.soft(image, plain.shape[-2:], torch.arange(5))
        kernels = outputs.kernels[0, :5].view(5, 8, 3, 3)
        expected = F.conv2d(plain, kernels, padding=1)[0].sigmoid()
    assert (masks - expected).abs().max() < 1e-5
    wrong = tiny_cfg("SOLOv2", opts=[*opts[:4], "MODEL.SOLOV2.NUM_KERNELS", 8])
    with pytest.raises(ConfigError, match="NUM_KERNELS must be 72, 3 x 3 weights"):
        check_config(wrong)


def test_offsets_start_at_0_in_the_towers_alone() -> None:
    opts = [
        *("MODEL.SOLOV2.USE_DCN_IN_INSTANCE", True, "MODEL.SOLOV2.USE_DCN_IN_MASK", True),
        *("MODEL.SOLOV2.TYPE_DCN", "DCNv2"),
    ]
    state = tiny_model("SOLOv2", opts=opts).state_dict()
    offsets = {name: weight for name, weight in state.items() if name.endswith("offset.weight")}
    assert len({name.split(".")[0] for name in offsets}) == 2
    for name, weight in offsets.items():
        std = 0.01 if name.startswith("mask_branch") else 0
        assert weight.std().item() == pytest.approx(std, rel=0.2), name


def test_a_traced_head_takes_any_number_of_images() -> None:
    model = random_model()
    features, _ = backbone_features(model)
    levels = [features[name] for name in ("p2", "p3", "p4", "p5")]
    levels = [level[:1] for level in levels][: len(model.level_strides)]
    while len(levels) < len(model.level_strides):
        levels.append(F.max_pool2d(levels[-1], 1, 2))
    with torch.no_grad():
        traced = torch.jit.trace(model.head, (levels,), check_trace=False, strict=False)
        three = [torch.cat([level, 2 * level, 3 * level]) for level in levels]
        found, expected = traced(three), model.head(three)
        torch.testing.assert_close(found[1], expected.kernels)
