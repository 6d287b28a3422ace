"""Refuse `KEY VALUE` pairs that the model does not read, and warn of those that are switched off.

Only what is given with a command is judged, which was meant to act: files inherit keys of other
models and backbones, and the config of a run has all keys.
"""

import logging
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode

from ..errors import ConfigError
from ..registry import METHODS, Method
from .caps import instance_limits
from .load import dotted_values
from .owners import own_keys

# The sections that each backbone reads; those of the user's own code may read any.
_RESNET, _FPN, _TIMM = "MODEL.RESNETS", "MODEL.FPN", "MODEL.TIMM"
_SWIN, _PVT, _CSPNET, _VGG = "MODEL.SWIN", "MODEL.PVT", "MODEL.CSPNET", "MODEL.VGG"
SECTIONS: dict[str, tuple[str, ...]] = {
    "build_resnet_backbone": (_RESNET,),
    "build_resnet_fpn_backbone": (_RESNET, _FPN),
    "build_retinanet_resnet_fpn_backbone": (_RESNET, _FPN),
    "build_resnet_deeplab_backbone": (_RESNET,),
    "build_resnet_vd_backbone": (_RESNET, _TIMM),
    "build_timm_backbone": (_TIMM,),
    "build_timm_fpn_backbone": (_TIMM, _FPN),
    "build_pyramid_vision_transformer": (_PVT, _TIMM),
    "build_cspnet_backbone": (_CSPNET, _TIMM),
    "build_vgg_atrous_backbone": (_VGG,),
    "D2SwinTransformer": (_SWIN,),
}
_OF_BACKBONES = (_RESNET, _FPN, _TIMM, _SWIN, _PVT, _CSPNET, _VGG)
# `quickstart` and other commands give them, whatever the backbone.
_OF_COMMANDS = (f"{_TIMM}.WEIGHTS", f"{_VGG}.WEIGHTS")
_CAP = "TEST.DETECTIONS_PER_IMAGE"
_SWITCH = "ENABLED"
# The switch beside it is not theirs.
_INDEPENDENT = ("INPUT.CROP.AROUND_OBJECTS",)

logger = logging.getLogger(__name__)


def check_given(cfg: CfgNode, defaults: CfgNode, pairs: Sequence[str]) -> None:
    """Check that what is given with a command acts.

    Args:
        cfg: the configuration with these pairs.
        defaults: that without any file or pair.
        pairs: `KEY VALUE KEY VALUE ...`.

    Raises:
        ConfigError: the model or its backbone does not read a key; the message names the key, its
            value, and the one to use instead if there is one.
    """
    method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)
    now, usual = dotted_values(cfg), dotted_values(defaults)
    for key in dict.fromkeys(pairs[::2]):
        if key in _OF_COMMANDS or key not in now or now[key] == usual.get(key):
            continue
        _check_backbone(cfg, key, now[key])
        if method is not None:
            _check_method(method, key, now)
            _check_cap(cfg, key, now[key])
        _warn_of_switch(key, now)


def _check_backbone(cfg: CfgNode, key: str, value: Any) -> None:
    name = cfg.MODEL.BACKBONE.NAME
    section = next((one for one in _OF_BACKBONES if key.startswith(f"{one}.")), "")
    read = SECTIONS.get(name)
    if section and read is not None and section not in read:
        raise ConfigError(
            f"{key} is {value!r}, but the backbone {name} does not read it: its keys are those of "
            f"{' and '.join(read)}. Leave it out, or choose another MODEL.BACKBONE.NAME."
        )


def _check_method(method: Method, key: str, now: dict[str, Any]) -> None:
    """Refuse a key of other methods."""
    if key.startswith(tuple(f"{one}." for one in _OF_BACKBONES)) or not key.startswith("MODEL."):
        return
    others = [one for one in METHODS.values() if key in own_keys(one)]
    own, _, _ = method.num_classes_key.rpartition(".")
    if not others or key in own_keys(method) or key.startswith(f"{own}."):
        return
    name = key.rpartition(".")[2]
    same = [one for one in own_keys(method) if one.rpartition(".")[2] == name]
    instead = f": set {same[0]}" if len(same) == 1 else f": its keys are those of {own}"
    raise ConfigError(
        f"{key} is {now[key]!r}, but it is a key of {others[0].title}, and "
        f"{method.title or method.meta_arch} does not read it{instead}."
    )


def _check_cap(cfg: CfgNode, key: str, value: int) -> None:
    limits = instance_limits(cfg)
    if key == _CAP and limits and _CAP not in limits:
        raise ConfigError(
            f"{_CAP} is {value}, but this model has a limit of its own, which counts instead: set "
            f"{next(iter(limits))}."
        )


def _warn_of_switch(key: str, now: dict[str, Any]) -> None:
    """Warn of a key beside a switch that is off."""
    section, _, name = key.rpartition(".")
    switch = f"{section}.{_SWITCH}"
    if name != _SWITCH and now.get(switch) is False and key not in _INDEPENDENT:
        said = f"{key} is given, but does nothing while {switch} is False."
        logger.warning(said)
