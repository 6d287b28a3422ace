"""Find out how a model of timm takes images of any size: by trying, on shapes without values."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...errors import ConfigError
from . import hiera, swin
from .network import build_features, build_last_map, build_whole, channels_first
from .strides import promised_stride

# Height and width, of different odd multiples of 32.
_SIZE = (288, 416)
# The pixels by which a map without padded convolutions is smaller, at most.
_BORDER = 3


@dataclass(frozen=True)
class Fit:
    """How a model is built and used for images of any size.

    Attributes:
        options: timm's arguments.
        strides: of the features in timm's order, as they are.
        multiple: the sides of its input are padded to multiples of this.
        is_exact: its features have their promised sizes as they are.
        is_plain: it has one map, the last, and no others.
        has_norm: its last norm is applied; for plain models.
    """

    options: Mapping[str, Any]
    strides: tuple[int, ...]
    multiple: int = 1
    is_exact: bool = True
    is_plain: bool = False
    has_norm: bool = False


def fit_model(name: str, key: str, options: Mapping[str, Any]) -> Fit:
    """Return how a model takes images of any size.

    Args:
        name: timm's name of the model.
        key: the config's node for the backbone.
        options: timm's arguments.

    Raises:
        ConfigError: timm gives no features of it, or it takes images of one size only.
    """
    whole = build_whole(name, options)
    info = getattr(whole, "feature_info", None)
    levels = getattr(info, "info", info)  # timm's class, or what it is made of
    if not levels:
        raise ConfigError(
            f"{key}.NAME is {name!r}, of which timm gives no feature maps: a backbone needs them. "
            "Take a model of another family, for instance resnet50 or convnext_tiny."
        )
    options = {**options, **_any_size_options(whole)}
    strides = tuple(level["reduction"] for level in levels)
    plain = len(strides) > 1 and len(set(strides)) == 1
    reasons: list[str] = []
    for fit in _candidates(whole, options, strides[-1:] if plain else strides, plain):
        found, reason = _try(name, fit)
        if found is not None:
            return found
        reasons.append(reason)
    height, width = _trained_size(whole)
    raise ConfigError(
        f"{key}.NAME is {name!r}, which takes only images of its training's size, "
        f"{height} x {width} ({reasons[0]}). Take a model that takes others, for instance of the "
        "families resnet, convnext, swin or vit."
    )


def _any_size_options(whole: nn.Module) -> dict[str, Any]:
    """Return the arguments by which timm's model takes images of any size, where it has them."""
    accepted = {
        parameter
        for parent in type(whole).__mro__
        if "__init__" in vars(parent)
        for parameter in inspect.signature(vars(parent)["__init__"]).parameters
    }
    options: dict[str, Any] = {}
    if "dynamic_img_size" in accepted:
        options["dynamic_img_size"] = True
    elif "strict_img_size" in accepted:
        options["strict_img_size"] = False
    if "always_partition" in accepted:
        # Windows of the trained size, shifted in every second block whatever the size of the map.
        options |= {"always_partition": True, "window_size": swin.trained_windows(whole)}
    return options


def _candidates(
    whole: nn.Module, options: Mapping[str, Any], strides: tuple[int, ...], plain: bool
) -> Iterator[Fit]:
    """Yield the ways in which the model could take images of any size, the best first."""
    if plain:
        for norm in (True, False):
            yield Fit(options, strides, strides[0], is_plain=True, has_norm=norm)
        return
    if isinstance(whole, hiera.Hiera):
        yield Fit(options, strides, hiera.MULTIPLE)
        return
    yield Fit(options, strides)
    # Windows that must divide the maps: the images of training are a whole number of them.
    for multiple in range(64, max(_trained_size(whole)) + 1, 32):
        yield Fit(options, strides, multiple)


def _trained_size(whole: nn.Module) -> tuple[int, int]:
    """Return (height, width) of the images that a model was trained with."""
    config: Any = getattr(whole, "pretrained_cfg", None) or {}
    _, height, width = config.get("input_size") or (3, 0, 0)
    return height, width


def _try(name: str, fit: Fit) -> tuple[Fit | None, str]:
    """Return the way if the model works with it, or why it does not."""
    try:
        try:
            shapes = _shapes(name, fit, "meta")
        except NotImplementedError:  # an operator without shapes only
            shapes = _shapes(name, fit, "cpu")
    except Exception as error:
        return None, (str(error).strip().splitlines() or [type(error).__name__])[0]
    size = _input_size(fit.multiple)
    exact = fit.multiple == 1
    for shape, stride in zip(shapes, fit.strides):
        missing = [-(-side // stride) - length for side, length in zip(size, shape)]
        if min(missing) < 0 or max(missing) > _BORDER:
            return None, f"its map of stride {stride} is {shape[0]} x {shape[1]} for {size}"
        exact = exact and max(missing) == 0 and promised_stride(stride) == stride
    return Fit(**{**vars(fit), "is_exact": exact}), ""


def _input_size(multiple: int) -> tuple[int, int]:
    if multiple <= min(_SIZE):
        height, width = (-(-side // multiple) * multiple for side in _SIZE)
        return height, width
    return multiple, 2 * multiple


@torch.no_grad()
def _shapes(name: str, fit: Fit, device: str) -> list[tuple[int, int]]:
    """Return (height, width) of each feature of an image."""
    with torch.device(device):
        if fit.is_plain:
            network = build_last_map(name, fit.options, norm=fit.has_norm)
        else:
            network = build_features(name, fit.options, range(len(fit.strides)))
        image = torch.zeros(1, fit.options["in_chans"], *_input_size(fit.multiple))
        features = channels_first(network.eval(), network(image))
    return [(feature.shape[-2], feature.shape[-1]) for feature in features]
