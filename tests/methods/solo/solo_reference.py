"""SOLO and Decoupled SOLO as the papers and the official code have them: every mask, in full.

Nothing is taken from the code under test but a model's state_dict.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...conftest import TINY
from ..solov2.test_head import conv_norm_relu, resize

SOLO_KEYS = dict(zip(TINY["SOLO"][::2], TINY["SOLO"][1::2]))
SIDES = SOLO_KEYS["MODEL.SOLO.NUM_GRIDS"]
RANGES = SOLO_KEYS["MODEL.SOLO.FPN_SCALE_RANGES"]
STRIDES = (8, 8, 16, 32, 32)


def levels_of(features: dict[str, Tensor]) -> list[Tensor]:
    return [
        resize(features["p2"], scale_factor=0.5),
        features["p3"],
        features["p4"],
        features["p5"],
        resize(features["p6"], size=features["p5"].shape[-2:]),
    ]


def coordinates(x: Tensor) -> dict[str, Tensor]:
    batch, _, height, width = x.shape
    ys, xs = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    x_map, y_map = (one.expand(batch, 1, height, width) for one in (xs, ys))
    return {"x": x_map, "y": y_map, "xy": torch.cat([x_map, y_map], 1), "": x[:, :0]}


def tower(state: dict[str, Tensor], prefix: str, x: Tensor) -> Tensor:
    index = 0
    while f"{prefix}.{index}.conv.weight" in state:
        # Coordinates before a further convolution, where its weights have channels for them.
        if state[f"{prefix}.{index}.conv.weight"].shape[1] == x.shape[1] + 2:
            x = torch.cat([x, coordinates(x)["xy"]], 1)
        x = conv_norm_relu(state, f"{prefix}.{index}", x, 1)
        index += 1
    assert index > 0
    return x


def conv(state: dict[str, Tensor], prefix: str, x: Tensor) -> Tensor:
    weight = state[f"{prefix}.weight"]
    return F.conv2d(x, weight, state[f"{prefix}.bias"], padding=weight.shape[-1] // 2)


def category_logits(state: dict[str, Tensor], features: dict[str, Tensor]) -> list[Tensor]:
    return [
        conv(
            state,
            "head.category_branch.logits",
            tower(state, "head.category_branch.tower", resize(level, size=(side, side))),
        )
        for level, side in zip(levels_of(features), SIDES)
    ]


def solo_masks(
    state: dict[str, Tensor], features: dict[str, Tensor], seen: str = "xy"
) -> list[Tensor]:
    """Returns the logits of all S^2 masks of every level, [B, S^2, 2 H, 2 W]."""
    masks = []
    for index, level in enumerate(levels_of(features)):
        x = torch.cat([level, coordinates(level)[seen]], 1)
        x = resize(tower(state, "head.mask_tower", x), scale_factor=2)
        masks.append(conv(state, f"head.mask_predictors.{index}", x))
    return masks


def decoupled_maps(
    state: dict[str, Tensor], features: dict[str, Tensor], light: bool = False
) -> list[tuple[Tensor, Tensor]]:
    """Returns the logits of the column and the row maps of every level, [B, S, 2 H, 2 W]."""
    maps = []
    for index, level in enumerate(levels_of(features)):
        pair = []
        for axis in "xy":
            seen = "xy" if light else axis
            x = torch.cat([level, coordinates(level)[seen]], 1)
            x = resize(tower(state, f"head.towers.{seen}", x), scale_factor=2)
            pair.append(conv(state, f"head.{axis}_predictors.{index}", x))
        maps.append((pair[0], pair[1]))
    return maps


def all_masks(columns: Tensor, rows: Tensor) -> Tensor:
    """Returns the products [B, S^2, h, w] of probabilities, cell by cell, row by row."""
    side = columns.shape[1]
    return torch.stack(
        [columns[:, cell % side] * rows[:, cell // side] for cell in range(side * side)], dim=1
    )
