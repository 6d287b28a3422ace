"""Backbones and FPN as short functions of a source's own weights; from the papers, not our code."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d

State = dict[str, Tensor]
BLOCKS = (3, 4, 6, 3)


def conv(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    """A convolution, deformable where the source has offsets in it or beside it."""
    weight = state[f"{name}.weight"]
    bias = state.get(f"{name}.bias")
    padding = weight.shape[-1] // 2
    for offset in (f"{name}.conv_offset", f"{name}_offset"):
        if f"{offset}.weight" in state:
            maps = F.conv2d(x, state[f"{offset}.weight"], state[f"{offset}.bias"], stride, padding)
            positions = weight.shape[-1] ** 2
            # v2 has a weight for each position after the y and x of each.
            offsets, modulation = maps[:, : 2 * positions], maps[:, 2 * positions :]
            mask = modulation.sigmoid() if modulation.shape[1] else None
            return deform_conv2d(x, offsets, weight, bias, stride, padding, mask=mask)
    return F.conv2d(x, weight, bias, stride, padding)


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def group_norm(state: State, name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, 32, state[f"{name}.weight"], state[f"{name}.bias"])


def batch_norm(state: State, name: str, x: Tensor, training: bool = False) -> Tensor:
    mean, var = state[f"{name}.running_mean"].clone(), state[f"{name}.running_var"].clone()
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return F.batch_norm(x, mean, var, weight, bias, training)


def resize(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def resnet50(
    state: State,
    x: Tensor,
    *,
    prefix: str,
    detectron2: bool,
    stride_in_1x1: bool = False,
    training: bool = False,
) -> list[Tensor]:
    """The outputs of the four stages, under the names of torchvision or of detectron2."""

    def norm(name: str, x: Tensor) -> Tensor:
        return batch_norm(state, name, x, training)

    stem = f"{prefix}stem.conv1" if detectron2 else f"{prefix}conv1"
    x = norm(f"{stem}.norm" if detectron2 else f"{prefix}bn1", conv(state, stem, x, 2)).relu()
    x = F.max_pool2d(x, 3, 2, 1)
    outputs = []
    for stage, blocks in enumerate(BLOCKS):
        for block in range(blocks):
            name = f"{prefix}{f'res{stage + 2}' if detectron2 else f'layer{stage + 1}'}.{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            strides = (stride, 1, 1) if stride_in_1x1 else (1, stride, 1)
            y = x
            for index, s in enumerate(strides, start=1):
                bn = f"{name}.conv{index}.norm" if detectron2 else f"{name}.bn{index}"
                y = norm(bn, conv(state, f"{name}.conv{index}", y, s))
                y = y.relu() if index < 3 else y
            if block == 0:
                short = f"{name}.shortcut" if detectron2 else f"{name}.downsample.0"
                bn = f"{short}.norm" if detectron2 else f"{name}.downsample.1"
                x = norm(bn, conv(state, short, x, stride))
            x = (x + y).relu()
        outputs.append(x)
    return outputs


def fpn(state: State, stages: list[Tensor], lateral: str, output: str) -> list[Tensor]:
    """P2 to P6; `lateral` and `output` are names with a place for the level, 0 for P2."""
    laterals = [conv(state, lateral.format(i), x) for i, x in enumerate(stages)]
    for i in (2, 1, 0):
        above = F.interpolate(laterals[i + 1], size=laterals[i].shape[-2:], mode="nearest")
        laterals[i] = laterals[i] + above
    levels = [conv(state, output.format(i), x) for i, x in enumerate(laterals)]
    return [*levels, F.max_pool2d(levels[-1], 1, 2)]


def coordinates(x: Tensor) -> Tensor:
    """x and y of the pixels of a map, from -1 to 1."""
    height, width = x.shape[-2:]
    ys, xs = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    return torch.stack([xs, ys])[None].expand(len(x), -1, -1, -1)


def swin(state: State, x: Tensor, *, prefix: str, window: int = 4) -> list[Tensor]:
    """Four stages of two blocks (arXiv 2103.14030), under the official names, on one image."""
    x = conv_patches(state, f"{prefix}patch_embed.proj", x)
    x = layer_norm(state, f"{prefix}patch_embed.norm", x)
    outputs = []
    for stage in range(4):
        for block in range(2):
            name = f"{prefix}layers.{stage}.blocks.{block}"
            y = layer_norm(state, f"{name}.norm1", x)
            x = x + window_attention(state, f"{name}.attn", y, window, window // 2 * block)
            y = linear(state, f"{name}.mlp.fc1", layer_norm(state, f"{name}.norm2", x))
            x = x + linear(state, f"{name}.mlp.fc2", F.gelu(y))
        outputs.append(layer_norm(state, f"{prefix}norm{stage}", x).permute(2, 0, 1)[None])
        if stage < 3:
            x = F.pad(x, (0, 0, 0, x.shape[1] % 2, 0, x.shape[0] % 2))
            x = torch.cat([x[i::2, j::2] for j in (0, 1) for i in (0, 1)], 2)
            x = layer_norm(state, f"{prefix}layers.{stage}.downsample.norm", x)
            x = x @ state[f"{prefix}layers.{stage}.downsample.reduction.weight"].T
    return outputs


def conv_patches(state: State, name: str, x: Tensor) -> Tensor:
    x = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=4)
    return x[0].permute(1, 2, 0)


def layer_norm(state: State, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def window_attention(state: State, name: str, x: Tensor, window: int, shift: int) -> Tensor:
    """Attention within each window of a map [H, W, C] that is padded and then shifted."""
    height, width, _ = x.shape
    x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    x = x.roll((-shift, -shift), (0, 1))
    # Where the shift wrapped around, neighbours in a window are not neighbours in the map.
    region = torch.zeros(x.shape[:2])
    for axis in (0, 1) if shift else ():
        place = torch.arange(x.shape[axis])
        part = (place >= x.shape[axis] - window).int() + (place >= x.shape[axis] - shift).int()
        region = region + (3 * part[:, None] if axis == 0 else part[None])
    table = state[f"{name}.relative_position_bias_table"]
    heads = table.shape[1]
    place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
    offset = place[:, None] - place + window - 1
    bias = table[offset[..., 0] * (2 * window - 1) + offset[..., 1]].permute(2, 0, 1)
    output = torch.zeros_like(x)
    for top in range(0, len(x), window):
        for left in range(0, x.shape[1], window):
            here = slice(top, top + window), slice(left, left + window)
            qkv = linear(state, f"{name}.qkv", x[here].flatten(0, 1))
            q, k, v = qkv.unflatten(1, (3, heads, -1)).permute(1, 2, 0, 3)
            logits = q @ k.transpose(1, 2) * q.shape[-1] ** -0.5 + bias
            same = region[here].flatten()
            logits = logits - 100 * (same[:, None] != same)
            mixed = (logits.softmax(-1) @ v).transpose(0, 1).flatten(1)
            output[here] = linear(state, f"{name}.proj", mixed).unflatten(0, (window, window))
    return output.roll((shift, shift), (0, 1))[:height, :width]
