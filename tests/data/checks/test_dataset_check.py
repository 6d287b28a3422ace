"""Every kind of mistake in a dataset is found, by its id or file, and nothing else."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util

from solo_family.data.checks import annotation_check, findings
from solo_family.data.checks.dataset_check import check_coco_dataset, check_dataset
from solo_family.data.checks.findings import Kind
from solo_family.data.formats.coco_json import records_as_file
from solo_family.data.formats.register import register_in_place
from solo_family.data.loading.images import Reading
from solo_family.errors import DataError

from ...coco_folder import CocoFolder, noise, rectangle

HEIGHT, WIDTH = 48, 64


def good(root: Path) -> CocoFolder:
    """Three pictures with a rectangle each, of both categories."""
    folder = CocoFolder(root, {1: "cat", 2: "dog"})
    for index in range(3):
        box = rectangle(5 + index, 8, 20, 24, category_id=1 + index % 2)
        folder.add(f"{index}.png", noise(HEIGHT, WIDTH, seed=index), [box])
    return folder


def found(folder: CocoFolder, **options: Any) -> dict[Kind, list[str]]:
    folder.write()
    check = check_coco_dataset(str(folder.json), str(folder.root / "images"), **options)
    assert set(check.problems) | set(check.remarks) == set(check.found)
    return dict(check.found)


def rle(mask: np.ndarray) -> dict[str, Any]:
    encoded = mask_util.encode(np.asfortranarray(mask, np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def change(part: str, index: int, **values: Any) -> Callable[[CocoFolder], Any]:
    return lambda folder: folder.content[part][index].update(values)


def drop(key: str) -> Callable[[CocoFolder], Any]:
    return lambda folder: folder.content["annotations"][1].pop(key)


def cut(folder: CocoFolder) -> None:
    path = folder.root / "images" / "1.png"
    path.write_bytes(path.read_bytes()[:20])


SECOND = "annotation 2 in 1.png"
FULL = np.ones((HEIGHT, WIDTH), bool)
# What is changed in a good dataset, the kind that is found, and what names it.
MISTAKES: list[tuple[Callable[[CocoFolder], Any], Kind, str]] = [
    (lambda f: (f.root / "images/1.png").unlink(), findings.MISSING_FILE, "1.png"),
    (cut, findings.UNREADABLE_FILE, "1.png"),
    (change("images", 1, height=64, width=48), findings.TURNED_SIZE, "1.png: 64 x 48, is 48 x 64"),
    (change("images", 1, height=50), findings.OTHER_SIZE, "1.png: 50 x 64, is 48 x 64"),
    (change("annotations", 1, id=3), findings.ANNOTATION_ID, "3"),
    (change("annotations", 1, image_id=9), findings.UNKNOWN_IMAGE, "annotation 2: image 9"),
    (change("annotations", 1, image_id=[1]), findings.UNKNOWN_IMAGE, "annotation 2: image [1]"),
    (
        change("annotations", 1, category_id=9),
        findings.UNKNOWN_CATEGORY,
        "annotation 2: category 9",
    ),
    (change("annotations", 1, id=[2]), findings.ODD_ID, "[2] in annotations"),
    (change("annotations", 1, bbox=[1, 2, 3]), findings.ODD_BOX, "annotation 2: [1, 2, 3]"),
    (
        change("annotations", 1, bbox=[1, "2", 3, None]),
        findings.ODD_BOX,
        "annotation 2: [1, '2', 3, None]",
    ),
    (
        change("annotations", 1, bbox=[5, 5, 0, 9]),
        findings.OTHERWISE,
        "1 x a 'bbox' without area, computed from the mask",
    ),
    (
        change("annotations", 1, bbox=[70, 5, 9, 9]),
        findings.EMPTY_BOX,
        f"{SECOND}: [70, 5, 9, 9]",
    ),
    (
        change("annotations", 1, bbox=[6, 8, 26, 32]),  # left, top, right, bottom
        findings.BOX_OF_CORNERS,
        f"{SECOND}: [6, 8, 26, 32], mask [6.0, 8.0, 20.0, 24.0]",
    ),
    (drop("segmentation"), findings.NO_MASK, SECOND),
    (change("annotations", 1, segmentation=[]), findings.NO_MASK, SECOND),
    (change("annotations", 1, segmentation=[[1, 1, 9, 9]]), findings.NO_MASK, SECOND),
    (
        change("annotations", 1, bbox=[20, 20, 6, 6]),
        findings.BOX_ELSEWHERE,
        f"{SECOND}: [20, 20, 6, 6], mask [6.0, 8.0, 20.0, 24.0]",
    ),
    (change("annotations", 1, area=0), findings.OTHER_AREA, f"{SECOND}: 0, mask 480"),
    (change("annotations", 1, area=1e6), findings.OTHER_AREA, f"{SECOND}: 1e+06, mask 480"),
    (
        change("annotations", 1, segmentation=rle(FULL.T)),
        findings.MASK_OF_OTHER_SIZE,
        SECOND,
    ),
    (
        change("annotations", 1, segmentation={"size": [HEIGHT, WIDTH], "counts": [5, 9]}),
        findings.BROKEN_MASK,
        SECOND,
    ),
    (
        change("annotations", 1, segmentation={"size": [HEIGHT, WIDTH], "counts": "0123zzzZZ"}),
        findings.BROKEN_MASK,
        SECOND,
    ),
    (
        change("annotations", 1, segmentation=[[1, 1, 9, 1, 9, float("nan")]]),
        findings.BROKEN_MASK,
        SECOND,
    ),
    (
        change("annotations", 1, segmentation=[[1, 1, 9, 1, 9, 1e12]]),
        findings.BROKEN_MASK,
        SECOND,
    ),
    (change("annotations", 1, segmentation=rle(~FULL)), findings.EMPTY_MASK, SECOND),
    (change("annotations", 1, iscrowd=1), findings.CROWD, "annotation 2"),
]


@pytest.mark.parametrize(("mistake", "kind", "named"), MISTAKES)
def test_a_mistake_is_found_and_named(
    mistake: Callable[[CocoFolder], Any], kind: Kind, named: str, tmp_path: Path
) -> None:
    folder = good(tmp_path / "data")
    mistake(folder)
    result = found(folder)
    # Its image and category may have been left without objects.
    expected = {kind: [named]}
    if kind in (findings.UNKNOWN_IMAGE, findings.CROWD):
        expected[findings.EMPTY_IMAGE] = ["1.png"]
    if kind in (findings.UNKNOWN_CATEGORY, findings.CROWD):
        expected[findings.EMPTY_CATEGORY] = ["dog"]
    assert result == expected


def test_a_good_dataset_has_nothing(tmp_path: Path) -> None:
    assert found(good(tmp_path / "data")) == {}


def test_a_thin_end_of_an_outline_belongs_to_the_box(tmp_path: Path) -> None:
    folder = good(tmp_path / "data")
    # 20 x 24 pixels, and a spike of no width up to the border, which has no pixels.
    spiked = [6, 8, 15.9, 8, 16, 0, 16.1, 8, 26, 8, 26, 32, 6, 32]
    folder.content["annotations"][1].update(bbox=[6, 0, 20, 32], segmentation=[spiked])
    assert found(folder) == {}


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (change("images", 1, height=48.5), "has height 48.5"),
        (change("images", 1, height=0), "has height 0"),
        (change("annotations", 2, iscrowd=7), "has iscrowd 7"),
    ],
)
def test_what_loading_refuses_is_a_problem_too(
    mistake: Callable[[CocoFolder], Any], said: str, tmp_path: Path
) -> None:
    folder = good(tmp_path / "data")
    mistake(folder)
    (message,) = found(folder)[findings.REFUSED]
    assert said in message


@pytest.mark.parametrize(
    "change",
    [
        change("images", 1, height=None),
        change("annotations", 1, segmentation=[6, 8, 26, 8, 26, 32, 6, 32]),
        change("annotations", 1, category_id="2", bbox=[]),
    ],
)
def test_what_is_read_as_it_is_meant_is_a_remark(
    change: Callable[[CocoFolder], Any], tmp_path: Path
) -> None:
    folder = good(tmp_path / "data")
    change(folder)
    assert set(found(folder)) == {findings.OTHERWISE}


def test_an_id_that_is_none_beside_an_odd_one(tmp_path: Path) -> None:
    folder = good(tmp_path / "data")
    folder.content["annotations"][0]["id"] = [1]
    del folder.content["annotations"][1]["id"]
    assert "[1] in annotations" in found(folder)[findings.ODD_ID]


@pytest.mark.parametrize("key", ["area", "iscrowd"])
def test_what_evaluation_does_without_is_nothing(key: str, tmp_path: Path) -> None:
    folder = good(tmp_path / "data")
    drop(key)(folder)
    assert found(folder) == {}


@pytest.mark.parametrize(
    ("crowds", "codes", "kind"),
    [
        ([1, 1, 1], [0, 0, 0], findings.CROWDS_OF_A_TOOL),  # all masks
        ([1, 0, 0], [1, 0, 0], findings.CROWDS_OF_A_TOOL),  # all that are RLE
        ([1, 0, 0], [1, 1, 0], findings.CROWD),
        ([1, 0, 0], [0, 0, 0], findings.CROWD),
    ],
)
def test_crowds_that_a_tool_has_made_of_objects_are_a_problem(
    crowds: list[int], codes: list[int], kind: Kind, tmp_path: Path
) -> None:
    folder = good(tmp_path / "data")
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[8:32, 5:25] = True
    for number, annotation in enumerate(folder.content["annotations"]):
        annotation["iscrowd"] = crowds[number]
        if codes[number]:
            annotation.update(segmentation=rle(mask), bbox=[5, 8, 20, 24])
    assert kind in found(folder)
    assert (kind.remedy != "") == (kind is findings.CROWDS_OF_A_TOOL)
    # As the remedy says.
    assert found(folder, crowd="objects") == {}


def test_an_image_outside_of_the_folder_is_found(tmp_path: Path) -> None:
    folder = good(tmp_path / "data")
    folder.content["images"][1]["file_name"] = "../images/none.png"
    assert found(folder) == {findings.OUTSIDE_FILE: ["../images/none.png"]}
    folder.content["images"][1]["file_name"] = "../images/1.png"
    assert found(folder) == {findings.NAMED_OTHERWISE: ["../images/1.png"]}


def test_a_box_out_of_the_image_is_found(tmp_path: Path) -> None:
    folder = good(tmp_path / "data")
    outside = [-10, 8, 36, 24]
    folder.content["annotations"][1].update(
        bbox=outside, segmentation=[[-10, 8, 26, 8, 26, 32, -10, 32]]
    )
    assert found(folder) == {
        findings.BOX_OUTSIDE: [f"{SECOND}: {outside}, image {HEIGHT} x {WIDTH}"]
    }


def test_masks_of_an_image_that_no_mask_fits_are_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(annotation_check, "to_rle", lambda usable, size: drawn.append(size))
    folder = good(tmp_path)
    folder.content["images"][0]["width"] = 6 * 10**16
    folder.content["images"][1]["height"] = 2**31
    assert findings.OTHER_SIZE in found(folder)
    assert all(size == (48, 64) for size in drawn)


def test_ids_that_stand_twice_are_found_in_images_and_categories(tmp_path: Path) -> None:
    folder = good(tmp_path / "data")
    folder.content["images"][2]["id"] = 2
    folder.content["categories"].append({"id": 2, "name": "cow"})
    result = found(folder)
    assert result[findings.IMAGE_ID] == result[findings.CATEGORY_ID] == ["2"]


def test_images_and_categories_without_objects_are_remarks(tmp_path: Path) -> None:
    folder = good(tmp_path / "data")
    folder.content["categories"].append({"id": 7, "name": "cow"})
    folder.add("empty.png", noise(8, 8), [])
    folder.write()
    check = check_coco_dataset(str(folder.json), str(folder.root / "images"))
    assert check.problems == []
    assert check.found == {
        findings.EMPTY_IMAGE: ["empty.png"],
        findings.EMPTY_CATEGORY: ["cow"],
    }


def test_a_set_without_ground_truth_is_no_mistake(tmp_path: Path) -> None:
    folder = good(tmp_path / "data")
    del folder.content["annotations"]
    assert found(folder) == {}


def test_pictures_that_need_a_key_are_found(tmp_path: Path) -> None:
    folder = good(tmp_path / "data")
    deep = np.random.default_rng(0).integers(0, 4096, (HEIGHT, WIDTH)).astype(np.uint16)
    Image.fromarray(deep).save(folder.root / "images" / "1.png")
    assert found(folder) == {findings.UNTOLD_RANGE: [f"1.png: {deep.min()} to {deep.max()}"]}
    few = Reading(max_pixels=HEIGHT * WIDTH - 1)
    assert found(folder, reading=few)[findings.TOO_LARGE][0] == f"0.png: {HEIGHT * WIDTH} pixels"
    # As the remedies say.
    assert found(folder, reading=Reading((0, 4095), HEIGHT * WIDTH)) == {}


def test_a_file_that_is_cut_short_is_found_when_it_is_read_to_its_end(tmp_path: Path) -> None:
    folder = good(tmp_path / "data")
    path = folder.root / "images" / "1.png"
    path.write_bytes(path.read_bytes()[:-900])
    assert found(folder) == {}
    assert found(folder, decode_images=True) == {findings.UNREADABLE_FILE: ["1.png"]}


def test_only_objects_that_training_learns_are_measured(tmp_path: Path) -> None:
    folder = good(tmp_path / "data")
    folder.content["annotations"][0]["iscrowd"] = 1
    folder.content["annotations"][1]["segmentation"] = rle(~FULL)
    folder.content["annotations"].append(
        rectangle(50, 40, 30, 30, id=4, image_id=1)  # in a corner: 14 x 8 pixels are inside
    )
    folder.write()
    check = check_coco_dataset(str(folder.json), str(folder.root / "images"))
    assert check.boxes == [[7, 8, 27, 32], [50, 40, WIDTH, HEIGHT]]
    assert check.image_sizes == [(HEIGHT, WIDTH)] * 2
    assert check.areas == [20 * 24, 14 * 8]


@pytest.mark.parametrize("content", ["{", "[]", '{"images": 3}', "\x00"])
def test_a_json_that_is_none_is_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"broken\.json") as error:
        check_coco_dataset(str(path), str(tmp_path))
    assert "\n" not in str(error.value)


def test_every_kind_says_what_it_does() -> None:
    assert len({kind.title for kind in findings.KINDS}) == len(findings.KINDS)
    assert all(kind.effect.endswith(".") for kind in findings.KINDS)
    assert [kind for kind in findings.KINDS if not kind.remedy] == [
        findings.OTHERWISE,
        findings.NAMED_OTHERWISE,
        findings.TURNED_UNSEEN,
        findings.SPECKS,
        findings.REGIONS,
        findings.CROWD,
        findings.WHOLE_IMAGE,
        findings.EMPTY_IMAGE,
        findings.EMPTY_CATEGORY,
    ]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_that_exif_turns_where_no_size_tells_it(
    orientation: int, suffix: str, tmp_path: Path
) -> None:
    """Whether masks fit an image that is turned by 90 degrees is seen from its size."""
    folder = CocoFolder(tmp_path / "data", {1: "cat"})
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name, size in (("wide", (HEIGHT, WIDTH)), ("square", (HEIGHT, HEIGHT))):
        shown = size[::-1] if orientation >= 5 else size
        file = f"{name}.{suffix}"
        folder.add(file, noise(*shown), [rectangle(5, 8, 20, 24)])
        noise(*size).save(folder.root / "images" / file, exif=exif)
    expected = [f"wide.{suffix}"] * (2 <= orientation <= 4) + [f"square.{suffix}"]
    assert found(folder) == ({findings.TURNED_UNSEEN: expected} if orientation > 1 else {})


def labels_of_discs(is_coloured: bool) -> Image.Image:
    """A picture of the masks of nine discs, each with its grey or colour."""
    y, x = np.mgrid[:240, :320]
    colours = np.random.default_rng(0).integers(1, 256, (9, 3))
    labels = np.zeros((240, 320, 3) if is_coloured else (240, 320), np.uint8)
    for index in range(9):
        disc = (y - 40 - 80 * (index // 3)) ** 2 + (x - 50 - 100 * (index % 3)) ** 2 < 25**2
        labels[disc] = colours[index] if is_coloured else 28 * (index + 1)
    return Image.fromarray(labels)


def saved_as_jpeg(labels: Image.Image) -> Image.Image:
    file = BytesIO()
    labels.save(file, "JPEG", quality=90)
    return Image.open(file)


@pytest.mark.parametrize("is_coloured", [False, True])
@pytest.mark.parametrize(
    ("change", "is_blurred"),
    [
        (lambda labels: labels, False),
        (lambda labels: labels.resize((200, 150), Image.Resampling.NEAREST), False),
        (lambda labels: labels.resize((200, 150), Image.Resampling.BILINEAR), True),
        (lambda labels: labels.resize((400, 300), Image.Resampling.BICUBIC), True),
        (saved_as_jpeg, True),
    ],
    ids=["whole", "nearest", "bilinear", "bicubic", "JPEG"],
)
def test_masks_of_blurred_labels(
    is_coloured: bool,
    change: Callable[[Image.Image], Image.Image],
    is_blurred: bool,
    tmp_path: Path,
) -> None:
    labels = change(labels_of_discs(is_coloured))
    for place in ("images", "masks"):
        (tmp_path / place).mkdir()
    labels.save(tmp_path / "masks" / "0.png")
    noise(labels.height, labels.width).save(tmp_path / "images" / "0.png")
    name = f"masks:{tmp_path}/images:{tmp_path}/masks"
    register_in_place([name])
    check = check_dataset(records_as_file(name), "")
    assert (findings.SPECKS in check.found) == is_blurred


def test_crowds_of_small_objects_are_not_taken_for_blurred_labels(tmp_path: Path) -> None:
    folder = CocoFolder(tmp_path / "data", {1: "cell", 2: "wire"})
    cells = [rectangle(4 * n % WIDTH, 4 * (4 * n // WIDTH), 3, 2) for n in range(100)]
    wires = [rectangle(0, n, WIDTH, 1, category_id=2) for n in range(30, 45)]
    folder.add("0.png", noise(HEIGHT, WIDTH), cells + wires)
    needles = [
        {"bbox": [n, 0, 45, 45], "segmentation": [[n, 0, n + 2, 0, n + 45, 45, n + 43, 45]]}
        for n in range(0, 255, 10)
    ]
    objects = [{"category_id": 2, "iscrowd": 0} | needle for needle in needles]
    folder.add("1.png", noise(HEIGHT, 300), objects)
    assert findings.SPECKS not in found(folder)


@pytest.mark.parametrize(("squares", "is_noted"), [(12, True), (2, False)])
@pytest.mark.parametrize("white", [True, False])
def test_masks_that_are_white_where_any_object_is(
    squares: int, is_noted: bool, white: bool, tmp_path: Path
) -> None:
    labels = np.zeros((240, 320), np.uint8)
    for number in range(squares):
        top, left = 80 * (number // 4), 80 * (number % 4)
        labels[top : top + 30, left : left + 30] = 255 if white else number + 1
    for place in ("images", "masks"):
        (tmp_path / place).mkdir()
    for name in ("0.png", "1.png"):
        Image.fromarray(labels).save(tmp_path / "masks" / name)
        noise(240, 320, seed=int(name[0])).save(tmp_path / "images" / name)
    name = f"masks:{tmp_path}/images:{tmp_path}/masks"
    register_in_place([name])
    check = check_dataset(records_as_file(name), "")
    assert (findings.REGIONS in check.found) == (is_noted and white)
