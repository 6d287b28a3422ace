"""Where the weights that a model began with are from, and which licence they have."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode
from safetensors import safe_open

from ..errors import SoloFamilyError
from ..fetch.hub import fetch_from_hub
from ..fetch.hub_file import parse_hub
from ..fetch.names import HUB, ZOO
from ..fetch.table import find

# The key of checkpoints, and of the metadata of .safetensors.
KEY = "origin"
_PRETRAINED = "pretrained"
# What detectron2's MODEL_ZOO.md says of all files there.
_DETECTRON2 = "CC-BY-SA-3.0"
_NON_COMMERCIAL = re.compile(r"(?i)non.?commercial|\bnc\b|research only")


@dataclass(frozen=True)
class Origin:
    """Weights that others have made.

    Attributes:
        weights: their name, without a path of this machine.
        licence: their licence; "" if it is unknown.
    """

    weights: str
    licence: str = ""

    @property
    def is_non_commercial(self) -> bool:
        """Whether the licence is known to forbid commercial use."""
        return is_non_commercial(self.licence)

    def as_dict(self) -> dict[str, str]:
        """Return what a checkpoint keeps of it under `KEY`."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.weights}, licence: {self.licence or 'unknown'}"


def is_non_commercial(licence: str) -> bool:
    """Return whether a licence is known to forbid commercial use."""
    return _NON_COMMERCIAL.search(re.sub(r"[-_.]", " ", licence)) is not None


def origin_of(cfg: CfgNode) -> Origin | None:
    """Return the weights that a training with this configuration begins with.

    Returns:
        None if they are random.
    """
    weights = cfg.MODEL.WEIGHTS
    if weights:
        return origin_of_weights(weights)
    backbone = cfg.MODEL.BACKBONE.NAME
    if cfg.MODEL.TIMM.WEIGHTS and "timm" in backbone:
        return _of_timm(cfg.MODEL.TIMM.WEIGHTS, cfg.MODEL.TIMM.NAME)
    if cfg.MODEL.VGG.WEIGHTS and "vgg" in backbone:
        return _of_file(cfg.MODEL.VGG.WEIGHTS, "torchvision's VGG-16", "")
    return None


def origin_of_weights(weights: str) -> Origin:
    """Return where weights are from, by their name or by what their file says.

    Args:
        weights: as `MODEL.WEIGHTS` has it; not empty.
    """
    if weights.startswith(ZOO):
        return Origin(weights, find(weights.removeprefix(ZOO)).licence)
    if weights.startswith(HUB):
        return Origin(weights, _licence_of_card(weights))
    if weights.startswith("detectron2://"):
        return Origin(weights, _DETECTRON2)
    if "://" in weights:
        return Origin(weights)
    path = Path(weights)
    kept = _kept_in(path)
    return Origin(**kept) if kept else Origin(path.name)


def _of_timm(weights: str, name: str) -> Origin:
    import timm

    licence = ""
    if timm.is_model(name):
        licence = getattr(timm.get_pretrained_cfg(name), "license", None) or ""
    return _of_file(weights, f"timm's {name}", licence)


def _of_file(weights: str, title: str, licence: str) -> Origin:
    if weights == _PRETRAINED:
        return Origin(title, licence)
    return origin_of_weights(weights)


def _licence_of_card(weights: str) -> str:
    """Return the licence that the model card of a repository names; "" if there is none."""
    file = parse_hub(weights)._replace(name="README.md")
    try:
        text = fetch_from_hub(file).path.read_text(encoding="utf-8-sig", errors="replace")
    except SoloFamilyError:
        return ""
    card = re.match(r"---\s*\n(.+?)\n---", text, re.S)
    try:
        content = yaml.safe_load(card[1]) if card else None
    except yaml.YAMLError:
        return ""
    if not isinstance(content, dict):
        return ""
    licence = str(content.get("license") or "")
    return str(content.get("license_name") or licence) if licence == "other" else licence


def _kept_in(path: Path) -> dict[str, Any]:
    """Return what a file says of its origin; {} if it says nothing or can't be read."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                kept = yaml.safe_load((file.metadata() or {}).get(KEY, "{}"))
        else:
            kept = torch.load(path, map_location="cpu", weights_only=True, mmap=True).get(KEY)
    # A damaged file can raise any of a dozen errors; what is wrong with it is told elsewhere.
    except Exception:
        return {}
    is_known = isinstance(kept, dict) and set(kept) == {"weights", "licence"}
    return kept if is_known and all(isinstance(text, str) for text in kept.values()) else {}
