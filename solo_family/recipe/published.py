"""Choose published COCO weights to start from, if possible such as may be used commercially."""

from pathlib import PurePosixPath

from ..errors import DataError
from ..fetch.table import Entry, read_table
from ..registry import METHODS

# What `--from` takes in the place of a name.
COCO = "coco"
# Of the size that most published models have.
_PREFERRED = "R50"
_SMALL = "Light"


def choose_coco(method: str) -> Entry:
    """Return the model of a method whose published COCO weights a recipe starts from.

    Weights that may be used commercially come first, then a ResNet-50 at full image size, then the
    highest published number.

    Raises:
        DataError: no weights of the method can be downloaded.
    """
    found = _of_coco(method)
    if not found:
        raise DataError(
            f"--from {COCO}: no COCO weights of {METHODS[method].title} can be downloaded. Leave "
            "--from out, or name a file: `convert` makes one of the weights that the authors give."
        )
    return max(found, key=_rank)


def advise(entry: Entry) -> str:
    """Return a sentence about weights that may be used commercially in place of these; "" if none.

    Args:
        entry: the model whose weights were asked for.
    """
    if entry.is_commercial:
        return ""
    folder = PurePosixPath(entry.config).parts[0]
    others = [each for method in METHODS for each in _of_coco(method) if each.is_commercial]
    same = [each for each in others if PurePosixPath(each.config).parts[0] == folder]
    if not same:
        return ""
    best = max(same, key=_rank)
    return f"for commercial use: --from {best.config} ({best.licence})"


def _of_coco(method: str) -> list[Entry]:
    folder = METHODS[method].base_config.split("/")[0]
    return [
        entry
        for entry in read_table().values()
        if entry.weights
        and entry.config.startswith(f"{folder}/")
        # Masks of instances on COCO; of MaskFormer its panoptic models on COCO.
        and (entry.metric == "AP" or (entry.metric == "PQ" and "/coco-panoptic/" in entry.config))
    ]


def _rank(entry: Entry) -> tuple[bool, bool, bool, float]:
    name = PurePosixPath(entry.config).stem
    return entry.is_commercial, _SMALL not in name, _PREFERRED in name, float(entry.published)
