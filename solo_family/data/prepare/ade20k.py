"""ADE20K's 150 classes: labels from 0, as detectron2's `ade20k_sem_seg_{train,val}` reads them.

The original PNGs count from 1, and have 0 for pixels without a class, which become 255.
"""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import DataError
from .files import Prepared, convert_files, need

EXPECTED = {"training": 20210, "validation": 2000}
_CLASSES = 150


def prepare(root: Path) -> list[Prepared]:
    """Write `annotations_detectron2` of `ADEChallengeData2016`.

    Args:
        root: the folder of all datasets.

    Raises:
        DataError: the originals are missing, or a label is not one of ADE20K's.
    """
    folder = need(
        root / "ADEChallengeData2016",
        "unpack ADEChallengeData2016.zip (sceneparsing.csail.mit.edu) there.",
    )
    prepared = []
    for split, expected in EXPECTED.items():
        source = need(folder / "annotations" / split, "the archive is not complete.")
        target = folder / "annotations_detectron2" / split
        prepared.append(
            convert_files(
                split, source.glob("*.png"), partial(_label_file, target), _convert, expected
            )
        )
    return prepared


def _label_file(folder: Path, source: Path) -> Path:
    return folder / f"{source.stem}.png"


def _convert(source: Path, target: Path) -> None:
    with Image.open(source) as image:
        labels = np.asarray(image)
    if labels.ndim != 2 or labels.max() > _CLASSES:
        raise DataError(
            f"{source} is no label image of 0 to {_CLASSES}. Unpack ADEChallengeData2016.zip again."
        )
    # In 8 bits 0 becomes 255.
    Image.fromarray((labels - 1).astype(np.uint8)).save(target)
