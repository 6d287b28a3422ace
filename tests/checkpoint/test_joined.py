"""Weights that are not only renamed: joined projections, and the merging of Swin's patches."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from solo_family.checkpoint.convert import convert
from solo_family.checkpoint.rules import Rule, rename

from .lists import random_weights, save


@pytest.mark.parametrize("end", ["weight", "bias"])
def test_huggingfaces_projections_are_joined_as_torch_has_them(end: str, tmp_path: Path) -> None:
    weights = random_weights("huggingface_swin")
    ours = convert(save(tmp_path / "theirs.pth", weights)).weights
    layer = "model.transformer_module.decoder.layers.1.encoder_attn"
    expected = torch.cat([weights[f"{layer}.{name}_proj.{end}"] for name in "qkv"])
    name = "sem_seg_head.predictor.transformer.decoder.layers.1.multihead_attn.in_proj_"
    assert torch.equal(ours[name + end], expected)
    block = "model.pixel_level_module.encoder.model.encoder.layers.2.blocks.1.attention.self"
    expected = torch.cat([weights[f"{block}.{name}.{end}"] for name in ("query", "key", "value")])
    assert torch.equal(ours[f"backbone.model.layers.2.blocks.1.attn.qkv.{end}"], expected)


def test_mmdetections_patches_are_merged_in_the_official_order(tmp_path: Path) -> None:
    weights = random_weights("mmdet3_mask_former_swin")
    ours = convert(save(tmp_path / "theirs.pth", weights)).weights
    x = torch.randn(1, 8, 6, 10)
    # mmdetection unfolds; the official code takes every second pixel, rows before columns.
    unfolded = F.unfold(x, 2, stride=2)[0].T
    pixels = [x[0, :, i::2, j::2].flatten(1).T for j in (0, 1) for i in (0, 1)]
    official = torch.cat(pixels, 1)
    theirs, name = "backbone.stages.0.downsample", "backbone.model.layers.1.downsample"
    for values, state, prefix in ((unfolded, weights, theirs), (official, ours, name)):
        norm = state[f"{prefix}.norm.weight"], state[f"{prefix}.norm.bias"]
        merged = F.layer_norm(values, (32,), *norm) @ state[f"{prefix}.reduction.weight"].T
        if prefix == theirs:
            expected = merged
    assert torch.allclose(merged, expected, atol=1e-5)


def test_a_part_that_is_missing_is_not_passed_over() -> None:
    rules = [Rule(f"a.{name}", "b", part, 3) for part, name in enumerate("qkv")]
    renamed = rename({"a.q": torch.zeros(1), "a.v": torch.zeros(1)}, rules)
    assert renamed.weights == {}
    assert renamed.unknown == ["a.q", "a.v"]


def test_two_weights_of_one_name_are_not_passed_over() -> None:
    weights = {"a.old": torch.zeros(1), "a.new": torch.ones(1)}
    renamed = rename(weights, [Rule(r"a\.(old|new)", "a")])
    assert renamed.origins == {"a": ["a.old"]}
    assert renamed.unknown == ["a.new"]
