"""Learning rates that fall with the depth of the backbone's layers (`BACKBONE_LAYER_DECAY`).

As ELECTRA (arXiv 2003.10555, appendix A) and BEiT (arXiv 2106.08254, section 3.2) fine-tune.
"""

import re
from collections.abc import Iterable

from ..errors import ConfigError

_BACKBONE = "backbone."
# Beside the layers of a backbone with a pyramid stand the convolutions of that.
_BODY = re.compile(r"backbone\.(?!fpn_)")
_STEM = re.compile(r"(^|\.)stem")
# "res4.5", "layer3.1", "features.7", "7"; "blocks.3.1", "stages_2.blocks.4", "layers.0.blocks.1".
_BLOCK = re.compile(r"(?:^|\w+?[._])\d+(?:\.(?:blocks?\.|layers\.)?\d+(?=\.))?(?=\.)")


def layer_factors(names: Iterable[str], decay: float) -> dict[str, float]:
    """Return the factors on the learning rates of a backbone's parameters, by name.

    The last residual or transformer block has `decay`, the one before it `decay` squared, and so
    on to the stem. What stands between blocks, such as a reduction, has the factor of the block
    before it.

    Args:
        names: of all parameters of a model, in their order.
        decay: above 0, at most 1.

    Returns:
        Nothing for parameters that are not of the backbone, or of its pyramid.

    Raises:
        ConfigError: the backbone has no blocks that can be told by their names.
    """
    depths: dict[str, int] = {}
    seen: dict[str, int] = {}
    depth = 0
    for name in names:
        if not _BODY.match(name):
            continue
        block = _block_of(name.removeprefix(_BACKBONE))
        if block is not None:
            depth = seen.setdefault(block, len(seen) + 1)
        depths[name] = depth
    if not seen:
        raise ConfigError(
            f"SOLVER.BACKBONE_LAYER_DECAY is {decay}, but the names of this backbone's weights "
            "(backbone.*) number no blocks, by which depth is told. Set "
            "SOLVER.BACKBONE_LAYER_DECAY 1.0; SOLVER.BACKBONE_MULTIPLIER is of the whole backbone."
        )
    return {name: decay ** (len(seen) + 1 - depth) for name, depth in depths.items()}


def _block_of(name: str) -> str | None:
    """Return the part of a name that numbers a block; None for the stem, and between blocks."""
    found = _BLOCK.search(name)
    if found is None or _STEM.search(name[: found.end()]):
        return None
    if name[found.end() :].startswith(".downsample"):
        return None  # of a stage, or of the block that has been numbered before
    return name[: found.end()]
