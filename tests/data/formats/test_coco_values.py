"""What converters write in other ways is read as it is meant; what can't be is refused."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from pycocotools import mask as mask_util

from solo_family.__main__ import main
from solo_family.data.formats import coco_file
from solo_family.data.formats.coco_json import coco_classes, load_coco, read_coco_truth
from solo_family.data.formats.register import check_datasets
from solo_family.errors import DataError

from ...coco_folder import CocoFolder, noise, rectangle

Content = dict[str, Any]
BOX = (10, 10, 30, 24)


def dataset(root: Path, change: Callable[[Content], Any]) -> CocoFolder:
    """Three pictures with a rectangle each, of one class, changed."""
    folder = CocoFolder(root, {1: "box"})
    for index in range(3):
        folder.add(f"p{index}.png", noise(60, 80), [rectangle(*BOX)])
    change(folder.content)
    folder.write()
    return folder


def every(part: str, **values: Any) -> Callable[[Content], Any]:
    def change(content: Content) -> None:
        for item in content[part]:
            item.update(values)

    return change


def points(content: Content, form: Callable[[list[float]], Any]) -> None:
    for annotation in content["annotations"]:
        annotation["segmentation"] = form(annotation["segmentation"][0])


def xy(flat: list[float]) -> list[tuple[float, float]]:
    return list(zip(flat[::2], flat[1::2]))


LONG = [10.0, 10.0, 40, 10, 40, 34, 10, 34]
ROWS = [[int(10 <= x < 40 and 10 <= y < 34) for x in range(80)] for y in range(60)]
TAKEN: dict[str, Callable[[Content], Any]] = {
    "a name that is the id": lambda c: c["categories"][0].pop("name"),
    "a name that ends in a blank": lambda c: c["categories"][0].update(name="box "),
    "the same class twice": lambda c: c["categories"].append({"id": 2, "name": "box"}),
    "iscrowd as text": every("annotations", iscrowd="0"),
    "no box": every("annotations", bbox=[]),
    "a box of zeros": every("annotations", bbox=[0, 0, 0, 0]),
    "a box of zeros as fractions": every("annotations", bbox=[0.0, 0.0, 0.0, 0.0]),
    "a box of text": every("annotations", bbox=[str(side) for side in BOX]),
    "no size": every("images", height=None, width=None),
    "pairs, not in a list of their own": lambda c: points(c, xy),
    "objects of x and y": lambda c: points(c, lambda p: [[{"x": x, "y": y} for x, y in xy(p)]]),
    "in one list too many": every("annotations", segmentation=[[LONG]]),
    "points in one list too many": lambda c: points(c, lambda p: [[xy(p)]]),
    "a mask row by row": every("annotations", segmentation=ROWS),
    "a number of an RLE as text": every(
        "annotations", segmentation=[{"size": ["60", 80.0], "counts": [610.0, 24, 4166]}]
    ),
    "Roboflow's group": lambda c: (
        c["categories"].insert(0, {"id": 0, "name": "boxes", "supercategory": "none"}),
        c["categories"][1].update(supercategory="boxes"),
    ),
}


@pytest.mark.parametrize("case", TAKEN)
def test_what_is_meant_is_read_and_said(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = dataset(tmp_path / "data", TAKEN[case])
    with caplog.at_level(logging.WARNING):
        records = load_coco(str(folder.json), str(folder.root / "images"))
        read_coco_truth(str(folder.json), str(folder.root / "images"))
    assert [len(record["annotations"]) for record in records] == [1, 1, 1]
    assert {record["annotations"][0]["category_id"] for record in records} == {0}
    assert {tuple(record["annotations"][0]["bbox"]) for record in records} == {BOX}
    assert {(record["height"], record["width"]) for record in records} == {(60, 80)}
    assert len(coco_classes(str(folder.json))) == 1
    said = [r.message for r in caplog.records if "converted to COCO's form" in r.message]
    assert len(said) == 1


def test_an_rle_that_is_the_text_of_bytes_is_read(tmp_path: Path) -> None:
    """As `str(rle["counts"])` of pycocotools' bytes; its backslashes are doubled."""
    mask = np.zeros((60, 80), np.uint8, order="F")
    mask[44:50, 0] = 1
    rle = mask_util.encode(mask)
    assert b"\\" in rle["counts"]
    text = {"size": [60, 80], "counts": str(rle["counts"])}
    folder = dataset(tmp_path / "data", every("annotations", segmentation=text, bbox=None))
    records = load_coco(str(folder.json), str(folder.root / "images"))
    assert {r["annotations"][0]["segmentation"]["counts"] for r in records} == {
        rle["counts"].decode()
    }


def test_a_hole_is_not_taken_for_a_part(tmp_path: Path) -> None:
    """GeoJSON's second ring is a hole; such a list could also be two parts, and is not guessed."""
    rings = [[[10, 10], [30, 10], [30, 30]], [[12, 12], [20, 12], [20, 20]]]
    folder = dataset(tmp_path / "data", every("annotations", segmentation=[rings]))
    records = load_coco(str(folder.json), str(folder.root / "images"))
    assert [record["annotations"] for record in records] == [[], [], []]


def test_a_panoptic_json_is_told_as_such(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", every("annotations", segments_info=[]))
    with pytest.raises(
        DataError, match=r"is in COCO's panoptic format\. Name the dataset panoptic:"
    ):
        load_coco(str(folder.json), str(folder.root / "images"))


def test_classes_that_differ_in_a_blank_are_left_as_they_are(tmp_path: Path) -> None:
    folder = dataset(tmp_path, lambda c: c["categories"].append({"id": 2, "name": "box "}))
    assert coco_classes(str(folder.json)) == {1: "box", 2: "box "}


REFUSED: list[tuple[Callable[[Content], Any], str]] = [
    *(
        (
            lambda c, name=name: c["categories"][0].update(name=name),
            r"category 0 .* has name '.*'; it must be text that can be written in UTF-8, and not",
        )
        for name in ("", " ", "box\ud800")
    ),
    (
        lambda c: c.pop("categories"),
        r"has no 'categories'.*\[\{\"id\": 1, \"name\": \"object\"\}\]",
    ),
    (every("annotations", category_id="cat"), "has category_id 'cat', which is not among"),
    (every("annotations", image_id=1.5), "has image_id 1.5, which is not among"),
    (every("annotations", bbox=["a", 1, 2, 3]), "has bbox .*it must be"),
    (every("annotations", id=[1]), r"has id \[1\]; it must be a whole number"),
    (
        every("annotations", segmentation="[[1, 2]]"),
        r"has segmentation '\[\[1, 2\]\]'; it must be a",
    ),
    (every("annotations", iscrowd="maybe"), "has iscrowd 'maybe'; it must be 0 or 1"),
    (every("images", height="tall"), "has height 'tall' and width 80; they must be whole numbers"),
    (every("images", id=True), "has id True; it must be a whole number"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_what_can_mean_nothing_is_refused(
    change: Callable[[Content], Any], said: str, tmp_path: Path
) -> None:
    folder = dataset(tmp_path / "data", change)
    with pytest.raises(DataError, match=said):
        load_coco(str(folder.json), str(folder.root / "images"))


def test_the_advice_for_a_file_without_categories_works(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", lambda c: c.pop("categories"))
    with pytest.raises(DataError) as error:
        load_coco(str(folder.json), str(folder.root / "images"))
    advice = str(error.value).split("for instance ")[1].rstrip(".")
    content = folder.content | json.loads("{" + advice + "}")
    folder.json.write_text(json.dumps(content))
    assert len(load_coco(str(folder.json), str(folder.root / "images"))) == 3


def test_sizes_need_the_images(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", every("images", height=None))
    with pytest.raises(DataError, match=r"has no height and width.*coco_json:ANNOTATIONS.json"):
        read_coco_truth(str(folder.json))
    assert len(read_coco_truth(str(folder.json), str(folder.root / "images")).anns) == 3


def test_ids_of_images_that_are_names_stay(tmp_path: Path) -> None:
    def named(content: Content) -> None:
        for image, annotation in zip(content["images"], content["annotations"]):
            image["id"] = annotation["image_id"] = f"00{image['id']}"

    folder = dataset(tmp_path / "data", named)
    records = load_coco(str(folder.json), str(folder.root / "images"))
    assert [record["image_id"] for record in records] == ["001", "002", "003"]


NAMES = {
    "windows": "images\\{}",
    "media on Windows": "..\\..\\label-studio\\media\\upload\\4\\{}",
    "media": "../../label-studio/media/upload/4/{}",
    "absolute": "/data/upload/4/{}",
    "uploaded": "images/5f0c1e2d-{}",
    "address": "http://localhost:8080/data/upload/4/{}?token=3",
}


@pytest.mark.parametrize("case", NAMES)
@pytest.mark.parametrize("below", [False, True])
def test_pictures_are_found_by_the_names_of_other_machines(
    case: str, below: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def rename(content: Content) -> None:
        for image in content["images"]:
            image["file_name"] = NAMES[case].format(image["file_name"])

    folder = dataset(tmp_path / "data", rename)
    with caplog.at_level(logging.WARNING):
        records = load_coco(str(folder.json), str(folder.root if below else folder.root / "images"))
    expected = [str(folder.root / "images" / f"p{index}.png") for index in range(3)]
    assert [record["file_name"] for record in records] == expected
    assert sum("3 x 'file_name'" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ("mus\u00e9e.jpg", "muse\u0301e.jpg"),
        ("muse\u0301e.jpg", "C:\\photos\\mus\u00e9e.jpg"),
        ("p 0 (1).jpg", "images/p%200%20(1).jpg"),
        ("P0.JPG", "p0.jpg"),
        ("p0.jpg", "Images/P0.Jpg\n"),
    ],
)
def test_pictures_are_found_by_the_names_of_other_systems(
    there: str, said: str, tmp_path: Path
) -> None:
    folder = dataset(tmp_path / "data", lambda c: c["images"][0].update(file_name=said))
    path = folder.root / "images" / there
    (folder.root / "images" / "p0.png").rename(path)
    records = load_coco(str(folder.json), str(folder.root / "images"))
    assert records[0]["file_name"] == str(path)


def test_a_name_in_two_ways_to_write_capitals_is_not_guessed(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", lambda c: c["images"][0].update(file_name="P0.png"))
    path = folder.root / "images" / "p0.png"
    noise(60, 80).save(path.with_name("p0.PNG"))
    with pytest.raises(DataError, match="names 1 images of 3 that are not in"):
        load_coco(str(folder.json), str(folder.root / "images"))
    path.with_name("p0.PNG").unlink()
    coco_file._files.clear()
    records = load_coco(str(folder.json), str(folder.root / "images"))
    assert records[0]["file_name"] == str(path)


def test_capitals_do_not_make_one_picture_of_two(tmp_path: Path) -> None:
    def rename(content: Content) -> None:
        content["images"][1]["file_name"] = "P0.PNG"

    folder = dataset(tmp_path / "data", rename)
    with pytest.raises(DataError, match=r"different images, p0\.png and P0\.PNG"):
        load_coco(str(folder.json), str(folder.root / "images"))


def test_a_picture_whose_name_stands_twice_is_not_guessed(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", every("images", file_name="gone/p0.png"))
    (folder.root / "images" / "copy").mkdir()
    noise(60, 80).save(folder.root / "images" / "copy" / "p0.png")
    with pytest.raises(DataError, match="names 3 images of 3 that are not in"):
        load_coco(str(folder.json), str(folder.root / "images"))
    # As the message says: a folder in which the name stands once.
    assert len(load_coco(str(folder.json), str(folder.root / "images" / "copy"))) == 3


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("0a1b2c3d-p0.png", "4a1b2c3d-p0.png"), "0a1b2c3d-p0.png and 4a1b2c3d-p0.png"),
        (("p0.png", "tuesday/p0.png"), "p0.png and tuesday/p0.png"),
        (("/a/p0.png", "/b/p0.png"), "/a/p0.png and /b/p0.png"),
    ],
)
def test_a_file_is_not_taken_for_two_pictures(
    names: tuple[str, str], shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def rename(content: Content) -> None:
        for image, name in zip(content["images"], names):
            image["file_name"] = name

    folder = dataset(tmp_path / "data", rename)
    where = str(folder.root / "images")
    with pytest.raises(DataError, match=f"different images, {shown}, .* one file for them, p0.png"):
        load_coco(str(folder.json), where)
    assert main(["check-data", "--annotations", str(folder.json), "--images", where]) == 1
    printed = capsys.readouterr().out
    assert (
        f"1 'file_name's of different images for which the folder has one file\n  {shown}"
        in printed
    )
    assert "duplicate images" not in printed


def test_one_picture_under_two_spellings_is_one(tmp_path: Path) -> None:
    def rename(content: Content) -> None:
        content["images"][0]["file_name"] = "images/p0.png"
        content["images"][1]["file_name"] = "images\\p0.png"

    folder = dataset(tmp_path / "data", rename)
    records = load_coco(str(folder.json), str(folder.root))
    assert records[0]["file_name"] == records[1]["file_name"]


def test_a_dataset_that_detectron2_registers_is_read_by_the_same_reader(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", every("annotations", category_id="1", ignore=0))
    folder.content["annotations"][0]["ignore"] = 1
    folder.write()
    name = f"registered/{tmp_path.name}"
    register_coco_instances(name, {}, str(folder.json), str(folder.root / "images"))
    check_datasets([name])
    records = DatasetCatalog.get(name)
    assert [record["annotations"][0]["iscrowd"] for record in records] == [1, 0, 0]
    assert MetadataCatalog.get(name).thing_classes == ["box"]


def test_a_function_of_the_users_own_is_left_alone(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", lambda content: None)
    name = f"own/{tmp_path.name}"
    own = [{"file_name": "mine"}]
    DatasetCatalog.register(name, lambda: own)
    metadata = {"json_file": str(folder.json), "image_root": str(folder.root / "images")}
    MetadataCatalog.get(name).set(evaluator_type="coco", **metadata)
    check_datasets([name])
    assert DatasetCatalog.get(name) is own
