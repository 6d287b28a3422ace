"""Convert checkpoints of other code bases to ours, together with the config of their model."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.modeling.backbone import build_backbone
from safetensors.torch import save_file
from torch import Tensor, nn

from ..config import get_cfg
from ..config.check import check_config
from ..errors import ConfigError, DataError, first_line, first_of
from ..files import replacing
from ..modeling.layers import torchvision_deform_conv
from ..weight_files import read_weights
from .implied import implied_keys
from .origin import KEY, Origin
from .rules import Renamed, rename
from .source import Source, choose
from .source_config import read_source_config
from .sources import SOURCES

logger = logging.getLogger(__name__)

SUFFIXES = (".pth", ".safetensors")
# These are not weights: whether batch norms have this counter depends on the torch version that
# saved them.
_COUNTER = "num_batches_tracked"
_AUTHOR = "solo_family convert"
# Reading keys off tensors whose shapes fit no model raises one of these, wherever they are read
# first.
_SHAPE_ERRORS = (
    *(AttributeError, IndexError, RuntimeError, TypeError, ValueError),
    ZeroDivisionError,
)


@dataclass
class Converted:
    """A checkpoint under our names.

    Attributes:
        source: title of the code base that it comes from.
        weights: tensors by our names.
        keys: config keys of its model.
        dropped: the reason by the name of each weight of the source that has no use here.
        ignored: unknown weights of the source, or unknown keys of its config, that a flag allowed.
        missing: weights of the model that the source lacks, which a flag allows, or which the
            source lacks because it has only a backbone.
    """

    source: Source
    weights: dict[str, Tensor]
    keys: dict[str, Any]
    dropped: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def convert(
    path: str | Path,
    *,
    source: str = "",
    source_config: str | Path | None = None,
    allow_unknown: bool = False,
    allow_missing: bool = False,
) -> Converted:
    """Read a checkpoint and give its weights our names.

    The model that the weights imply is built without allocating memory, and every name and shape is
    compared with it, so that whatever is returned loads.

    Args:
        path: the path of the source's checkpoint.
        source: a name of `SOURCES`; "" recognises it by the names of its weights.
        source_config: the source's own config, a yaml file in detectron2's format.
        allow_unknown: continue without weights whose names no rule knows.
        allow_missing: continue although the source lacks some of the model's weights.

    Returns:
        The converted weights, and what was dropped, ignored or missing.

    Raises:
        DataError: the file can't be read, is of no known source, or has unknown or missing weights
            that are not allowed.
        ConfigError: the source's config can't be read.
    """
    weights = read_weights(path)
    chosen = choose(SOURCES, weights, source, path)
    try:
        renamed = rename(weights, chosen.rules)
        result = Converted(chosen, renamed.weights, {}, dict(renamed.dropped))
        _check_unknown(path, result, renamed.unknown, allow_unknown)
        result.keys = {
            **implied_keys(result.weights, backbone_only=chosen.backbone_only),
            **chosen.keys,
        }
        result.keys |= _method_details(chosen, weights)
    except KeyError as error:
        raise DataError(
            f"{path} has no {error.args[0]}, without which its model can't be inferred. Check that "
            f"it is a complete checkpoint of {chosen.title}, or name another --source."
        ) from error
    except _SHAPE_ERRORS as error:
        raise DataError(
            f"{path}: the shapes of its weights fit no known model ({first_line(error)}). Check "
            f"that it is a checkpoint of {chosen.title}, or name another --source."
        ) from error
    if source_config is not None:
        keys, ignored = read_source_config(source_config)
        result.keys |= keys
        result.ignored += [f"key {name}" for name in ignored]
    # Keys of a method other than the weights' own have no effect.
    result.keys = _of_this_model(result.keys)
    _check_fit(path, result, renamed, allow_unknown, allow_missing)
    return result


def write(converted: Converted, path: str | Path) -> Path:
    """Write the weights, and beside them a yaml file with the config keys of their model.

    Args:
        converted: result of `convert`.
        path: ends in .pth or .safetensors.

    Returns:
        The path of the yaml file.

    Raises:
        DataError: the path has another ending.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: the name must end in {' or '.join(SUFFIXES)}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.contiguous() for name, tensor in converted.weights.items()}
    # A backbone's weights are matched by the ends of their names, wherever the backbone stands in a
    # model.
    origin = Origin(f"a checkpoint of {converted.source.title}").as_dict()
    extra: dict[str, Any] = {"__author__": _AUTHOR}
    if converted.source.backbone_only:
        extra["matching_heuristics"] = True
    with replacing(path) as temporary:
        if path.suffix == ".safetensors":
            save_file(
                weights,
                temporary,
                {name: str(value) for name, value in extra.items()} | {KEY: json.dumps(origin)},
            )
        else:
            torch.save({"model": weights, **extra, KEY: origin}, temporary)
    config = path.with_suffix(".yaml")
    keys = {**converted.keys, "MODEL.WEIGHTS": str(path)}
    with replacing(config) as temporary:
        text = yaml.safe_dump(nested(keys), sort_keys=False)
        temporary.write_text(
            f"# The config keys that {path.name} implies, converted from "
            f"{converted.source.title}.\n{text}",
            encoding="utf-8",
            errors="backslashreplace",  # letters of a path that the locale does not know
        )
    return config


def nested(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys as nested dicts, the way a yaml file has them."""
    tree: dict[str, Any] = {}
    for key, value in keys.items():
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = list(value) if isinstance(value, tuple) else value
    return tree


def config_of(keys: Mapping[str, Any]) -> CfgNode:
    """Return our default configuration with these keys set."""
    cfg = get_cfg()
    for key, value in keys.items():
        cfg.merge_from_list([key, value])
    return cfg


def _method_details(source: Source, weights: dict[str, Tensor]) -> dict[str, Any]:
    """Return the config keys that only dropped weights reveal."""
    if any(name.endswith("softmax_bias") for name in weights):
        return {"MODEL.SPARSE_INST.DECODER.NAME": "GroupIAMSoftDecoder"}
    return {}


def _of_this_model(keys: dict[str, Any]) -> dict[str, Any]:
    own = {"SOLO": "SOLO", "DecoupledSOLO": "SOLO", "SOLOv2": "SOLOV2"}
    method = own.get(keys.get("MODEL.META_ARCHITECTURE", ""), "")
    others = [f"MODEL.{name}." for name in ("SOLO", "SOLOV2") if name != method]
    if keys.get("MODEL.BACKBONE.NAME") not in ("", None) and "resnet" not in str(
        keys["MODEL.BACKBONE.NAME"]
    ):
        others.append("MODEL.RESNETS.")
    return {key: value for key, value in keys.items() if not key.startswith(tuple(others))}


def _check_unknown(path: Any, result: Converted, unknown: list[str], allowed: bool) -> None:
    if not unknown:
        return
    if not allowed:
        raise DataError(
            f"{path}: {len(unknown)} of its weights are unknown in a checkpoint of "
            f"{result.source.title}: {_listed(unknown)}. --allow-unknown converts the others."
        )
    result.ignored += unknown


def _check_fit(
    path: Any, result: Converted, renamed: Renamed, allow_unknown: bool, allow_missing: bool
) -> None:
    """Compare the names and shapes of the weights with those of the model that they imply."""
    expected = _expected(path, result)
    needed = [name for name in expected if not name.endswith(_COUNTER)]
    wrong = [
        f"{' + '.join(renamed.origins[name])} is {tuple(weight.shape)}, not {expected[name]}"
        for name, weight in result.weights.items()
        if name in expected and tuple(weight.shape) != expected[name]
    ]
    if wrong:
        raise DataError(
            f"{path}: {len(wrong)} weights differ in shape from the model that the rest "
            f"implies: {_listed(wrong)}. If the model has keys that its weights don't show, give "
            "its config with --source-config."
        )
    extra = [name for name in result.weights if name not in expected]
    counters = [name for name in extra if name.endswith(_COUNTER)]
    unknown = [name for name in extra if not name.endswith(_COUNTER)]
    origins = [theirs for name in unknown for theirs in renamed.origins[name]]
    _check_unknown(path, result, origins, allow_unknown)
    for name in counters:
        result.dropped |= dict.fromkeys(renamed.origins[name], "a counter of a frozen batch norm")
    for name in extra:
        del result.weights[name]
    result.missing = [name for name in needed if name not in result.weights]
    lacking = [name for name in result.missing if not re.fullmatch(result.source.fresh, name)]
    if lacking and not allow_missing:
        raise DataError(
            f"{path} lacks {len(lacking)} weights of the model (under our names): "
            f"{_listed(lacking)}. --allow-missing leaves them at their initial values."
        )


def _expected(path: Any, result: Converted) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights of the model that `result.keys` describes, by name."""
    try:
        cfg = config_of(result.keys)
        cfg.merge_from_list(["MODEL.DEVICE", "meta", "DATASETS.TRAIN", (), "DATASETS.TEST", ()])
        if not result.source.backbone_only:
            check_config(cfg)
        # Tensors on the meta device have shapes but no values, so that even an X101 takes no
        # memory.
        with torch.device("meta"), torchvision_deform_conv():
            model: nn.Module = (
                build_backbone(cfg) if result.source.backbone_only else build_model(cfg)
            )
    except (ConfigError, KeyError, AssertionError, *_SHAPE_ERRORS) as error:
        raise DataError(
            f"{path}: the model that its weights imply can't be built: {error}"
        ) from error
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _listed(names: list[str]) -> str:
    return first_of(names, 5, "; ")
