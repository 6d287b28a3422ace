"""Random weights that are scaled to the features that they read."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.utils.env import seed_all_rng
from torch import Tensor, nn

from solo_family.config import check_config
from solo_family.errors import ConfigError
from solo_family.methods.sparse_inst.build import scale_to_features
from solo_family.methods.sparse_inst.model import SparseInst
from solo_family.modeling.unit_init import natural_noise, scale_to_unit_deviation

from ..conftest import tiny_cfg, tiny_model

TIMM = [
    *("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "resnet10t"),
    *("MODEL.TIMM.OUT_FEATURES", ["res3", "res4", "res5"]),
]
KEY = "MODEL.SPARSE_INST.UNIT_INIT"


def deviations(part: nn.Module, x: Tensor) -> list[float]:
    """Return those of the outputs of all convolutions and linear layers, without their biases."""
    found: list[float] = []
    for layer in part.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda *given: found.append(float(given[2].std())))
    with torch.no_grad():
        part(x)
    return found


def test_large_values_are_divided_and_small_ones_stay() -> None:
    torch.manual_seed(0)
    part = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 4, 1))
    part[2].weight.data *= 5
    part[2].bias.data[:] = torch.linspace(-30, 30, 16)
    part[3].weight.data *= 1e-3
    small, biases = part[3].weight.clone(), part[2].bias.clone()
    x = 40 * torch.randn(2, 3, 24, 32)
    scale_to_unit_deviation(part, lambda: part(x))
    assert torch.equal(part[3].weight, small)
    assert torch.equal(part[2].bias, biases)
    part[2].bias.data[:] = 0
    first, second, _ = deviations(part, x)
    # The first one's bias is in its values.
    assert first == pytest.approx(1, abs=0.02)
    assert second == pytest.approx(1, abs=0.02)


def test_the_image_is_always_the_same() -> None:
    torch.manual_seed(1)
    image = natural_noise(3)
    state = torch.get_rng_state()
    assert torch.equal(natural_noise(3), image)
    assert torch.equal(torch.get_rng_state(), state)
    assert image.shape == (1, 3, 256, 256)
    assert float(image.mean()) == pytest.approx(0, abs=1e-5)
    assert float(image.std()) == pytest.approx(1, abs=1e-5)


def built(on: bool, weights: str = "") -> SparseInst:
    seed_all_rng(0)
    opts = [*TIMM, KEY, on, "MODEL.WEIGHTS", weights]
    model: Any = tiny_model("SparseInst", opts=opts)
    return model


class Large(nn.Module):
    """A backbone whose features are 50 times as large."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: 50 * feature for name, feature in self.backbone(x).items()}


def test_sparse_inst_is_scaled_to_its_features() -> None:
    model = built(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scale_to_features(Large(model.backbone), model.encoder, model.decoder, model.in_features, 3)
    assert model.encoder.training
    changed = []
    for name, value in model.state_dict().items():
        if torch.equal(value, before[name]):
            continue
        changed.append(name)
        ratio = value[before[name] != 0] / before[name][before[name] != 0]
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
        assert float(ratio[0]) < 1
    assert {f"encoder.fpn_laterals.{level}.weight" for level in range(3)} <= set(changed)
    assert all(name.startswith(("encoder", "decoder")) for name in changed)
    assert all(name.endswith("weight") for name in changed)


def test_the_key_scales_and_two_builds_are_equal() -> None:
    plain, scaled, again = built(False), built(True), built(True)
    assert scaled.training
    assert scaled.backbone.training == plain.backbone.training
    pairs = zip(plain.state_dict().values(), scaled.state_dict().values(), strict=True)
    assert not all(torch.equal(one, other) for one, other in pairs)
    for one, other in zip(scaled.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_weights_that_are_loaded_later_stay(tmp_path: Path) -> None:
    plain = built(False)
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            plain.parameters(), built(True, str(tmp_path / "later.pth")).parameters(), strict=True
        )
    )


def test_a_backbone_without_its_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"{KEY} is True, but MODEL.BACKBONE.NAME is build_res"):
        check_config(tiny_cfg("SparseInst", opts=[KEY, True]))
