"""DETR's transformer, recomputed from its parameters in plain functions of torch."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from solo_family.methods.mask_former.transformer import Transformer, TransformerDecoder

D, HEADS = 16, 4
State = dict[str, Tensor]


def attention(state: State, name: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Of one image: query [N, D], key and value [P, D]."""
    weights = state[f"{name}.in_proj_weight"].chunk(3)
    biases = state[f"{name}.in_proj_bias"].chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((query, key, value), weights, biases))
    heads = []
    for head in range(HEADS):
        part = slice(head * D // HEADS, (head + 1) * D // HEADS)
        attend = (q[:, part] @ k[:, part].T / math.sqrt(D // HEADS)).softmax(1)
        heads.append(attend @ v[:, part])
    out = torch.cat(heads, dim=1)
    return out @ state[f"{name}.out_proj.weight"].T + state[f"{name}.out_proj.bias"]


def norm(state: State, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, (D,), state[f"{name}.weight"], state[f"{name}.bias"])


def feedforward(state: State, name: str, x: Tensor) -> Tensor:
    hidden = (x @ state[f"{name}.linear1.weight"].T + state[f"{name}.linear1.bias"]).relu()
    return hidden @ state[f"{name}.linear2.weight"].T + state[f"{name}.linear2.bias"]


def post_norm(state: State, x: Tensor, position: Tensor, query: Tensor) -> list[Tensor]:
    name = "encoder.layers.0"
    x = norm(
        state,
        f"{name}.norm1",
        x + attention(state, f"{name}.self_attn", x + position, x + position, x),
    )
    memory = norm(state, f"{name}.norm2", x + feedforward(state, name, x))
    t, outputs = torch.zeros_like(query), []
    for layer in range(2):
        name = f"decoder.layers.{layer}"
        t = t + attention(state, f"{name}.self_attn", t + query, t + query, t)
        t = norm(state, f"{name}.norm1", t)
        t = t + attention(state, f"{name}.multihead_attn", t + query, memory + position, memory)
        t = norm(state, f"{name}.norm2", t)
        t = norm(state, f"{name}.norm3", t + feedforward(state, name, t))
        outputs.append(norm(state, "decoder.norm", t))
    return outputs


def pre_norm(state: State, x: Tensor, position: Tensor, query: Tensor) -> list[Tensor]:
    name = "encoder.layers.0"
    y = norm(state, f"{name}.norm1", x)
    x = x + attention(state, f"{name}.self_attn", y + position, y + position, y)
    x = x + feedforward(state, name, norm(state, f"{name}.norm2", x))
    memory = norm(state, "encoder.norm", x)
    t, outputs = torch.zeros_like(query), []
    for layer in range(2):
        name = f"decoder.layers.{layer}"
        y = norm(state, f"{name}.norm1", t)
        t = t + attention(state, f"{name}.self_attn", y + query, y + query, y)
        y = norm(state, f"{name}.norm2", t)
        t = t + attention(state, f"{name}.multihead_attn", y + query, memory + position, memory)
        t = t + feedforward(state, name, norm(state, f"{name}.norm3", t))
        outputs.append(norm(state, "decoder.norm", t))
    return outputs


def transformer(**options: object) -> Transformer:
    torch.manual_seed(0)
    arguments = {"channels": D, "num_heads": HEADS, "feedforward_channels": 24, "dropout": 0.5}
    model = Transformer(1, 2, **(arguments | options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("before", [False, True])
def test_it_is_detrs(before: bool) -> None:
    model = transformer(pre_norm=before)
    features, position = torch.randn(3, D, 4, 5), torch.randn(1, D, 4, 5)
    query = torch.randn(6, D)
    with torch.no_grad():
        outputs = model(features, position, query)
    assert [output.shape for output in outputs] == [(3, 6, D)] * 2
    recompute = pre_norm if before else post_norm
    for image in range(3):
        pixels = features[image].flatten(1).T
        expected = recompute(model.state_dict(), pixels, position[0].flatten(1).T, query)
        for output, layer in zip(outputs, expected):
            torch.testing.assert_close(output[image], layer, atol=1e-5, rtol=1e-5)


def test_parameters_are_named_as_in_the_official_code() -> None:
    attention = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    expected = {"decoder.norm.weight", "decoder.norm.bias"}
    for layer in range(2):
        name = f"decoder.layers.{layer}"
        for part in ("self_attn", "multihead_attn"):
            expected |= {f"{name}.{part}.{end}" for end in attention}
        for part in ("linear1", "linear2", "norm1", "norm2", "norm3"):
            expected |= {f"{name}.{part}.weight", f"{name}.{part}.bias"}
    name = "encoder.layers.0"
    expected |= {f"{name}.self_attn.{end}" for end in attention}
    for part in ("linear1", "linear2", "norm1", "norm2"):
        expected |= {f"{name}.{part}.weight", f"{name}.{part}.bias"}
    assert set(transformer().state_dict()) == expected


def test_matrices_start_xavier_uniform() -> None:
    torch.manual_seed(0)
    model = Transformer(1, 1, channels=128, num_heads=4, feedforward_channels=256, dropout=0.0)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            bound = math.sqrt(6 / sum(parameter.shape))
            assert 0.98 * bound < parameter.abs().max() <= bound, name


def test_dropout_is_of_training_only() -> None:
    model = transformer()
    inputs = torch.randn(1, D, 2, 2), torch.randn(1, D, 2, 2), torch.randn(3, D)
    assert torch.equal(model(*inputs)[-1], model(*inputs)[-1])
    model.train()
    assert not torch.equal(model(*inputs)[-1], model(*inputs)[-1])


def test_positions_are_added_to_the_memory_once() -> None:
    decoder = TransformerDecoder(
        3, channels=8, num_heads=2, feedforward_channels=8, dropout=0.0
    ).eval()
    keys: list[Tensor] = []
    for layer in decoder.layers:
        layer.register_forward_pre_hook(lambda _, args: keys.append(args[3]))
    memory, position = torch.randn(2, 5, 8), torch.randn(1, 5, 8)
    decoder(torch.randn(3, 8), memory, position)
    assert torch.equal(keys[0], memory + position)
    assert len(keys) == 3
    assert all(key is keys[0] for key in keys)
