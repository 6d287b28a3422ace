"""ResNet-vd, CSPNet and PVTv2 under SparseInst's official names."""

from typing import Any

import pytest
import timm
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import Tensor, nn

from solo_family.config import get_cfg
from solo_family.errors import ConfigError
from solo_family.modeling.layers import DeformConv2d


def make(name: str, *opts: Any) -> nn.Module:
    torch.manual_seed(0)
    cfg = get_cfg()
    keys = ["MODEL.BACKBONE.NAME", name, "MODEL.BACKBONE.FREEZE_AT", 0, "MODEL.RESNETS.NORM", "BN"]
    cfg.merge_from_list([*keys, *opts])
    return build_backbone(cfg, ShapeSpec(channels=3))


VD = ("build_resnet_vd_backbone", "MODEL.RESNETS.OUT_FEATURES", ["res3", "res4", "res5"])
CSP = ("build_cspnet_backbone", "MODEL.CSPNET.OUT_FEATURES", ["csp2", "csp3", "csp4"])
PVT = ("build_pyramid_vision_transformer",)


@pytest.mark.parametrize(
    ("words", "opts", "names", "channels"),
    [
        (VD, [], "res3 res4 res5", [512, 1024, 2048]),
        (CSP, ["MODEL.CSPNET.NAME", "darknet53"], "csp2 csp3 csp4", [256, 512, 1024]),
        (CSP, ["MODEL.CSPNET.NAME", "cspdarknet53"], "csp2 csp3 csp4", [256, 512, 1024]),
        (PVT, [], "p2 p3 p4", [128, 320, 512]),
        (PVT, ["MODEL.PVT.NAME", "b2", "MODEL.PVT.LINEAR", True], "p2 p3 p4", [128, 320, 512]),
    ],
    ids=["R50-vd", "DarkNet53", "CSPDarkNet53", "PVTv2-b1", "PVTv2-b2-li"],
)
def test_official_names_channels_and_strides(
    words: tuple, opts: list, names: str, channels: list[int]
) -> None:
    with torch.device("meta"):  # shapes alone
        backbone = make(*words, *opts).eval()
        image = torch.rand(1, 3, 64, 96)
    shapes = backbone.output_shape()
    assert list(shapes) == names.split()
    assert [shape.stride for shape in shapes.values()] == [8, 16, 32]
    assert [shape.channels for shape in shapes.values()] == channels
    with torch.no_grad():
        outputs = backbone(image)
    for name, shape in shapes.items():
        assert outputs[name].shape == (1, shape.channels, 64 // shape.stride, 96 // shape.stride)


@pytest.mark.parametrize(
    ("name", "opts", "model", "indices"),
    [
        (VD[0], VD[1:], "resnet50d", (2, 3, 4)),
        (CSP[0], (*CSP[1:], "MODEL.CSPNET.NAME", "cspresnet50"), "cspresnet50", (3, 4)),
        (PVT[0], (), "pvt_v2_b1", (1, 2, 3)),
    ],
)
def test_the_features_are_timms(
    name: str, opts: tuple, model: str, indices: tuple[int, ...]
) -> None:
    """Of cspresnet50 csp2 is the third stage, of stride 16."""
    if model == "cspresnet50":
        opts = (CSP[1], ["csp2", "csp3"], *opts[2:])
    backbone = make(name, *opts).eval()
    theirs = timm.create_model(model, features_only=True, out_indices=indices).eval()
    theirs.load_state_dict(backbone.model.state_dict())
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for found, expected in zip(backbone(x).values(), theirs(x), strict=True):
            assert torch.equal(found, expected)


def test_pvt_drops_paths_as_published() -> None:
    rates = [
        module.drop_prob for module in make(*PVT).modules() if type(module).__name__ == "DropPath"
    ]
    assert max(rates) == pytest.approx(0.1)


def deformable(backbone: nn.Module) -> dict[str, DeformConv2d]:
    modules = backbone.model.named_modules()
    return {name: module for name, module in modules if isinstance(module, DeformConv2d)}


def test_vd_is_deformable_in_the_stages_that_are_named() -> None:
    backbone = make(*VD, "MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, False, True, True])
    expected = [f"layer{s}.{b}.conv2" for s, count in ((3, 6), (4, 3)) for b in range(count)]
    assert list(deformable(backbone)) == expected
    assert not any(conv.modulated for conv in deformable(backbone).values())
    modulated = make(
        *(*VD, "MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, False, False, True]),
        *("MODEL.RESNETS.DEFORM_MODULATED", True),
    )
    assert len(deformable(modulated)) == 3
    assert all(conv.modulated for conv in deformable(modulated).values())


def test_deformable_vd_begins_as_the_plain_one() -> None:
    stages = ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, True, True, True])
    deform, plain = make(*VD, *stages).eval(), make(*VD).eval()
    state = deform.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for found, expected in zip(deform(x).values(), plain(x).values()):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_offsets_learn() -> None:
    backbone = make(*VD, "MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, False, False, True])
    sum(feature.sum() for feature in backbone(torch.rand(2, 3, 64, 64)).values()).backward()
    for name, conv in deformable(backbone).items():
        assert conv.weight.grad is not None, name
        assert conv.offset.weight.grad is not None, name


@pytest.mark.parametrize(("words", "key"), [(VD, "MODEL.RESNETS.NORM"), (CSP, "MODEL.CSPNET.NORM")])
def test_norms(words: tuple, key: str) -> None:
    def kinds(norm: str) -> set[str]:
        with torch.device("meta"):
            names = {type(module).__name__ for module in make(*words, key, norm).modules()}
        return {name for name in names if "Norm" in name and name.startswith(("B", "F", "S"))}

    assert all(name.startswith("BatchNorm") for name in kinds(""))
    assert all(name.startswith("FrozenBatchNorm") for name in kinds("FrozenBN"))
    assert all(name.startswith("SyncBatchNorm") for name in kinds("SyncBN"))
    with pytest.raises(ConfigError, match=rf"{key} is 'GN'.*'FrozenBN'"):
        make(*words, key, "GN")


def test_frozen_norms_keep_their_values_and_the_activation() -> None:
    plain = make(*CSP, "MODEL.CSPNET.NAME", "cspdarknet53")
    frozen = make(*CSP, "MODEL.CSPNET.NAME", "cspdarknet53", "MODEL.CSPNET.NORM", "FrozenBN")
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    state = plain.state_dict()
    frozen.load_state_dict({name: state[name] for name in frozen.state_dict()})
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        # Also in training: the statistics don't move.
        for found, expected in zip(frozen.train()(x).values(), plain.eval()(x).values()):
            assert (found - expected).abs().max() < 1e-3 * expected.abs().max()


@pytest.mark.parametrize("freeze_at", [0, 1, 2, 3])
def test_frozen_stages_of_vd(freeze_at: int) -> None:
    backbone = make(*VD, "MODEL.BACKBONE.FREEZE_AT", freeze_at)
    prefixes = ("conv1.", "bn1.", "layer1.", "layer2.")[: freeze_at + 1 if freeze_at else 0]
    for name, parameter in backbone.model.named_parameters():
        assert parameter.requires_grad == (not name.startswith(prefixes)), name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*VD[:1], "MODEL.RESNETS.DEPTH", 51), r"MODEL\.RESNETS\.DEPTH is 51.*50, 101"),
        ((*VD[:2], ["res6"]), r"MODEL\.RESNETS\.OUT_FEATURES has res6; .*provides res2, res3"),
        ((*CSP[:1], "MODEL.CSPNET.NAME", "darknet"), r"CSPNET\.NAME is 'darknet'.*darknet53"),
        ((*CSP[:2], ["res3"]), r"MODEL\.CSPNET\.OUT_FEATURES has res3; .*csp0, csp1"),
        ((*PVT, "MODEL.PVT.NAME", "b6"), r"MODEL\.PVT\.NAME is 'b6'.*b0, b1"),
        ((*PVT, "MODEL.PVT.LINEAR", True), r"MODEL\.PVT\.LINEAR True.*only b2"),
        ((*PVT, "MODEL.PVT.EMBED_DIMS", [8]), r"MODEL\.PVT\.EMBED_DIMS is \[8\].*four"),
        ((*CSP, "MODEL.CSPNET.CHANNELS", [8]), r"MODEL\.CSPNET\.CHANNELS is \[8\].* 5 stages"),
        ((*PVT, "MODEL.PVT.OUT_FEATURES", ["p5"]), r"MODEL\.PVT\.OUT_FEATURES has p5.*p1, p2"),
    ],
)
def test_mistakes_are_errors_that_say_what_is_allowed(words: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(*words)


def test_weights_of_timm_are_loaded_before_convolutions_become_deformable(tmp_path: Any) -> None:
    torch.manual_seed(1)
    state: dict[str, Tensor] = timm.create_model("resnet50d").state_dict()
    torch.save(state, tmp_path / "resnet50d.pth")
    backbone = make(
        *(*VD, "MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, False, True, True]),
        *("MODEL.TIMM.WEIGHTS", str(tmp_path / "resnet50d.pth"), "MODEL.WEIGHTS", ""),
        *("MODEL.RESNETS.NORM", "FrozenBN"),
    )
    own = backbone.model.state_dict()
    assert torch.equal(own["layer3.0.conv2.weight"], state["layer3.0.conv2.weight"])
    assert torch.equal(own["layer2.0.bn1.weight"], state["layer2.0.bn1.weight"])
