"""MaskFormer's head and its predictor."""

import pytest
import torch
from torch import Tensor

from solo_family.errors import ConfigError
from solo_family.methods.mask_former.predictor import MLP, TransformerPredictor
from solo_family.methods.mask_former.transformer import Transformer

from ...conftest import picture, tiny_model


def predictor(in_channels: int = 16, **options: object) -> TransformerPredictor:
    torch.manual_seed(0)
    arguments = {"num_queries": 5, "hidden_dim": 16, "mask_dim": 6}
    transformer = Transformer(0, 3, channels=16, num_heads=2, feedforward_channels=8, dropout=0.0)
    return TransformerPredictor(
        in_channels, **({"num_classes": 4, "transformer": transformer} | arguments | options)
    )


def test_every_layer_predicts() -> None:
    class_logits, embeddings = predictor()(torch.randn(2, 16, 3, 4))
    assert class_logits.shape == (3, 2, 5, 5)
    assert embeddings.shape == (3, 2, 5, 6)


@pytest.mark.parametrize(("layers", "queries"), [(1, 1), (4, 37)])
def test_any_number_of_layers_and_queries(layers: int, queries: int) -> None:
    keys = ["DEC_LAYERS", layers, "NUM_OBJECT_QUERIES", queries]
    opts = [f"MODEL.MASK_FORMER.{key}" if isinstance(key, str) else key for key in keys]
    model = tiny_model("MaskFormer", opts=opts)
    losses = model([picture(objects=1)])
    suffixes = {"", *(f"_{index}" for index in range(layers - 1))}
    assert set(losses) == {f"loss_{k}{s}" for k in ("ce", "mask", "dice") for s in suffixes}
    with torch.no_grad():
        images = model.preprocess([picture()["image"]])
        predictions = model.sem_seg_head(model.backbone(images.tensor))
    assert predictions.class_logits.shape[:3] == (layers, 1, queries)


def test_without_deep_supervision_only_the_last_layer_predicts() -> None:
    features = torch.randn(2, 16, 3, 4)
    class_logits, embeddings = predictor(deep_supervision=False)(features)
    all_logits, all_embeddings = predictor()(features)
    torch.testing.assert_close(class_logits, all_logits[-1:])
    torch.testing.assert_close(embeddings, all_embeddings[-1:])


def test_features_are_projected_where_needed() -> None:
    assert "input_proj.weight" not in predictor().state_dict()
    assert predictor(12).state_dict()["input_proj.weight"].shape == (16, 12, 1, 1)
    enforced = predictor(enforce_input_proj=True).state_dict()
    assert enforced["input_proj.weight"].shape == (16, 16, 1, 1)


def test_the_mlp_has_relu_between_its_layers() -> None:
    mlp = MLP(4, 8, 8, 3)
    x = given = torch.randn(5, 4)
    w = mlp.state_dict()
    for layer in range(3):
        x = x @ w[f"layers.{layer}.weight"].T + w[f"layers.{layer}.bias"]
        if layer < 2:
            x = x.clamp(min=0)
    torch.testing.assert_close(mlp(given), x)


def test_parameters_are_named_as_in_the_official_code() -> None:
    names = set(tiny_model("MaskFormer").sem_seg_head.state_dict())
    own = {name for name in names if "transformer" not in name and "pixel_decoder" not in name}
    layers = {f"mask_embed.layers.{layer}" for layer in range(3)}
    expected = {
        f"predictor.{part}.{kind}"
        for part in {"class_embed", *layers}
        for kind in ("weight", "bias")
    }
    assert own == expected | {"predictor.query_embed.weight"}
    assert "predictor.transformer.decoder.layers.1.multihead_attn.in_proj_weight" in names
    assert "predictor.transformer.decoder.norm.weight" in names
    assert "pixel_decoder.adapter_1.norm.weight" in names


def test_the_predictor_sees_what_is_named() -> None:
    model = tiny_model("MaskFormer", opts=["MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE", "p4"]).eval()
    seen: list[Tensor] = []
    model.sem_seg_head.predictor.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with torch.no_grad():
        model([picture(64, 96)])
    assert seen[0].shape == (1, 16, 4, 6)


def test_a_feature_that_nobody_gives_is_refused() -> None:
    key = "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE"
    with pytest.raises(ConfigError, match=rf"{key} has res9.*provides p2, p3"):
        tiny_model("MaskFormer", opts=[key, "res9"])
    with pytest.raises(ConfigError, match="'transformer_encoder', which BasePixelDecoder"):
        tiny_model("MaskFormer", opts=[key, "transformer_encoder"])


def test_a_pixel_decoder_of_other_code_may_give_a_plain_tuple() -> None:
    model = tiny_model("MaskFormer").eval()
    decoder, image = model.sem_seg_head.pixel_decoder, picture()
    expected = model([image])[0]["sem_seg"]
    forward_features = decoder.forward_features
    decoder.forward_features = lambda features: tuple(forward_features(features))
    assert torch.equal(model([image])[0]["sem_seg"], expected)
