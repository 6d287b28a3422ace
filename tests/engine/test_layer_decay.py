"""Rates by the depth of the backbone's layers, for backbones of several families."""

from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from solo_family.config import check_config
from solo_family.engine.layer_decay import layer_factors
from solo_family.engine.optimizer import build_optimizer
from solo_family.errors import ConfigError

from ..conftest import tiny_cfg

TIMM = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone"]
SWIN = [
    *("MODEL.BACKBONE.NAME", "D2SwinTransformer", "MODEL.SWIN.EMBED_DIM", 12),
    *("MODEL.SWIN.DEPTHS", [1, 2, 1, 1], "MODEL.SWIN.NUM_HEADS", [1, 1, 2, 2]),
    *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res2", "res3", "res4", "res5"]),
    *("MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE", "res5"),
]
# The number of blocks, and of some parameters the powers of the decay, counted by hand.
CASES: dict[str, tuple[str, list[Any], int, dict[str, int]]] = {
    # A ResNet-50 has 3 + 4 + 6 + 3 blocks.
    "resnet": (
        "SOLOv2",
        [],
        16,
        {"stem.conv1": 17, "res2.0.conv1": 16, "res3.0.": 13, "res4.5.conv3": 4, "res5.2.": 1},
    ),
    "timm resnet": (
        "SOLOv2",
        [*TIMM, "MODEL.TIMM.NAME", "resnet18"],
        8,
        {"model.conv1.weight": 9, "layer1.0.": 8, "layer2.1.": 5, "layer4.1.": 1},
    ),
    # An EfficientNet-Lite0 has 1 + 2 + 2 + 3 + 3 + 4 + 1 blocks.
    "efficientnet": (
        "SOLOv2",
        [*TIMM, "MODEL.TIMM.NAME", "tf_efficientnet_lite0"],
        16,
        {"conv_stem": 17, "blocks.0.0.": 16, "blocks.1.0.": 15, "blocks.6.0.": 1},
    ),
    "swin": (
        "MaskFormer",
        SWIN,
        5,
        {"patch_embed": 6, "layers.0.blocks.0.": 5, "layers.1.blocks.1.": 3, "layers.1.downs": 5},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rates_fall_towards_the_stem(name: str) -> None:
    method, opts, blocks, powers = CASES[name]
    keys = ["SOLVER.BACKBONE_LAYER_DECAY", 0.5, "SOLVER.BASE_LR", 1.0]
    cfg = tiny_cfg(method, opts=[*opts, *keys, "SOLVER.BACKBONE_MULTIPLIER", 0.25])
    check_config(cfg)
    model = build_model(cfg)
    rates = {
        parameter: group["lr"]
        for group in build_optimizer(cfg, model).param_groups
        for parameter in group["params"]
    }
    factors = {n: rates[p] for n, p in model.named_parameters() if p in rates}
    for part, power in powers.items():
        found = {
            rate
            for n, rate in factors.items()
            if n.startswith("backbone.") and (n.startswith("backbone." + part) or f".{part}" in n)
        }
        assert found == {0.25 * 0.5**power}, part
    others = {n: rate for n, rate in factors.items() if not n.startswith("backbone.")}
    assert set(others.values()) == {1.0}
    pyramid = {rate for n, rate in factors.items() if n.startswith("backbone.fpn_")}
    assert pyramid <= {0.25}
    body = {n: r for n, r in factors.items() if n.startswith("backbone.") and ".fpn_" not in n}
    assert min(body.values()) == 0.25 * 0.5 ** (blocks + 1)
    assert max(body.values()) == 0.25 * 0.5


def test_off_is_one_rate() -> None:
    model = nn.ModuleDict({"backbone": nn.Linear(2, 2)})
    (group,) = build_optimizer(tiny_cfg(), model).param_groups
    assert len(group["params"]) == 2


def test_what_can_not_be() -> None:
    with pytest.raises(ConfigError, match=r"LAYER_DECAY is 0.5, but the names"):
        layer_factors(["backbone.conv.weight"], 0.5)
    for value in (0.0, 1.5):
        with pytest.raises(ConfigError, match=r"LAYER_DECAY is .* above 0 and at most 1"):
            check_config(tiny_cfg(opts=["SOLVER.BACKBONE_LAYER_DECAY", value]))


def test_the_names_of_several_families() -> None:
    names = {
        "vit": ["pos_embed", "patch_embed.proj.w", "blocks.0.mlp.fc1.w", "blocks.11.attn.qkv.w"],
        "convnext": ["stem_0.w", "stem_1.w", "stages_0.blocks.0.w", "stages_1.downsample.0.w"],
        "pvt": ["patch_embed1.proj.w", "block1.0.attn.q.w", "patch_embed2.w", "block2.0.w"],
        "vgg": ["features.0.w", "features.2.w"],
        "hrnet": ["conv1.w", "stage2.0.branches.0.0.conv1.w", "stage2.0.branches.1.0.conv1.w"],
    }
    powers = {
        **{"vit": [3, 3, 2, 1], "convnext": [2, 2, 1, 1], "pvt": [3, 2, 2, 1], "vgg": [2, 1]},
        "hrnet": [2, 1, 1],
    }
    for family, own in names.items():
        factors = layer_factors([f"backbone.bottom_up.body.{name}" for name in own], 0.5)
        expected = torch.tensor(0.5) ** torch.tensor(powers[family])
        assert list(factors.values()) == expected.tolist(), family
