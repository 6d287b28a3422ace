"""The pixel decoders, and per-pixel classifiers in their place."""

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn

from solo_family.errors import ConfigError
from solo_family.methods.mask_former.pixel_decoder import (
    BasePixelDecoder,
    PerPixelFeatures,
    TransformerEncoderPixelDecoder,
    build_pixel_decoder,
)
from solo_family.methods.mask_former.transformer import TransformerEncoder

from ...conftest import tiny_cfg

SHAPES = {
    "res2": ShapeSpec(channels=8, stride=4),
    "res3": ShapeSpec(channels=12, stride=8),
    "res4": ShapeSpec(channels=16, stride=16),
    "res5": ShapeSpec(channels=20, stride=32),
}


def features() -> dict[str, Tensor]:
    # Odd sides, as inputs have that are not padded: each level is half the last, rounded up.
    sides = {"res2": (23, 18), "res3": (12, 9), "res4": (6, 5), "res5": (3, 3)}
    torch.manual_seed(1)
    return {name: torch.randn(2, shape.channels, *sides[name]) for name, shape in SHAPES.items()}


def encoder() -> TransformerEncoder:
    return TransformerEncoder(2, channels=32, num_heads=4, feedforward_channels=16, dropout=0.0)


def conv_norm_relu(state: dict[str, Tensor], name: str, x: Tensor, relu: bool = True) -> Tensor:
    weight = state[f"{name}.weight"]
    x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    x = F.group_norm(x, 32, state[f"{name}.norm.weight"], state[f"{name}.norm.bias"])
    return x.relu() if relu else x


def test_the_fpn_decoder_level_by_level() -> None:
    decoder = BasePixelDecoder(SHAPES, channels=32, mask_dim=6)
    given = features()
    mask_features, transformer_features = decoder.forward_features(given)
    assert transformer_features is None
    state = decoder.state_dict()
    y = conv_norm_relu(state, "layer_4", given["res5"])
    for level in (3, 2, 1):
        lateral = conv_norm_relu(state, f"adapter_{level}", given[f"res{level + 1}"], relu=False)
        height, width = lateral.shape[-2:]
        rows = torch.arange(height) * y.shape[2] // height
        columns = torch.arange(width) * y.shape[3] // width
        y = conv_norm_relu(state, f"layer_{level}", lateral + y[:, :, rows][..., columns])
    expected = F.conv2d(y, state["mask_features.weight"], state["mask_features.bias"], padding=1)
    torch.testing.assert_close(mask_features, expected, atol=1e-5, rtol=1e-5)
    assert mask_features.shape == (2, 6, 23, 18)


def test_parameters_are_named_as_in_the_official_code() -> None:
    expected = {"mask_features.weight", "mask_features.bias"}
    for name in ("adapter_1", "adapter_2", "adapter_3", "layer_1", "layer_2", "layer_3", "layer_4"):
        expected |= {f"{name}.weight", f"{name}.norm.weight", f"{name}.norm.bias"}
    assert set(BasePixelDecoder(SHAPES, channels=32, mask_dim=6).state_dict()) == expected

    decoder = TransformerEncoderPixelDecoder(SHAPES, channels=32, mask_dim=6, encoder=encoder())
    names = {name for name in decoder.state_dict() if not name.startswith("transformer.encoder.")}
    assert names == expected | {"input_proj.weight", "input_proj.bias"}
    assert "transformer.encoder.layers.1.self_attn.in_proj_weight" in decoder.state_dict()


def test_the_encoder_sees_projected_features_and_positions() -> None:
    decoder = TransformerEncoderPixelDecoder(SHAPES, channels=32, mask_dim=6, encoder=encoder())
    given = features()
    mask_features, encoded = decoder.forward_features(given)
    assert encoded.shape == (2, 32, 3, 3)
    with torch.no_grad():
        # Without attention and feed-forward network, post-norm is a normalisation of channels.
        for name, parameter in decoder.transformer.named_parameters():
            if "out_proj" in name or "linear2" in name:
                parameter.zero_()
        x = decoder.input_proj(given["res5"])
        normalised = F.layer_norm(x.permute(0, 2, 3, 1), (32,)).permute(0, 3, 1, 2)
        other, encoded = decoder.forward_features(given)
    torch.testing.assert_close(encoded, normalised, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(other, mask_features)


def tiny_decoder_cfg(name: str, features: list[str]) -> CfgNode:
    return tiny_cfg(
        "MaskFormer",
        opts=[
            *("MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME", name, "MODEL.SEM_SEG_HEAD.NORM", ""),
            *("MODEL.SEM_SEG_HEAD.IN_FEATURES", features, "MODEL.SEM_SEG_HEAD.MASK_DIM", 6),
            *("MODEL.SEM_SEG_HEAD.ASPP_CHANNELS", 10, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 10),
            *("MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS", [8]),
        ],
    )


@pytest.mark.parametrize(
    ("name", "used"),
    [("SemSegFPNHead", ["res2", "res3", "res4", "res5"]), ("DeepLabV3PlusHead", ["res2", "res5"])],
)
def test_a_per_pixel_classifier_gives_its_features(name: str, used: list[str]) -> None:
    cfg = tiny_decoder_cfg(name, used)
    sides = {"res2": (24, 16), "res3": (12, 8), "res4": (6, 4), "res5": (3, 2)}
    given = {key: torch.randn(2, SHAPES[key].channels, *sides[key]) for key in SHAPES}
    torch.manual_seed(0)
    decoder = build_pixel_decoder(cfg, SHAPES)
    torch.manual_seed(0)
    head = SEM_SEG_HEADS_REGISTRY.get(name)(cfg, SHAPES)
    assert isinstance(decoder, PerPixelFeatures)
    with torch.no_grad():
        mask_features = decoder.eval().forward_features(given).mask_features
        seen: list[Tensor] = []
        head.eval().predictor.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
        head.layers(given)
        expected = decoder.mask_features(seen[0])
    assert mask_features.shape == (2, 6, 24, 16)
    assert (decoder.stride, decoder.mask_dim) == (4, 6)
    torch.testing.assert_close(mask_features, expected)
    # The classifier itself is gone: it would get no gradient.
    assert not [key for key in decoder.state_dict() if "predictor" in key]


def test_a_head_without_separable_features_is_refused() -> None:
    @SEM_SEG_HEADS_REGISTRY.register()
    class Opaque(nn.Module):
        def __init__(self, cfg: object, input_shape: object) -> None:
            super().__init__()

    try:
        with pytest.raises(ConfigError, match=r"PIXEL_DECODER_NAME is 'Opaque'.*predictor"):
            build_pixel_decoder(tiny_decoder_cfg("Opaque", ["res2"]), SHAPES)
    finally:
        SEM_SEG_HEADS_REGISTRY._obj_map.pop("Opaque")


def test_wrong_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"PIXEL_DECODER_NAME is 'FPN'.*BasePixelDecoder"):
        build_pixel_decoder(tiny_decoder_cfg("FPN", ["res2"]), SHAPES)
    with pytest.raises(ConfigError, match=r"IN_FEATURES has p9.*res2, res3"):
        build_pixel_decoder(tiny_decoder_cfg("BasePixelDecoder", ["p9"]), SHAPES)


@pytest.mark.parametrize("names", [["res2", "res3", "res5"], ["res5"]])
def test_a_projection_for_each_feature_but_the_coarsest(names: list[str]) -> None:
    with pytest.raises(ConfigError, match=rf"PROJECT_CHANNELS is \[8\].*Give {len(names) - 1} num"):
        build_pixel_decoder(tiny_decoder_cfg("DeepLabV3PlusHead", names), SHAPES)
