"""ADE20K-Full: images of at most 512 pixels at the short edge, and 16-bit labels of 847 classes.

MaskFormer (arXiv 2107.06278, appendix A) selects from the more than 3,000 annotated classes "those
that are present in both training and validation sets, resulting in a total of 847". That rule is
applied to the dataset's own index here. The order of the classes in the authors' weights is another
one, which only their list tells.
"""

import pickle
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ...errors import DataError
from ...files import replacing
from ...weight_files import ArrayUnpickler, reason, refused
from ..formats.text_files import read_lines
from .files import Prepared, convert_files, need

EXPECTED = {"training": 25574, "validation": 2000}
_CLASSES = 847
_SHORT_EDGE = 512
_VOID = 65535
_OWN = "Give the list with --classes FILE; docs/datasets.md says where it is."


@dataclass(frozen=True)
class _Index:
    """The dataset's own index.

    Attributes:
        names: of all classes; in label images a class is its place in this list, from 1.
        splits: the images of each split, as paths.
        in_both: whether a class occurs in both splits other than as a part of an object.
    """

    names: list[str]
    splits: dict[str, list[Path]]
    in_both: np.ndarray


def prepare(root: Path, classes: Path | None = None) -> list[Prepared]:
    """Write `images_detectron2`, `annotations_detectron2` and `classes_847.txt`.

    Args:
        root: the folder of all datasets; the originals are in `ADE20K_2021_17_01`.
        classes: a text file with a class per line: its name, or its number in the label images;
            None selects the classes that occur in both splits, in the order of the index.

    Raises:
        DataError: the originals are missing or broken, a class is unknown or its name ambiguous,
            there are not 847, or an earlier run had other classes.
    """
    folder = need(
        root / "ADE20K_2021_17_01", "unpack ADE20K_2021_17_01.zip (ade20k.csail.mit.edu) there."
    )
    index = _read_index(need(folder / "index_ade20k.pkl", "the archive is not complete."), root)
    selected = _select(index) if classes is None else _listed(index, classes)
    _write_names(folder / "classes_847.txt", [index.names[number - 1] for number in selected])
    labels = np.full(len(index.names) + 1, _VOID, np.uint16)
    labels[selected] = range(len(selected))
    prepared = []
    for split, expected in EXPECTED.items():
        images = folder / "images_detectron2" / split
        annotations = folder / "annotations_detectron2" / split
        steps = (
            ("images", partial(_file_in, images, ".jpg"), _shrink),
            ("labels", partial(_file_in, annotations, ".tif"), partial(_label, labels)),
        )
        for what, target, convert in steps:
            prepared.append(
                convert_files(f"{split} {what}", index.splits[split], target, convert, expected)
            )
    return prepared


def _read_index(path: Path, root: Path) -> _Index:
    try:
        with open(path, "rb") as file:
            content = ArrayUnpickler(file).load()
        names = [str(name) for name in content["objectnames"]]
        files = [Path(*parts) for parts in zip(content["folder"], content["filename"], strict=True)]
        # [classes, images]: how often a class occurs in an image, and how often of these as a part.
        present = np.greater(content["objectPresence"], content["objectIsPart"])
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        why = f"it names {refused(error)}" if refused(error) else reason(error)
        raise DataError(
            f"{path} is not ADE20K's index ({why}). Unpack ADE20K_2021_17_01.zip again."
        ) from error
    if present.shape != (len(names), len(files)):
        raise DataError(
            f"{path} has {len(names)} classes and {len(files)} images, but a table of "
            f"{' x '.join(map(str, present.shape))}. Unpack ADE20K_2021_17_01.zip again."
        )
    is_val = np.array([file.name.startswith("ADE_val_") for file in files], dtype=bool)
    in_both = np.logical_and.reduce([present[:, part].any(1) for part in (is_val, ~is_val)])
    paths = {"training": ~is_val, "validation": is_val}
    splits = {
        split: [root / files[i] for i in np.flatnonzero(chosen)] for split, chosen in paths.items()
    }
    return _Index(names, splits, in_both)


def _select(index: _Index) -> list[int]:
    selected = np.flatnonzero(index.in_both) + 1
    if len(selected) != _CLASSES:
        raise DataError(
            f"{len(selected)} classes of the index occur in both splits, and not {_CLASSES} as in "
            f"MaskFormer's paper. {_OWN}"
        )
    return [int(number) for number in selected]


def _listed(index: _Index, classes: Path) -> list[int]:
    numbers: dict[str, list[int]] = {}
    for number, name in enumerate(index.names, 1):
        numbers.setdefault(name, []).append(number)
        numbers[str(number)] = [number]
    selected = []
    for line in filter(None, read_lines(classes)):
        found = numbers.get(line, [])
        if len(found) != 1:
            which = (
                f"is that of the classes {', '.join(map(str, found))}" if found else "is unknown"
            )
            raise DataError(
                f"{classes}: {line!r} {which}. Write a name of ADE20K's index, or the class's "
                f"number in the label images, 1 to {len(index.names)}."
            )
        selected += found
    if len(selected) != _CLASSES or len(set(selected)) != _CLASSES:
        raise DataError(
            f"{classes} lists {len(selected)} classes, {len(set(selected))} different ones; there "
            f"must be {_CLASSES}, each on a line of its own."
        )
    return selected


def _write_names(path: Path, names: list[str]) -> None:
    """Write the names, in the order of the labels, unless labels were made with others."""
    if path.exists() and read_lines(path)[: len(names)] != names:
        raise DataError(
            f"{path} has other classes, or another order. Remove it and the folder "
            f"{path.parent / 'annotations_detectron2'}, whose labels are of these classes."
        )
    with replacing(path) as temporary:
        temporary.write_text("\n".join(names) + "\n", encoding="utf-8")


def _file_in(folder: Path, suffix: str, source: Path) -> Path:
    return folder / f"{source.stem}{suffix}"


def _small_size(width: int, height: int) -> tuple[int, int]:
    if min(width, height) <= _SHORT_EDGE:
        return width, height
    if width >= height:
        return round(width / height * _SHORT_EDGE), _SHORT_EDGE
    return _SHORT_EDGE, round(height / width * _SHORT_EDGE)


def _shrink(source: Path, target: Path) -> None:
    with Image.open(need(source, "the archive is not complete.")) as image:
        pixels = np.asarray(image)
    size = _small_size(pixels.shape[1], pixels.shape[0])
    if size != (pixels.shape[1], pixels.shape[0]):
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    Image.fromarray(pixels).save(target)


def _label(labels: np.ndarray, source: Path, target: Path) -> None:
    encoded = need(source.with_name(f"{source.stem}_seg.png"), "the archive is not complete.")
    with Image.open(encoded) as image:
        colours = np.asarray(image)
    if colours.ndim != 3:
        raise DataError(f"{encoded} is not a colour image. Unpack ADE20K_2021_17_01.zip again.")
    # Red counts in tens, which leaves its last digit free; blue tells objects apart.
    numbers = colours[:, :, 0].astype(np.int32) // 10 * 256 + colours[:, :, 1]
    size = _small_size(numbers.shape[1], numbers.shape[0])
    if size != (numbers.shape[1], numbers.shape[0]):
        numbers = cv2.resize(numbers, size, interpolation=cv2.INTER_NEAREST)
    if numbers.max() >= len(labels):
        raise DataError(
            f"{encoded} has the class {numbers.max()}, but the index has {len(labels) - 1}. Unpack "
            "ADE20K_2021_17_01.zip again."
        )
    Image.fromarray(labels[numbers]).save(target)
