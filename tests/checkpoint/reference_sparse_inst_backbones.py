"""SparseInst's backbones but detectron2's ResNet, as short functions of the official weights."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .reference_backbone import BLOCKS, State, batch_norm, conv, layer_norm, linear


def resnet50_vd(state: State, x: Tensor) -> list[Tensor]:
    """Stages of strides 8, 16, 32 (arXiv 1812.01187, section 4)."""
    for index in (0, 3, 6):
        norm = "bn1" if index == 6 else f"conv1.{index + 1}"
        x = conv(state, f"backbone.conv1.{index}", x, 2 if index == 0 else 1)
        x = batch_norm(state, f"backbone.{norm}", x).relu()
    x = F.max_pool2d(x, 3, 2, 1)
    outputs = []
    for stage, blocks in enumerate(BLOCKS, start=1):
        for block in range(blocks):
            name = f"backbone.layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = x
            for index, step in ((1, 1), (2, stride), (3, 1)):
                y = conv(state, f"{name}.conv{index}", y, step)
                y = batch_norm(state, f"{name}.bn{index}", y)
                y = y.relu() if index < 3 else y
            if block == 0:
                x = F.avg_pool2d(x, 2) if stride == 2 else x
                x = batch_norm(
                    state, f"{name}.downsample.2", conv(state, f"{name}.downsample.1", x)
                )
            x = (x + y).relu()
        outputs.append(x)
    return outputs[1:]


def dark_net(state: State, x: Tensor, depths: tuple[int, ...]) -> list[Tensor]:
    """Stages of strides 8, 16, 32 of DarkNet-53, or of its CSPNet (arXiv 1911.11929)."""

    def step(name: str, x: Tensor, stride: int = 1) -> Tensor:
        x = conv(state, f"backbone.{name}.conv", x, stride)
        return F.leaky_relu(batch_norm(state, f"backbone.{name}.bn", x), 0.01)

    x = step("stem.conv1", x)
    outputs = []
    for stage, depth in enumerate(depths):
        name = f"stages.{stage}"
        x = step(f"{name}.conv_down", x, 2)
        crossed = f"backbone.{name}.conv_exp.conv.weight" in state
        if crossed:
            untouched, x = step(f"{name}.conv_exp", x).chunk(2, 1)
        for block in range(depth):
            y = step(f"{name}.blocks.{block}.conv1", x)
            x = x + step(f"{name}.blocks.{block}.conv2", y)
        if crossed:
            x = torch.cat([untouched, step(f"{name}.conv_transition_b", x)], 1)
            x = step(f"{name}.conv_transition", x)
        outputs.append(x)
    return outputs[2:]


def pvt_v2(
    state: State, x: Tensor, depths: tuple[int, ...], heads: tuple[int, ...]
) -> list[Tensor]:
    """Stages of strides 8, 16, 32 of PVTv2 (arXiv 2106.13797), on one image."""
    outputs = []
    for stage, (depth, count) in enumerate(zip(depths, heads), start=1):
        # A patch overlaps its neighbours by half.
        x = conv(state, f"backbone.patch_embed{stage}.proj", x, 4 if stage == 1 else 2)
        size = x.shape[-2:]
        x = layer_norm(state, f"backbone.patch_embed{stage}.norm", x[0].flatten(1).T)
        for block in range(depth):
            name = f"backbone.block{stage}.{block}"
            y = layer_norm(state, f"{name}.norm1", x, 1e-6)
            x = x + reduced_attention(state, f"{name}.attn", y, size, count)
            y = layer_norm(state, f"{name}.norm2", x, 1e-6)
            x = x + convolved_mlp(state, name, y, size)
        x = as_map(layer_norm(state, f"backbone.norm{stage}", x, 1e-6), size)
        outputs.append(x)
    return outputs[1:]


def as_map(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return x.T.unflatten(1, size)[None]


def is_linear(state: State) -> bool:
    """Whether keys and values are of 7 x 7 pooled places (section 3.3), not of strided ones."""
    return state["backbone.block1.0.attn.sr.weight"].shape[-1] == 1


def reduced_attention(
    state: State, name: str, x: Tensor, size: tuple[int, ...], heads: int
) -> Tensor:
    """Every place attends to few: x is [H W, C]."""
    seen = x
    if f"{name}.sr.weight" in state:
        weight, bias = state[f"{name}.sr.weight"], state[f"{name}.sr.bias"]
        seen = as_map(x, size)
        seen = F.adaptive_avg_pool2d(seen, 7) if is_linear(state) else seen
        seen = F.conv2d(seen, weight, bias, stride=weight.shape[-1])[0].flatten(1).T
        seen = layer_norm(state, f"{name}.norm", seen)
        seen = F.gelu(seen) if is_linear(state) else seen
    q = linear(state, f"{name}.q", x).unflatten(1, (heads, -1)).transpose(0, 1)
    k, v = linear(state, f"{name}.kv", seen).unflatten(1, (2, heads, -1)).permute(1, 2, 0, 3)
    weights = (q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1)
    return linear(state, f"{name}.proj", (weights @ v).transpose(0, 1).flatten(1))


def convolved_mlp(state: State, name: str, x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Two layers with a 3 x 3 convolution of each channel between them."""
    x = as_map(linear(state, f"{name}.mlp.fc1", x), size)
    x = x.relu() if is_linear(state) else x
    weight = state[f"{name}.mlp.dwconv.dwconv.weight"]
    bias = state[f"{name}.mlp.dwconv.dwconv.bias"]
    x = F.conv2d(x, weight, bias, padding=1, groups=len(weight))
    return linear(state, f"{name}.mlp.fc2", F.gelu(x[0].flatten(1).T))
