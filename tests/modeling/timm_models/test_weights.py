"""Checkpoints of other image sizes, and with what older versions of timm stored besides."""

from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from solo_family.modeling.timm_backbone import TimmBackbone

from .small import SWIN


def load(name: str, state: dict[str, Tensor], folder: Path, **options: Any) -> dict[str, Tensor]:
    torch.save(state, folder / "weights.pth")
    features, path = ["res4"], str(folder / "weights.pth")
    backbone = TimmBackbone(
        name=name, in_channels=3, out_features=features, weights=path, **options
    )
    return backbone.model.state_dict()


def test_position_embeddings_of_another_image_size_are_resized(tmp_path: Path) -> None:
    torch.manual_seed(0)
    other = timm.create_model("test_vit", img_size=96)
    pos_embed = torch.nn.init.normal_(other.pos_embed).detach()
    loaded = load("test_vit", other.state_dict(), tmp_path)
    prefix, side = other.num_prefix_tokens, 96 // 16
    plane = pos_embed[:, prefix:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    own = loaded["model.pos_embed"]
    wanted = round((own.shape[1] - prefix) ** 0.5)
    assert wanted != side
    plane = torch.nn.functional.interpolate(
        plane, (wanted, wanted), mode="bicubic", antialias=True, align_corners=False
    )
    torch.testing.assert_close(own[:, prefix:], plane.flatten(2).transpose(1, 2))
    assert torch.equal(loaded["model.norm.weight"], other.norm.weight)
    assert torch.equal(own[:, :prefix], pos_embed[:, :prefix])


def test_masks_and_indices_that_older_timm_stored_are_not_needed(tmp_path: Path) -> None:
    name = "swin_tiny_patch4_window7_224"
    whole = timm.create_model(name, **SWIN)
    stored = {
        "layers.0.blocks.1.attn_mask": torch.zeros(64, 49, 49),
        "layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49, dtype=torch.long),
    }
    loaded = load(name, {**whole.state_dict(), **stored}, tmp_path, **SWIN)
    weight = whole.state_dict()["layers.1.blocks.0.attn.qkv.weight"]
    assert torch.equal(loaded["layers_1.blocks.0.attn.qkv.weight"], weight)
