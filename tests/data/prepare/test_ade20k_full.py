"""ADE20K-Full from a miniature: classes by the rule and by a list, every pixel compared."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from solo_family.__main__ import main

RNG = np.random.default_rng(0)


def full_index(root: Path, first: tuple[int, int] = (6, 9)) -> dict[str, np.ndarray]:
    """Writes three images of 5 classes; returns the class of each pixel, from 1, 0 for none.

    The first may be of another size than the others.

    Classes 2 and 3 have the same name; class 4 is only a part in validation, class 5 only there.
    """
    present = {"train": [3, 4, 2], "train2": [4, 2], "val": [2, 3, 5]}
    folder = root / "ADE20K_2021_17_01"
    index: dict[str, list] = {"filename": [], "folder": []}
    counts, parts = np.zeros((2, 5, 3), np.int64)
    truth = {}
    for column, (name, classes) in enumerate(present.items()):
        split = "training" if name.startswith("train") else "validation"
        images = f"ADE20K_2021_17_01/images/ADE/{split}/park"
        (root / images).mkdir(parents=True, exist_ok=True)
        stem = f"ADE_{name.removesuffix('2')}_{column:08}"
        index["filename"].append(f"{stem}.jpg")
        index["folder"].append(images)
        height, width = first if column == 0 else (6, 9)
        labels = RNG.choice([0, 1000, *classes], (height, width))
        truth[stem] = labels
        colours = np.stack([labels // 256 * 10 + 3, labels % 256, 0 * labels + 7], axis=2)
        Image.fromarray(colours.astype(np.uint8)).save(root / images / f"{stem}_seg.png")
        picture = np.zeros((height, width, 3), np.uint8)
        Image.fromarray(picture).save(root / images / f"{stem}.jpg")
        counts[np.array(classes) - 1, column] = 2
    counts[3, 2] = parts[3, 2] = 1
    names = ["wall", "door", "door", "leg", "sky", *(f"class {i}" for i in range(6, 1001))]
    none = np.zeros((995, 3), np.int64)
    content = index | {"objectnames": names}
    content |= {"objectPresence": np.concatenate([counts, none])}
    content |= {"objectIsPart": np.concatenate([parts, none])}
    (folder / "index_ade20k.pkl").write_bytes(pickle.dumps(content))
    return truth


def labels_of(original: np.ndarray, order: list[int]) -> list[list[int]]:
    """Returns the place of each class in the order; 65535 for others."""
    return [[order.index(v) if v in order else 65535 for v in row] for row in original.tolist()]


@pytest.mark.parametrize("by_list", [False, True])
def test_ade20k_full(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    by_list: bool,
) -> None:
    monkeypatch.setattr("solo_family.data.prepare.ade20k_full._CLASSES", 2)
    truth = full_index(tmp_path, (1030, 1540))
    # Classes 2 and 3 are those of objects in both splits.
    order, names = [2, 3], ["door", "door"]
    flags = []
    if by_list:
        order, names = [4, 3], ["leg", "door"]
        (tmp_path / "list.txt").write_text("leg\n3\n")
        flags = ["--classes", str(tmp_path / "list.txt")]
    command = ["prepare-data", "ade20k-full", "--root", str(tmp_path), *flags]
    assert main(command) == 0
    assert "the complete dataset has 25574" in capsys.readouterr().out
    folder = tmp_path / "ADE20K_2021_17_01"
    assert (folder / "classes_847.txt").read_text().splitlines() == names
    for stem, original in truth.items():
        split = "training" if "train" in stem else "validation"
        made = Image.open(folder / "annotations_detectron2" / split / f"{stem}.tif")
        picture = Image.open(folder / "images_detectron2" / split / f"{stem}.jpg")
        assert made.size == picture.size
        if max(original.shape) < 512:
            assert np.asarray(made).tolist() == labels_of(original, order)
        else:
            # The short edge becomes 512; the nearest pixel, rounded down, as OpenCV's is.
            assert made.size == (766, 512)
            rows = [int(i * (1030 / 512)) for i in range(512)]
            columns = [int(i * (1540 / 766)) for i in range(766)]
            shrunk = original[rows][:, columns]
            assert np.asarray(made).tolist() == labels_of(shrunk, order)
    assert main(command) == 0
    assert "training images: 2 images, 0 of them written now" in capsys.readouterr().out
    # Labels of other classes are not mixed with these.
    (tmp_path / "list.txt").write_text("sky\nwall\n")
    assert main([*command[:4], "--classes", str(tmp_path / "list.txt")]) == 2
    assert "classes_847.txt has other classes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (None, "2 classes of the index occur in both splits, and not 847"),
        ("door", "'door' is that of the classes 2, 3"),
        ("tree", "'tree' is unknown"),
        ("wall\n1", "lists 2 classes, 1 different ones; there must be 847"),
    ],
)
def test_classes_of_ade20k_full_that_are_not_the_847(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], listed: str | None, message: str
) -> None:
    full_index(tmp_path)
    (tmp_path / "list.txt").write_text(listed or "")
    flags = ["--classes", str(tmp_path / "list.txt")] if listed else []
    assert main(["prepare-data", "ade20k-full", "--root", str(tmp_path), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "ADE20K_2021_17_01" / "annotations_detectron2").exists()


def test_an_index_that_would_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "ADE20K_2021_17_01"
    folder.mkdir()
    (folder / "index_ade20k.pkl").write_bytes(pickle.dumps(Path))
    assert main(["prepare-data", "ade20k-full", "--root", str(tmp_path)]) == 2
    assert "is not ADE20K's index (it names pathlib" in capsys.readouterr().err
