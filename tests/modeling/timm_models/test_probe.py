import pytest
import torch

from solo_family.errors import ConfigError
from solo_family.modeling.timm_backbone import TimmBackbone
from solo_family.modeling.timm_models import probe


def test_a_feature_that_no_module_gives_is_left_out() -> None:
    fit = probe.fit_model("tresnet_m", "MODEL.TIMM", {"in_chans": 3})
    assert (fit.strides, fit.indices) == ((4, 8, 16, 32), (1, 2, 3, 4))


def test_a_model_that_does_not_run_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **options: object) -> None:
        raise RuntimeError("no such operator\nits stack")

    monkeypatch.setattr(probe, "build_features", broken)
    with pytest.raises(ConfigError, match=r"'test_resnet', which .* here \(no such operator\)"):
        probe.fit_model("test_resnet", "MODEL.TIMM", {"in_chans": 3, "stem_width": 8})


def test_an_operator_that_needs_values_is_tried_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = probe._shapes

    def refuse_meta(*args: object) -> object:
        if args[-1] == "meta":
            raise NotImplementedError("an LSTM")
        return plain(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(probe, "_shapes", refuse_meta)
    fit = probe.fit_model("test_resnet", "MODEL.TIMM", {"in_chans": 4})
    assert fit.is_exact


def test_building_leaves_the_default_device() -> None:
    backbone = TimmBackbone(name="test_vit", in_channels=5, out_features=["res4"], weights="")
    assert {weight.device.type for weight in backbone.parameters()} == {"cpu"}
    assert torch.zeros(1).device.type == "cpu"
