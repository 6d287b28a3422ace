"""Tell a checkpoint of another code base from a checkpoint of another model."""

from collections.abc import Collection

import torch

from .rules import rename
from .sources import SOURCES

# Prefixes that our models put before the names of a timm model.
_TIMM = ".model."


def advice_on_names(
    path: str, absent: Collection[str], unexpected: Collection[str], present: Collection[str]
) -> str:
    """Return advice for a checkpoint that has another code base's names, or "" if it has not.

    Args:
        path: the path of the checkpoint.
        absent: our names of weights that the checkpoint lacks.
        unexpected: names in the checkpoint that are not ours.
        present: all names in the checkpoint.
    """
    if not absent or not unexpected:
        return ""
    theirs = {name.replace(".", "_") for name in unexpected}
    of_timm = [name.split(_TIMM, 1)[1] for name in absent if _TIMM in name]
    # timm's networks of features hold some models as a part.
    ours = {name.removeprefix(_TIMM[1:]).replace(".", "_") for name in of_timm}
    if ours and ours <= theirs:
        return (
            f"MODEL.WEIGHTS {path} is timm's checkpoint of a backbone only: set MODEL.TIMM.WEIGHTS "
            "to it, and set MODEL.WEIGHTS ''."
        )
    for source in SOURCES.values():
        if not source.recognises(present):
            continue
        # The values don't matter; there are four of them because some transforms need a multiple of
        # four.
        renamed = rename({name: torch.zeros(4) for name in unexpected}, source.rules).weights
        if any(_is_end(name, absent) for name in renamed):
            return (
                f"MODEL.WEIGHTS {path} has the weight names of {source.title}. Convert it first: "
                f"python -m solo_family convert {path} converted.pth"
            )
    return ""


def _is_end(name: str, absent: Collection[str]) -> bool:
    return name in absent or any(other.endswith(f".{name}") for other in absent)
