"""Datasets of text files, of pictures with an object each or all: read as they are documented.

Every one is the same two pictures: three objects in the first, none in the second.
"""

import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image
from pycocotools import mask as mask_util

from solo_family.__main__ import main
from solo_family.cli import errors
from solo_family.data.formats.coco_json import dataset_truth
from solo_family.data.formats.register import check_datasets
from solo_family.errors import DataError

from ...coco_folder import noise, run_cfg, train_records

HEIGHT, WIDTH = 48, 64
# left, top, right, bottom, class.
BOXES = [(4, 6, 20, 30, 0), (30, 2, 60, 20, 1), (28, 24, 50, 44, 0)]
CLASSES = ["cat", "dog"]
COLOURS = [(250, 50, 83), (20, 20, 220)]


def mask_of(box: tuple[int, ...]) -> np.ndarray:
    left, top, right, bottom, _ = box
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top:bottom, left:right] = True
    return mask


def save(values: np.ndarray, path: Path, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8), mode).save(path)


def images(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for seed, name in enumerate("ab"):
        noise(HEIGHT, WIDTH, seed).save(folder / f"{name}.png")
    return folder


def lines(*, boxes: bool = False) -> str:
    found = []
    for left, top, right, bottom, label in BOXES:
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        shares = [f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in corners]
        if boxes:
            shares = ["0.5 0.5 0.1 0.1"]
        found.append(f"{label} {' '.join(shares)}\n")
    return "".join(found)


def yolo(root: Path) -> str:
    """As ultralytics documents it."""
    images(root / "images" / "train")
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "a.txt").write_text(lines())
    (root / "data.yaml").write_text(
        f"path: {root}\ntrain: images/train\nval: images/train\nnames:\n  0: cat\n  1: dog\n"
    )
    return f"yolo:{root}"


def yolo_of_roboflow(root: Path) -> str:
    images(root / "train" / "images")
    (root / "train" / "labels").mkdir()
    (root / "train" / "labels" / "a.txt").write_text(lines())
    (root / "train" / "labels" / "b.txt").write_text("")
    (root / "data.yaml").write_text("train: ../train/images\nnc: 2\nnames: ['cat', 'dog']\n")
    return f"yolo:{root}:train"


def yolo_of_label_studio(root: Path) -> str:
    images(root / "images")
    (root / "labels").mkdir()
    (root / "labels" / "a.txt").write_text(lines())
    (root / "classes.txt").write_text("cat\ndog\n")
    return f"yolo:{root}"


def voc(root: Path, *, colours: bool, listed: str = "") -> str:
    images(root / "JPEGImages")
    objects, classes = np.zeros((2, HEIGHT, WIDTH), np.uint8)
    painted, numbered = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
    for number, box in enumerate(BOXES, start=1):
        mask = mask_of(box)
        objects[mask], classes[mask] = number, box[4] + 1
        numbered[mask], painted[mask] = (128 * (number & 1), 64 * number, 0), COLOURS[box[4]]
    empty = np.zeros_like(objects)
    for name, of_object, of_class in (
        ("a", numbered if colours else objects, painted if colours else classes),
        ("b", empty, empty),
    ):
        save(of_object, root / "SegmentationObject" / f"{name}.png")
        save(of_class, root / "SegmentationClass" / f"{name}.png")
    if listed:
        (root / "ImageSets" / "Segmentation").mkdir(parents=True)
        (root / "ImageSets" / "Segmentation" / f"{listed}.txt").write_text("a\nb\n")
    return f"voc:{root}"


def voc_of_cvat(root: Path) -> str:
    name = voc(root, colours=True, listed="default")
    labels = "".join(f"{n}:{r},{g},{b}::\n" for n, (r, g, b) in zip(CLASSES, COLOURS))
    (root / "labelmap.txt").write_text(
        f"# label:color_rgb:parts:actions\nbackground:0,0,0::\n{labels}"
    )
    return name


def voc_of_labelme(root: Path) -> str:
    name = voc(root, colours=False)
    (root / "class_names.txt").write_text("__ignore__\n_background_\ncat\ndog\n")
    return name


def masks_in_folders(root: Path) -> str:
    images(root / "images")
    for number, box in enumerate(BOXES):
        save(255 * mask_of(box), root / "masks" / "a" / f"{CLASSES[box[4]]}-{number}.png")
    (root / "masks" / "b").mkdir()
    return f"masks:{root}/images:{root}/masks:cat,dog"


def masks_by_name(root: Path) -> str:
    images(root / "images")
    for number, box in enumerate(BOXES):
        save(mask_of(box), root / "masks" / f"a_{CLASSES[box[4]]}_{number}.png")
    (root / "masks" / "b").mkdir()
    return f"masks:{root}/images:{root}/masks:cat,dog"


def masks_with_values(root: Path) -> str:
    images(root / "images")
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, box in enumerate(BOXES, start=1):
        values[mask_of(box)] = number
    save(values, root / "masks" / "a.png")
    save(0 * values, root / "masks" / "b.png")
    return f"masks:{root}/images:{root}/masks"


def masks_of_cellpose(root: Path) -> str:
    """Names that are longer than the image's, and 16 bits."""
    masks_with_values(root)
    for path in (root / "masks").iterdir():
        Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16)).save(
            path.with_name(f"{path.stem}_cp_masks.png")
        )
        path.unlink()
    return f"masks:{root}/images:{root}/masks"


def masks_of_napari(root: Path) -> str:
    name = masks_with_values(root)
    for path in list((root / "masks").iterdir()):
        values = np.asarray(Image.open(path)).astype(np.int32)
        Image.fromarray(values).save(path.with_name(f"{path.stem}-labels.tif"))
        path.unlink()
    return name


def masks_of_imagej(root: Path) -> str:
    """A stack, whose pages have an object each; the border of the first has shades."""
    images(root / "images")
    pages = [Image.fromarray(np.uint8(255) * mask_of(box)) for box in BOXES]
    pages[0].putpixel((BOXES[0][0], BOXES[0][1]), 128)
    (root / "masks").mkdir()
    pages[0].save(root / "masks" / "a.tif", save_all=True, append_images=pages[1:])
    save(np.zeros((HEIGHT, WIDTH)), root / "masks" / "b.png")
    return f"masks:{root}/images:{root}/masks"


def masks_cut_out(root: Path) -> str:
    """Objects on a transparent ground, of which one is black and two are white."""
    name = masks_by_name(root)
    for number, path in enumerate(sorted((root / "masks").glob("*.png"))):
        mask = np.asarray(Image.open(path))
        ground = np.full((HEIGHT, WIDTH, 3), 255 * (number > 0), np.uint8)
        save(np.dstack([ground, 255 * mask]), path)
    return name


def masks_of_a_contest(root: Path) -> str:
    """A folder for each picture, as the Data Science Bowl 2018 has."""
    for seed, (name, boxes) in enumerate((("a", BOXES), ("b", []))):
        (root / name / "images").mkdir(parents=True)
        (root / name / "masks").mkdir()
        noise(HEIGHT, WIDTH, seed).save(root / name / "images" / f"{name}.png")
        for number, box in enumerate(boxes):
            save(255 * mask_of(box), root / name / "masks" / f"{number}f.png")
    save(np.zeros((HEIGHT, WIDTH)), root / "b" / "masks" / "0.png")
    return f"masks:{root}:{root}"


FORMS: dict[str, tuple[Callable[[Path], str], list[str]]] = {
    "ultralytics": (yolo, CLASSES),
    "Roboflow's YOLO": (yolo_of_roboflow, CLASSES),
    "Label Studio's YOLO": (yolo_of_label_studio, CLASSES),
    "CVAT's masks": (voc_of_cvat, CLASSES),
    "labelme2voc": (voc_of_labelme, CLASSES),
    "a file for each object in a folder": (masks_in_folders, CLASSES),
    "a file for each object": (masks_by_name, CLASSES),
    "a file for all objects": (masks_with_values, ["object"]),
    "Cellpose": (masks_of_cellpose, ["object"]),
    "napari": (masks_of_napari, ["object"]),
    "a stack of ImageJ's": (masks_of_imagej, ["object"]),
    "objects on a transparent ground": (masks_cut_out, CLASSES),
    "a folder for each picture": (masks_of_a_contest, ["object"]),
}


def found(name: str) -> dict[str, list[tuple[int, bytes, list[float]]]]:
    """Each image's objects: class, pixels and box."""
    result = {}
    for record in DatasetCatalog.get(name):
        assert (record["height"], record["width"]) == (HEIGHT, WIDTH)
        objects = []
        for item in record["annotations"]:
            rle = item["segmentation"]
            if isinstance(rle, list):
                rle = mask_util.merge(mask_util.frPyObjects(rle, HEIGHT, WIDTH))
            box = BoxMode.convert(item["bbox"], item["bbox_mode"], BoxMode.XYXY_ABS)
            pixels = mask_util.decode(rle).astype(bool).tobytes()
            objects.append((item["category_id"], pixels, [round(float(side), 3) for side in box]))
        result[Path(record["file_name"]).stem] = sorted(objects, key=lambda item: item[2])
    return result


@pytest.mark.parametrize("form", FORMS)
def test_a_form_has_the_objects(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write, classes = FORMS[form]
    name = write(tmp_path / "data")
    check_datasets([name])
    assert MetadataCatalog.get(name).thing_classes == classes
    expected = [
        (box[4] if len(classes) > 1 else 0, mask_of(box).tobytes(), [*box[:4]])
        for box in sorted(BOXES)
    ]
    assert found(name)["a"] == expected
    assert found(name)["b"] == []
    # Training, evaluation and check-data take it.
    assert len(train_records(run_cfg(name, tmp_path))) == 1
    assert sorted(a["area"] for a in dataset_truth(name).anns.values()) == [384, 440, 540]
    config = tmp_path / "test.yaml"
    config.write_text(f'DATASETS:\n  TRAIN: []\n  TEST: ["{name}"]\n')
    args = Namespace(annotations=None, config_file=str(config), opts=[])
    assert len(errors._read_truth(args)[1].anns) == 3
    (tmp_path / "config.yaml").write_text(f'DATASETS:\n  TRAIN: ["{name}"]\n  TEST: []\n')
    status = main(["check-data", "--config-file", str(tmp_path / "config.yaml")])
    assert (status, "3 objects to learn" in capsys.readouterr().out) == (0, True)


def text(path: str, content: str) -> Callable[[Path], Any]:
    return lambda root: (root / path).write_text(content)


def stack(root: Path, pages: list[np.ndarray]) -> None:
    first, *rest = (Image.fromarray(page.astype(np.uint8)) for page in pages)
    first.save(root / "masks" / "a.tif", save_all=True, append_images=rest)


LABELS = "labels/train/a.txt"
# A dataset, what is done to it, what is said, and what is done then, as it is said.
WRONG: list[tuple[Callable[[Path], str], Callable[[Path], Any], str, Callable[[Path], Any]]] = [
    (yolo, text(LABELS, "0 1.5 0 1 1 0 1\n"), "line 1 is not an outline",
     text(LABELS, lines())),
    (yolo, text(LABELS, "2 0 0 1 1 0 1\n"), "has class 2, but .* names 2 classes, 0 to 1",
     text("data.yaml", "train: images/train\nnames: [cat, dog, cow]\n")),
    (yolo, text(LABELS, "cat 0 0 1 1 0 1\n"), "a.txt: line 1 is invalid: could not convert",
     text(LABELS, lines())),
    (yolo, lambda root: (root / "data.yaml").unlink(), "neither data.yaml nor classes.txt",
     lambda root: [text("classes.txt", "cat\ndog\n")(root)]),
    (yolo, text("data.yaml", "train: none\nnames: [cat, dog]\n"), "the split 'train' is in none",
     text("data.yaml", "train: images/train\nnames: [cat, dog]\n")),
    (yolo, text("data.yaml", "train: images/train\n"), "has no class names",
     text("data.yaml", "train: images/train\nnames: [cat, dog]\n")),
    (yolo, text("data.yaml", "train: images/train\nnames: [cat, dog]\nkpt_shape: [3, 2]\n"),
     "is one of poses: data.yaml has 'kpt_shape'.*Export it for segmentation",
     text("data.yaml", "train: images/train\nnames: [cat, dog]\n")),
    (masks_in_folders, lambda root: (root / "masks" / "b").rmdir(), "b.png has no masks",
     lambda root: (root / "masks" / "b").mkdir()),
    (masks_in_folders, lambda root: (root / "masks/a/cat-0.png").rename(root / "masks/a/0.png"),
     "has no class in its name.*Rename it, for instance to a_cat_1.png",
     lambda root: (root / "masks/a/0.png").rename(root / "masks/a/a_cat_1.png")),
    (masks_with_values, lambda root: save(np.zeros((3, 3)), root / "masks" / "a.png"),
     "a.png is 3x3 pixels, but its image .* is 64x48",
     lambda root: save(np.eye(HEIGHT, WIDTH), root / "masks" / "a.png")),
    (masks_of_imagej, lambda root: stack(root, [np.eye(HEIGHT, WIDTH), 3 - np.eye(HEIGHT, WIDTH)]),
     "a.tif has 2 pages, and page 2 has several values. Save one page",
     lambda root: stack(root, [3 - np.eye(HEIGHT, WIDTH)])),
    (masks_with_values,
     lambda root: (root / "masks/b.png").rename(root / "masks/b.jpg"),
     "b.jpg is a JPEG, whose compression changes labels.*in a PNG",
     lambda root: (root / "masks/b.jpg").rename(root / "masks/b.png")),
    (masks_by_name, lambda root: (root / "masks/b").rename(root / "masks/b_cat_1.JPG"),
     "b_cat_1.JPG is a JPEG, .*in a PNG",
     lambda root: (root / "masks/b_cat_1.JPG").rename(root / "masks/b")),
    (voc_of_cvat, lambda root: (root / "JPEGImages/a.png").unlink(), "lacks 1 images of 2",
     lambda root: noise(HEIGHT, WIDTH).save(root / "JPEGImages/a.png")),
    (voc_of_cvat, text("labelmap.txt", "cat\n"), "line 1 is 'cat'; write name:red,green,blue",
     text("labelmap.txt", "cat:250,50,83::\ndog:20,20,220::\n")),
    (voc_of_cvat, text("labelmap.txt", "cat:250,50,83::\n"), "object .* has no class in",
     text("labelmap.txt", "cat:250,50,83::\ndog:20,20,220::\n")),
]  # fmt: skip


@pytest.mark.parametrize(("write", "spoil", "said", "mend"), WRONG)
def test_what_is_wrong_is_said_and_the_advice_works(
    write: Callable[[Path], str],
    spoil: Callable[[Path], Any],
    said: str,
    mend: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    name = write(tmp_path / "data")
    spoil(tmp_path / "data")
    with pytest.raises(DataError) as error:
        check_datasets([name])
    assert re.search(said, str(error.value))
    assert "\n" not in str(error.value)
    mend(tmp_path / "data")
    check_datasets([name])


@pytest.mark.parametrize("form", FORMS)
def test_files_that_have_changed_are_read_again(form: str, tmp_path: Path) -> None:
    """In a notebook, labels are corrected between two trainings of one process."""
    write, classes = FORMS[form]
    name = write(tmp_path / "data")
    before = found(name)
    again = write(tmp_path / "again")
    for folder in ("labels", "masks", "SegmentationObject"):
        for path in sorted((tmp_path / "data").rglob(f"{folder}/**/*")):
            if path.is_file() and path.suffix != ".txt":
                Image.open(path).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(path)
            elif path.is_file():
                path.write_text(path.read_text()[: len(lines()) // 3])
    for path in sorted((tmp_path / "data").rglob("SegmentationClass/*")):
        Image.open(path).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(path)
    assert found(name)["a"] != before["a"] == found(again)["a"]
    assert MetadataCatalog.get(name).thing_classes == classes


def test_classes_that_have_changed_are_registered_again(tmp_path: Path) -> None:
    name = yolo(tmp_path)
    check_datasets([name])
    kept = MetadataCatalog.get(name)
    check_datasets([name])
    assert MetadataCatalog.get(name) is kept
    text("data.yaml", "train: images/train\nnames: [cow, cat, dog]\n")(tmp_path)
    check_datasets([name])
    assert MetadataCatalog.get(name).thing_classes == ["cow", "cat", "dog"]
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"neither data\.yaml nor"):
        check_datasets([name])
    assert name in DatasetCatalog.list()


@pytest.mark.parametrize(("values", "objects"), [
    ([80, 160, 255], 1),  # shades of a soft border
    ([1, 2, 4], 3),
    ([7], 1),
])  # fmt: skip
def test_shades_are_no_objects(values: list[int], objects: int, tmp_path: Path) -> None:
    name = masks_with_values(tmp_path)
    mask = np.zeros((HEIGHT, WIDTH))
    mask[: len(values)] = np.array(values)[:, None]
    (tmp_path / "masks" / "a.png").unlink()
    save(mask, tmp_path / "masks" / "a_mask.png")
    assert len(found(name)["a"]) == objects


@pytest.mark.parametrize("colours", [False, True])
@pytest.mark.parametrize("name", ["a.png", "a_instances.png"])
def test_the_border_of_objects_is_none(name: str, colours: bool, tmp_path: Path) -> None:
    dataset = masks_with_values(tmp_path)
    values = np.asarray(Image.open(tmp_path / "masks" / "a.png")).copy()
    values[:2] = 255
    (tmp_path / "masks" / "a.png").unlink()
    if colours:
        palette = np.array([(0, 0, 0), (250, 50, 83), (20, 20, 220), (20, 220, 20)])
        values = np.where(values[:, :, None] == 255, (224, 224, 192), palette[values % 255])
    save(values, tmp_path / "masks" / name)
    assert [box for _, _, box in found(dataset)["a"]] == [[*box[:4]] for box in sorted(BOXES)]


def test_the_border_in_a_palette_of_voc(tmp_path: Path) -> None:
    name = masks_with_values(tmp_path)
    picture = Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).convert("P")
    picture.paste(9, (4, 4, 8, 8))
    picture.putpalette([0] * 765 + [224, 224, 192])
    picture.save(tmp_path / "masks" / "a.png")
    assert [box for _, _, box in found(name)["a"]] == [[4, 4, 8, 8]]


@pytest.mark.parametrize("kind", ["a photograph", "a soft border"])
def test_colours_that_are_one_object(kind: str, tmp_path: Path) -> None:
    name = masks_with_values(tmp_path)
    (tmp_path / "masks" / "a.png").unlink()
    values = np.zeros((HEIGHT, WIDTH, 3))
    values[4:30, 4:30] = (100, 40, 20)
    values[8:26, 8:26] = (200, 80, 40)
    if kind == "a photograph":
        values[4:30, 4:30] = np.asarray(noise(26, 26))
    save(values, tmp_path / "masks" / "a_mask.png")
    assert len(found(name)["a"]) == 1


def test_of_pictures_of_several_pages_the_first_has_the_masks(tmp_path: Path) -> None:
    name = masks_of_imagej(tmp_path)
    pages = [noise(HEIGHT, WIDTH, seed) for seed in (1, 2)]
    (tmp_path / "images" / "a.png").unlink()
    pages[0].save(tmp_path / "images" / "a.tif", save_all=True, append_images=pages[1:])
    stack(tmp_path, [np.eye(HEIGHT, WIDTH), np.ones((HEIGHT, WIDTH))])
    assert len(found(name)["a"]) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("yolo:", "write yolo:DIR or yolo:DIR:SPLIT"),
        ("voc:a:b:c", "write voc:DIR or voc:DIR:SPLIT"),
        ("masks:a", "write masks:IMAGE_DIR:MASK_DIR"),
        ("masks:a:b", "there is no folder a"),
        ("voc:none", "there is no folder none/JPEGImages"),
    ],
)
def test_a_malformed_name_says_how_to_write_it(name: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        check_datasets([name])


def test_a_split_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    for write, folder in ((yolo, "yolo"), (voc_of_cvat, "voc")):
        name = write(tmp_path / folder)
        with pytest.raises(
            DataError, match=f"has no split 'x'; it has .* Write {folder}:DIR:"
        ) as e:
            check_datasets([f"{name}:x"])
        split = str(e.value).rpartition(":")[2].rstrip(".")
        check_datasets([f"{name}:{split}"])


def test_boxes_of_detection_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = yolo(tmp_path / "data")
    (tmp_path / "data" / LABELS).write_text(lines() + lines(boxes=True))
    assert len(found(name)["a"]) == 3
    assert "dropped 3 objects that have a box" in caplog.text


def test_outlines_of_four_corners_may_be_oriented_boxes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found(yolo(tmp_path / "boxes"))
    assert "each of the 3 outlines has four corners, as oriented boxes have" in caplog.text
    caplog.clear()
    name = yolo(tmp_path / "outlines")
    (tmp_path / "outlines" / LABELS).write_text(lines() + "0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    found(name)
    assert "corners" not in caplog.text


def test_a_class_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    name = yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(
        (tmp_path / "data.yaml").read_text().replace(CLASSES[1], CLASSES[0])
    )
    with pytest.raises(DataError, match=rf"has the class '{CLASSES[0]}' twice\. Classes are told"):
        dataset_truth(name)
