"""Swin of timm as a detectron2 backbone."""

import pytest
import timm
import torch
from detectron2.modeling import build_backbone
from torch import nn

from solo_family.config import get_cfg
from solo_family.engine.optimizer import build_optimizer
from solo_family.errors import ConfigError

from ...conftest import picture, tiny_model

TINY = [
    *("MODEL.BACKBONE.NAME", "D2SwinTransformer", "MODEL.SWIN.EMBED_DIM", 16),
    *("MODEL.SWIN.DEPTHS", [2, 2, 2, 2], "MODEL.SWIN.NUM_HEADS", [1, 2, 4, 8]),
]
# Published sizes: embedding, depths, heads, window, size in pretraining, timm's name.
PUBLISHED = {
    "tiny": (96, [2, 2, 6, 2], [3, 6, 12, 24], 7, 224, "swin_tiny_patch4_window7_224"),
    "small": (96, [2, 2, 18, 2], [3, 6, 12, 24], 7, 224, "swin_small_patch4_window7_224"),
    "base": (128, [2, 2, 18, 2], [4, 8, 16, 32], 12, 384, "swin_base_patch4_window12_384"),
    "large": (192, [2, 2, 18, 2], [6, 12, 24, 48], 12, 384, "swin_large_patch4_window12_384"),
}


def swin(opts: list) -> nn.Module:
    cfg = get_cfg()
    cfg.merge_from_list([*("MODEL.BACKBONE.NAME", "D2SwinTransformer"), *opts])
    torch.manual_seed(0)
    return build_backbone(cfg)


@pytest.mark.slow
@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes_have_the_parameters_of_timms_models(size: str) -> None:
    embedding, depths, heads, window, image, name = PUBLISHED[size]
    with torch.device("meta"):
        model = swin(
            [
                *("MODEL.SWIN.EMBED_DIM", embedding, "MODEL.SWIN.DEPTHS", depths),
                *("MODEL.SWIN.NUM_HEADS", heads, "MODEL.SWIN.WINDOW_SIZE", window),
                *("MODEL.SWIN.PRETRAIN_IMG_SIZE", image),
            ]
        )
        reference = timm.create_model(name)
    shapes = {key: value.shape for key, value in model.model.named_parameters()}
    expected = {key: value.shape for key, value in reference.named_parameters()}
    without = {key for key in expected if key.startswith(("norm.", "head."))}
    assert shapes == {key: expected[key] for key in expected.keys() - without}
    assert model.norm3.weight.shape == (embedding * 8,)


@pytest.mark.parametrize("size", [(64, 96), (61, 83), (224, 224)])
def test_features_have_strides_4_to_32_at_any_size(size: tuple[int, int]) -> None:
    model = swin(TINY)
    features = model(torch.randn(2, 3, *size))
    shapes = model.output_shape()
    height, width = (-(-side // 4) for side in size)
    for index, name in enumerate(("res2", "res3", "res4", "res5")):
        assert features[name].shape == (2, 16 << index, height, width)
        assert (shapes[name].channels, shapes[name].stride) == (16 << index, 4 << index)
        height, width = -(-height // 2), -(-width // 2)
    assert model.size_divisibility == 32


def test_outputs_are_normalised_but_what_goes_on_is_not() -> None:
    model = swin(TINY).eval()
    x = torch.randn(1, 3, 64, 64)
    features = model(x)
    for feature in features.values():
        mean, deviation = feature.mean(1), feature.std(1, unbiased=False)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
        torch.testing.assert_close(deviation, torch.ones_like(deviation), atol=1e-2, rtol=0)
    with torch.no_grad():
        model.norm0.weight.mul_(2)
    changed = model(x)
    torch.testing.assert_close(changed["res2"], 2 * features["res2"])
    torch.testing.assert_close(changed["res5"], features["res5"])


def test_the_last_stage_is_shifted_too() -> None:
    blocks = swin(TINY).model.layers[3].blocks
    assert [tuple(block.shift_size) for block in blocks] == [(0, 0), (3, 3)]


def test_drop_path_grows_with_depth() -> None:
    model = swin([*TINY, "MODEL.SWIN.DROP_PATH_RATE", 0.7])
    rates = [getattr(b.drop_path1, "drop_prob", 0) for s in model.model.layers for b in s.blocks]
    assert rates == pytest.approx([0.1 * index for index in range(8)])


MISTAKES = {
    "APE": (True, "APE is True"),
    "PATCH_NORM": (False, "PATCH_NORM is False"),
    "DEPTHS": ([2, 2], "DEPTHS is"),
    "OUT_FEATURES": (["res9"], "OUT_FEATURES has res9"),
}


@pytest.mark.parametrize("key", MISTAKES)
def test_mistakes_are_named(key: str) -> None:
    value, said = MISTAKES[key]
    with pytest.raises(ConfigError, match=rf"MODEL\.SWIN\.{said}"):
        swin([*TINY, f"MODEL.SWIN.{key}", value])


def test_mask_former_trains_on_it_and_position_biases_do_not_decay() -> None:
    features = ["res2", "res3", "res4", "res5"]
    opts = [*TINY, "MODEL.SEM_SEG_HEAD.IN_FEATURES", features]
    opts += ["MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE", "res5"]
    model = tiny_model("MaskFormer", opts=opts)
    losses = model([picture(), picture(objects=0)])
    sum(losses.values()).backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", "MaskFormer", "SOLVER.WEIGHT_DECAY", 0.01])
    names = {parameter: name for name, parameter in model.named_parameters()}
    decays = {
        names[parameter]: group["weight_decay"]
        for group in build_optimizer(cfg, model).param_groups
        for parameter in group["params"]
    }
    tables = [name for name in decays if name.endswith("relative_position_bias_table")]
    assert len(tables) == 8
    assert {decays[name] for name in tables} == {0.0}
    assert decays["backbone.model.layers.0.blocks.0.attn.qkv.weight"] == 0.01
    assert decays["sem_seg_head.predictor.query_embed.weight"] == 0.0
