"""Label images that can't teach what their names say are refused before a training."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from solo_family.data.formats.register import check_datasets
from solo_family.errors import DataError

from ...coco_folder import noise


def dataset(root: Path, values: tuple[int, ...]) -> str:
    """Two pictures; the values of their label images are columns side by side."""
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    labels = np.tile(np.repeat(np.array(values, np.uint8), 12), (48, 1))
    for index in range(2):
        noise(48, labels.shape[1], index).save(root / "images" / f"{index}.png")
        Image.fromarray(labels).save(root / "labels" / f"{index}.png")
    return f"semantic:{root}/images:{root}/labels"


@pytest.mark.parametrize("end", [":0", ""])
def test_labels_that_count_from_1_and_the_advice(tmp_path: Path, end: str) -> None:
    name = dataset(tmp_path / "data", (0, 1, 2))
    with pytest.raises(DataError, match="has label 2, but there are 2 classes, 0 to 1") as error:
        check_datasets([f"{name}:red,blue{end}"])
    advice = str(error.value).rpartition(": ")[2].rstrip(".")
    assert advice == "semantic:IMAGE_DIR:LABEL_DIR:unlabelled,CLASSES:0"
    check_datasets([f"{name}:unlabelled,red,blue:0"])


def test_black_and_white_is_one_class_and_nothing(tmp_path: Path) -> None:
    name = dataset(tmp_path / "data", (0, 255))
    with pytest.raises(DataError, match="0 and 255, and 255 is ignored, so no pixel is crack"):
        check_datasets([f"{name}:wall,crack"])
    # As the message says, both ways.
    check_datasets([name.replace("semantic:", "masks:")])
    for path in (tmp_path / "data" / "labels").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) // 255).save(path)
    check_datasets([f"{name}:wall,crack"])
