"""Find out how a model of timm takes images of any size: by trying, on shapes without values."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from timm.models.mvitv2 import MultiScaleVit
from torch import nn

from ...errors import ConfigError
from . import hiera, swin
from .network import build_features, build_last_map, build_whole, channels_first
from .strides import promised_stride

# Lengths of tables of relative positions follow the training images, which shapes don't show.
_FOR_ONE_SIZE = (MultiScaleVit,)
# Height and width, of different odd multiples of 32.
_SIZE = (288, 416)
# The pixels by which a map without padded convolutions is smaller, at most.
_BORDER = 4
_OTHERS = "resnet, convnext, efficientnet, swin, vit, dinov2 or dinov3"


@dataclass(frozen=True)
class Fit:
    """How a model is built and used for images of any size.

    Attributes:
        options: timm's arguments.
        strides: of the features that it gives, as they are.
        indices: timm's, of these features.
        multiple: the sides of its input are padded to multiples of this.
        is_exact: its features have their promised sizes as they are.
        is_plain: it has one map, the last, and no others.
        has_norm: its last norm is applied; for plain models.
    """

    options: Mapping[str, Any]
    strides: tuple[int, ...]
    indices: tuple[int, ...]
    multiple: int = 1
    is_exact: bool = True
    is_plain: bool = False
    has_norm: bool = False


_found: dict[tuple[str, str], Fit] = {}


def fit_model(name: str, key: str, options: Mapping[str, Any]) -> Fit:
    """Return how a model takes images of any size.

    Args:
        name: timm's name of the model.
        key: the config's node for the backbone.
        options: timm's arguments.

    Raises:
        ConfigError: timm gives no features of it, or it takes images of one size only.
    """
    known = name, repr(sorted(options.items()))
    if known not in _found:
        _found[known] = _find(name, key, options)
    return _found[known]


def _find(name: str, key: str, options: Mapping[str, Any]) -> Fit:
    whole = _whole(name, options)
    info = getattr(whole, "feature_info", None)
    levels = getattr(info, "info", info)  # timm's class, or what it is made of
    if not levels:
        raise ConfigError(
            f"{key}.NAME is {name!r}, of which timm gives no feature maps: a backbone needs them. "
            f"Take one of another family: {_OTHERS}."
        )
    options = {**options, **_any_size_options(whole)}
    # Some have one before the first module that could give it.
    given = [index for index, level in enumerate(levels) if level.get("module", "stem")]
    strides = [levels[index]["reduction"] for index in given]
    plain = len(strides) > 1 and len(set(strides)) == 1
    kept = slice(-1, None) if plain else slice(None)
    bare = Fit(options, tuple(strides[kept]), tuple(given[kept]), is_plain=plain)
    reason = ""
    if not isinstance(whole, _FOR_ONE_SIZE):
        for way, multiples in _ways(whole, bare):
            fit, reason = _try(name, way, multiples)
            if fit is not None:
                return fit
    height, width = _trained_size(whole)
    if reason and _misfit_at(name, bare, (height, width)):
        raise ConfigError(
            f"{key}.NAME is {name!r}, which gives no feature maps here ({reason}). Take a model of "
            f"another family: {_OTHERS}."
        )
    raise ConfigError(
        f"{key}.NAME is {name!r}, which takes images of {height} x {width} pixels only: its "
        "windows or position tables are made for that size, and a backbone gets images of any. "
        f"Take a model of another family: {_OTHERS}."
    )


def _whole(name: str, options: Mapping[str, Any]) -> nn.Module:
    try:
        return build_whole(name, options)
    except (TypeError, NotImplementedError, AssertionError) as error:
        if "output_stride" not in options:
            raise
        raise ConfigError(
            f"MODEL.TIMM.OUTPUT_STRIDE is {options['output_stride']}, but {name} can't be dilated. "
            "Set it to 32, or take a model that can: resnet, efficientnet or convnext."
        ) from error


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


def _ways(whole: nn.Module, bare: Fit) -> Iterator[tuple[Fit, Sequence[int]]]:
    """Yield ways in which the model could take images of any size, and multiples of their sides."""
    if bare.is_plain:
        for norm in (True, False):
            yield replace(bare, has_norm=norm), bare.strides
    elif isinstance(whole, hiera.Hiera):
        yield bare, [hiera.MULTIPLE]
    else:
        # Windows may have to divide the maps: images of training are a whole number of them.
        yield bare, [1, *range(64, max(_trained_size(whole)) + 1, 32)]


def _trained_size(whole: nn.Module) -> tuple[int, int]:
    """Return (height, width) of the images that a model was trained with."""
    config: Any = getattr(whole, "pretrained_cfg", None) or {}
    _, height, width = config.get("input_size") or (3, 0, 0)
    return height, width


def _try(name: str, way: Fit, multiples: Sequence[int]) -> tuple[Fit | None, str]:
    """Return the way with the first multiple that the model works with, or why none does."""
    reason = ""
    try:
        network = _build(name, way, "meta")
    except Exception as error:
        return None, _first_line(error)
    for multiple in multiples:
        size = _input_size(multiple)
        try:
            shapes = _shapes_anywhere(name, network, way, size)
        except Exception as error:
            reason = reason or _first_line(error)
            continue
        refusal = _misfit(shapes, way, size)
        if not refusal:
            exact = multiple == 1 and _has_promised_sizes(shapes, way, size)
            return replace(way, multiple=multiple, is_exact=exact), ""
        reason = reason or refusal
    return None, reason


def _shapes_anywhere(
    name: str, network: nn.Module, way: Fit, size: tuple[int, int]
) -> list[tuple[int, int]]:
    try:
        return _shapes(network, way, size, "meta")
    except (NotImplementedError, RuntimeError) as error:
        if "meta" not in str(error) and not isinstance(error, NotImplementedError):
            raise
        # An operator needs values.
        return _shapes(_build(name, way, "cpu"), way, size, "cpu")


def _misfit_at(name: str, way: Fit, size: tuple[int, int]) -> str:
    """Return what is wrong with the maps of an image of that size, or ""."""
    try:
        return _misfit(_shapes_anywhere(name, _build(name, way, "meta"), way, size), way, size)
    except Exception as error:
        return _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _misfit(shapes: Sequence[tuple[int, int]], way: Fit, size: tuple[int, int]) -> str:
    """Return what is wrong with the maps of an image, or ""."""
    for shape, stride in zip(shapes, way.strides):
        missing = [-(-side // stride) - length for side, length in zip(size, shape)]
        if min(missing) < 0 or max(missing) > _BORDER:
            return (
                f"its map of stride {stride} is {shape[0]} x {shape[1]} for an image of "
                f"{size[0]} x {size[1]}"
            )
    return ""


def _has_promised_sizes(shapes: Sequence[tuple[int, int]], way: Fit, size: tuple[int, int]) -> bool:
    return all(
        shape == (-(-size[0] // stride), -(-size[1] // stride))
        and promised_stride(stride) == stride
        for shape, stride in zip(shapes, way.strides)
    )


def _input_size(multiple: int) -> tuple[int, int]:
    if multiple <= min(_SIZE):
        height, width = (-(-side // multiple) * multiple for side in _SIZE)
        return height, width
    return multiple, 2 * multiple


def _build(name: str, way: Fit, device: str) -> nn.Module:
    with torch.device(device):
        if way.is_plain:
            return build_last_map(name, way.options, norm=way.has_norm).eval()
        return build_features(name, way.options, way.indices).eval()


@torch.no_grad()
def _shapes(
    network: nn.Module, way: Fit, size: tuple[int, int], device: str
) -> list[tuple[int, int]]:
    """Return (height, width) of each feature of an image."""
    with torch.device(device):
        features = channels_first(network, network(torch.zeros(1, way.options["in_chans"], *size)))
    return [(feature.shape[-2], feature.shape[-1]) for feature in features]
