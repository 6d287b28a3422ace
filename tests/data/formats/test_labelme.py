"""labelme's files become a COCO-format dataset that says the same."""

import base64
import io
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from solo_family.data.formats.labelme import read_labelme
from solo_family.errors import DataError

from ...coco_folder import noise
from ..tools import FIXTURES

TRIANGLE = [[2, 2], [22, 2], [2, 22]]


def shape(
    label: str, points: Sequence[Sequence[float]], kind: str = "polygon", group: Any = None
) -> dict:
    return {"label": label, "points": points, "shape_type": kind, "group_id": group, "flags": {}}


def write(folder: Path, name: str, shapes: list[dict], **content: Any) -> Path:
    """Writes an image of 40 x 60 pixels and its json."""
    folder.mkdir(parents=True, exist_ok=True)
    noise(40, 60).save(folder / f"{name}.png")
    told = {"imagePath": f"{name}.png", "imageHeight": 40, "imageWidth": 60, "imageData": None}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"version": "5.5.0", "shapes": shapes} | told | content))
    return path


def test_polygons_rectangles_and_circles_become_annotations(tmp_path: Path) -> None:
    shapes = [
        shape("cup", TRIANGLE),
        shape("book", [[50, 30], [30, 10]], "rectangle"),  # any two corners
        shape("cup", [[30, 20], [30, 28]], "circle"),
    ]
    write(tmp_path, "b", shapes)
    write(tmp_path, "a", [])
    content, left_out = read_labelme(tmp_path)
    assert left_out == []
    assert content["categories"] == [{"id": 1, "name": "book"}, {"id": 2, "name": "cup"}]
    assert content["images"] == [
        {"id": 1, "file_name": "a.png", "height": 40, "width": 60},
        {"id": 2, "file_name": "b.png", "height": 40, "width": 60},
    ]
    triangle, rectangle, circle = content["annotations"]
    assert [a["category_id"] for a in content["annotations"]] == [2, 1, 2]
    assert {(a["image_id"], a["iscrowd"]) for a in content["annotations"]} == {(2, 0)}
    assert triangle["segmentation"] == [[2, 2, 22, 2, 2, 22]]
    assert triangle["area"] == pytest.approx(200, rel=0.1)
    assert rectangle["segmentation"] == [[30, 10, 50, 10, 50, 30, 30, 30]]
    assert (rectangle["bbox"], rectangle["area"]) == ([30, 10, 20, 20], 400)
    assert circle["bbox"] == pytest.approx([22, 12, 16, 16], abs=1)
    assert circle["area"] == pytest.approx(math.pi * 8**2, rel=0.05)


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path, "a", [shape("größe", TRIANGLE)])
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert [c["name"] for c in read_labelme(tmp_path)[0]["categories"]] == ["größe"]


def test_shapes_of_one_group_are_one_object(tmp_path: Path) -> None:
    parts = [[[0, 0], [10, 10]], [[20, 0], [30, 10]], [[40, 0], [50, 10]]]
    shapes = [shape("cup", part, "rectangle", group) for part, group in zip(parts, (7, None, 7))]
    write(tmp_path, "a", shapes)
    first, second = read_labelme(tmp_path)[0]["annotations"]
    assert len(first["segmentation"]) == 2
    assert (first["bbox"], first["area"]) == ([0, 0, 50, 10], 200)
    assert (second["bbox"], second["area"]) == ([20, 0, 10, 10], 100)


def test_a_group_is_one_object_of_each_label(tmp_path: Path) -> None:
    """As labelme's own exporter counts, labelme2coco.py."""
    write(tmp_path, "a", [shape("cup", TRIANGLE, group=1), shape("book", TRIANGLE, group=1)])
    assert [a["category_id"] for a in read_labelme(tmp_path)[0]["annotations"]] == [2, 1]


def test_files_of_labelme_itself(tmp_path: Path) -> None:
    """Written by labelme 6.3.1: its AI mask, a disc, its oriented rectangle, a picture within."""
    shutil.copytree(FIXTURES / "labelme", tmp_path / "in")
    content, left_out = read_labelme(tmp_path / "in")
    assert left_out == []
    assert [image["file_name"] for image in content["images"]] == ["embedded.png", "shapes.png"]
    square, disc, bar = content["annotations"]
    assert (square["area"], bar["area"], bar["bbox"]) == (400, 30 * 12, [40, 40, 30, 12])
    drawn = json.loads((FIXTURES / "labelme" / "shapes.json").read_text())["shapes"][0]["mask"]
    with Image.open(io.BytesIO(base64.b64decode(drawn))) as picture:
        assert disc["area"] == np.count_nonzero(np.asarray(picture))
    assert (disc["bbox"], disc["iscrowd"]) == ([13, 9, 23, 23], 0)
    # The picture that was in the json alone.
    with Image.open(tmp_path / "in" / "embedded.png") as picture:
        assert picture.size == (80, 60)


@pytest.mark.parametrize("left", [-3, 50])
def test_a_mask_is_cut_off_at_the_border(left: int, tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("L", (20, 10), 255).save(stream, "PNG")
    code = base64.b64encode(stream.getvalue()).decode()
    points = [[left, 35], [left + 19, 44]]
    write(tmp_path, "a", [shape("cup", points, "mask") | {"mask": code}])
    (found,) = read_labelme(tmp_path)[0]["annotations"]
    assert found["area"] == (17 if left < 0 else 10) * 5
    write(tmp_path, "a", [shape("cup", points, "mask") | {"mask": "broken"}])
    with pytest.raises(DataError, match=r"shape 0 \(cup\) is a mask whose image can't be decoded"):
        read_labelme(tmp_path)


def test_a_picture_of_which_nothing_is_left_is_no_negative(tmp_path: Path) -> None:
    write(tmp_path, "a", [shape("cup", TRIANGLE)])
    file = write(tmp_path, "b", [shape("edge", [[1, 1], [9, 9]], "line")])
    write(tmp_path, "c", [])
    content, left_out = read_labelme(tmp_path)
    assert [image["file_name"] for image in content["images"]] == ["a.png", "c.png"]
    assert left_out[1] == f"{file}, the whole image: none of its shapes can be used"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (shape("dot", [[1, 1]], "point"), "is a point"),
        (shape("edge", [[1, 1], [9, 9]], "line"), "is a line"),
        (shape("cup", [[1, 1], [9, 9]]), "is a polygon of 2 points, and 3 are needed"),
        (shape("cup", [[100, 1], [109, 9]], "rectangle"), "covers no pixel of the image"),
    ],
)
def test_what_has_no_mask_is_named_and_left_out(wrong: dict, said: str, tmp_path: Path) -> None:
    file = write(tmp_path, "a", [shape("cup", TRIANGLE), wrong])
    content, left_out = read_labelme(tmp_path)
    assert len(content["annotations"]) == 1
    (what,) = left_out
    assert what.startswith(f"{file}: shape 1 ({wrong['label']}) {said}")


@pytest.mark.parametrize("points", [None, [[1, 2], [3]], [["a", 1]], [[1, float("nan")]] * 3])
def test_points_that_are_none_are_refused(points: Any, tmp_path: Path) -> None:
    write(tmp_path, "a", [shape("cup", points)])
    with pytest.raises(DataError, match=r"a\.json: shape 0 \(cup\) has .*points"):
        read_labelme(tmp_path)


def test_an_image_is_found_where_it_is(tmp_path: Path) -> None:
    named = {"imagePath": r"..\photos\b.png"}  # labelme on Windows, and the json elsewhere
    write(tmp_path / "photos", "b", [])
    (tmp_path / "photos" / "b.json").unlink()
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "b.json").write_text(json.dumps({"shapes": []} | named))
    write(tmp_path / "moved", "c", [shape("cup", TRIANGLE)], imagePath="/elsewhere/c.png")
    content, _ = read_labelme(tmp_path)
    assert [image["file_name"] for image in content["images"]] == ["photos/b.png", "moved/c.png"]


def test_an_image_is_found_by_the_name_that_another_system_gives_it(tmp_path: Path) -> None:
    file = write(tmp_path, "a", [shape("cup", TRIANGLE)], imagePath="mus\u00e9e.JPG")
    (file.parent / "a.png").rename(file.parent / "muse\u0301e.jpg")
    content, _ = read_labelme(tmp_path)
    assert [image["file_name"] for image in content["images"]] == ["muse\u0301e.jpg"]


def test_a_size_that_the_json_lacks_is_the_upright_images(tmp_path: Path) -> None:
    file = write(tmp_path, "a", [shape("cup", TRIANGLE)], imageHeight=None, imagePath="a.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    noise(60, 40).save(file.with_suffix(".jpg"), exif=exif)
    (image,) = read_labelme(tmp_path)[0]["images"]
    assert (image["height"], image["width"]) == (40, 60)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", r"a\.json can't be read as labelme's json"),
        ("[]", r"a\.json is not a file of labelme's: it has no list of 'shapes'"),
        ('{"shapes": [3]}', r"a\.json is not a file of labelme's"),
        ('{"shapes": [], "imagePath": "none.png"}', r"a\.json: there is no image .*none\.png"),
        ('{"shapes": []}', r"a\.json: there is no image"),
    ],
)
def test_a_file_that_is_none_is_refused(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=said):
        read_labelme(tmp_path)


def test_an_image_outside_of_the_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", [shape("cup", TRIANGLE)])
    write(tmp_path / "inner", "b", [], imagePath="../a.png")
    with pytest.raises(DataError, match=r"b\.json: its image .* is outside .*inner"):
        read_labelme(tmp_path / "inner")


def test_there_must_be_something_to_learn(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no json file in"):
        read_labelme(tmp_path)
    first = write(tmp_path, "a", [])
    with pytest.raises(DataError, match="None of labelme's files has a polygon"):
        read_labelme(tmp_path)
    (tmp_path / "copy.json").write_text(first.read_text())
    with pytest.raises(DataError, match=r"copy\.json is the second json file of the image a\.png"):
        read_labelme(tmp_path)


def test_what_is_labelled_as_no_class_is_left_out(tmp_path: Path) -> None:
    none = [shape("__ignore__", TRIANGLE), shape("_background_", TRIANGLE)]
    write(tmp_path, "a", [shape("cup", TRIANGLE), *none])
    content, left_out = read_labelme(tmp_path)
    assert content["categories"] == [{"id": 1, "name": "cup"}]
    assert len(content["annotations"]) == 1
    assert [line.partition(") ")[2] for line in left_out] == [
        "has labelme's name for what is no class"
    ] * 2
