"""The shapes dataset, judged from its files alone: nothing here calls the code that draws."""

import contextlib
import io
import json
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from solo_family.data.formats.synthetic import make_shapes
from solo_family.errors import DataError
from solo_family.files import making

SMALL: dict[str, Any] = {"num_train": 6, "num_val": 3, "image_size": (96, 128)}
REPOSITORY = Path(__file__).parents[3]


# Of images for training and validation.
FEW, WHOLE = (150, 50), (600, 100)


@pytest.fixture(scope="module", params=[FEW, pytest.param(WHOLE, marks=pytest.mark.slow)])
def counts(request: pytest.FixtureRequest) -> tuple[int, int]:
    return request.param


@pytest.fixture(scope="module")
def shapes(counts: tuple[int, int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the default size, or of fewer images, which are drawn alike."""
    more: dict[str, Any] = {} if counts == WHOLE else {"num_train": counts[0], "num_val": counts[1]}
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", **more)


@pytest.fixture(params=["train", "val"])
def coco(shapes: Path, request: pytest.FixtureRequest) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(shapes / "annotations" / f"{request.param}.json"))


def objects_by_image(coco: COCO) -> Iterator[list[dict[str, Any]]]:
    return (coco.loadAnns(coco.getAnnIds(imgIds=image_id)) for image_id in coco.getImgIds())


def touches(mask: np.ndarray, other: np.ndarray) -> bool:
    """Whether at least 4 pixels of one mask are next to the other."""
    dilated = cv2.dilate(mask, np.ones((3, 3), np.uint8))
    return int((dilated & other).sum()) >= 4


def read_image(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return image


def read_tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_counts_ids_and_categories(coco: COCO, counts: tuple[int, int]) -> None:
    assert len(coco.imgs) in counts
    assert list(coco.imgs) == list(range(1, len(coco.imgs) + 1))
    assert list(coco.anns) == list(range(1, len(coco.anns) + 1))
    assert min(coco.cats) == 1
    assert len(coco.cats) >= 4
    of_classes = [len(coco.getAnnIds(catIds=category)) for category in coco.cats]
    assert min(of_classes) > 0.5 * max(of_classes)
    assert max(len(objects) for objects in objects_by_image(coco)) <= 9


def test_most_objects_have_boxes_that_intersect(coco: COCO) -> None:
    overlapping = 0
    for objects in objects_by_image(coco):
        corners = np.array([annotation["bbox"] for annotation in objects]).reshape(-1, 1, 4)
        low, high = corners[..., :2], corners[..., :2] + corners[..., 2:]
        common = np.minimum(high, high.swapaxes(0, 1)) - np.maximum(low, low.swapaxes(0, 1))
        overlapping += int(((common > 0).all(2).sum(1) > 1).sum())  # Each one intersects itself.
    assert overlapping >= 0.5 * len(coco.anns)


def test_most_objects_visibly_meet_another(coco: COCO) -> None:
    """Stricter than boxes: the one in front leaves a common edge wherever the other goes on."""
    meeting = 0
    for objects in objects_by_image(coco):
        masks = [coco.annToMask(o) for o in objects]
        meeting += sum(
            any(touches(mask, other) for other in masks if other is not mask) for mask in masks
        )
    assert meeting >= 0.5 * len(coco.anns)


def test_many_objects_are_small_but_visible(coco: COCO) -> None:
    boxes = np.array([annotation["bbox"] for annotation in coco.anns.values()])
    small = (boxes[:, 2:] < 24).all(1).mean()
    assert 0.25 <= small <= 0.45
    assert min(annotation["area"] for annotation in coco.anns.values()) >= 30


def test_a_few_images_are_empty(coco: COCO) -> None:
    empty = sum(not objects for objects in objects_by_image(coco)) / len(coco.imgs)
    assert 0.02 <= empty <= 0.06


def test_masks_are_disjoint_and_boxes_and_areas_are_theirs(coco: COCO) -> None:
    for objects in objects_by_image(coco):
        masks = [coco.annToMask(annotation) for annotation in objects]
        assert not masks or np.sum(masks, axis=0).max() == 1
        for annotation, mask in zip(objects, masks):
            rows, columns = np.nonzero(mask)
            x, y, width, height = annotation["bbox"]
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
            assert annotation["area"] == mask.sum()
            assert annotation["iscrowd"] == 0
            assert isinstance(annotation["segmentation"]["counts"], str)


def test_rings_have_a_hole(coco: COCO) -> None:
    ring = next(c["id"] for c in coco.cats.values() if c["name"] == "ring")
    with_hole = 0
    rings = coco.loadAnns(coco.getAnnIds(catIds=ring))
    for annotation in rings:
        _, hierarchy = cv2.findContours(
            coco.annToMask(annotation), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )[-2:]
        with_hole += bool((hierarchy[0, :, 3] >= 0).any())
    assert with_hole > 0.6 * len(rings)  # An object in front may open the others.


def test_an_object_looks_unlike_its_surroundings(shapes: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(shapes / "annotations" / "val.json"))
    for annotation in coco.anns.values():
        image = read_image(shapes / "val" / coco.imgs[annotation["image_id"]]["file_name"])
        mask = coco.annToMask(annotation)
        around = cv2.dilate(mask, np.ones((7, 7), np.uint8)) > mask
        contrast = np.linalg.norm(image[mask > 0].mean(0) - image[around], axis=1)
        assert np.median(contrast) > 25


def test_colour_does_not_tell_the_category(shapes: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(shapes / "annotations" / "train.json"))
    colours = defaultdict(list)
    for image_id, image_info in list(coco.imgs.items())[:200]:
        image = read_image(shapes / "train" / image_info["file_name"])
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image_id)):
            colour = image[coco.annToMask(annotation) > 0].mean(0)
            colours[annotation["category_id"]].append(colour)
    means = np.array([np.mean(c, axis=0) for c in colours.values()])
    spread = np.array([np.std(c, axis=0) for c in colours.values()])
    assert np.ptp(means, axis=0).max() < 0.5 * spread.mean()


def test_images_have_the_size_that_is_written(shapes: Path) -> None:
    for split in ("train", "val"):
        content = json.loads((shapes / "annotations" / f"{split}.json").read_text())
        written = {image["file_name"] for image in content["images"]}
        assert written == {path.name for path in (shapes / split).iterdir()}
        for image in content["images"][::10]:
            pixels = read_image(shapes / split / image["file_name"])
            assert pixels.shape == (image["height"], image["width"], 3) == (192, 256, 3)


def test_same_seed_same_bytes_other_seed_other_pictures(tmp_path: Path) -> None:
    first, again, other = (
        read_tree(make_shapes(tmp_path / name, seed=seed, **SMALL))
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    assert first == again
    assert first.keys() == other.keys()
    assert not [name for name in first if first[name] == other[name]]


def test_splits_share_no_picture(shapes: Path, counts: tuple[int, int]) -> None:
    train, val = (
        {path.read_bytes() for path in (shapes / split).iterdir()} for split in ("train", "val")
    )
    assert (len(train), len(val)) == counts
    assert not train & val


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    root = make_shapes(tmp_path / "shapes", **SMALL)
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert make_shapes(tmp_path / "shapes", **SMALL) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times
    assert list(tmp_path.iterdir()) == [root]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "shapes").mkdir()
    assert (make_shapes(tmp_path / "shapes", **SMALL) / "train").is_dir()


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"num_train": 7}, {"num_val": 4}, {"image_size": (96, 96)}]
)
def test_other_arguments_are_an_error(tmp_path: Path, other: dict[str, Any]) -> None:
    root = make_shapes(tmp_path / "shapes", **SMALL)
    before = read_tree(root)
    with pytest.raises(DataError, match=r"shapes.*made with .*'seed': 0.*delete"):
        make_shapes(root, **(SMALL | other))
    assert read_tree(root) == before


def test_a_folder_with_something_else_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=f"{tmp_path.name} exists .* delete"):
        make_shapes(tmp_path, **SMALL)
    assert list(tmp_path.iterdir()) == [tmp_path / "notes.txt"]


@pytest.mark.parametrize(
    "wrong", [{"num_train": 0}, {"num_val": -1}, {"image_size": (32, 128)}, {"seed": -1}]
)
def test_impossible_arguments_are_an_error(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=str(next(iter(wrong)))):
        make_shapes(tmp_path / "shapes", **(SMALL | wrong))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    root = tmp_path / "shapes"
    call = (
        "from solo_family.data.formats.synthetic import make_shapes;"
        f"make_shapes({str(root)!r}, num_train=5000, num_val=1)"
    )
    run = subprocess.Popen([sys.executable, "-c", call], cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not list(tmp_path.rglob("*.jpg")) and time.monotonic() < deadline:
            assert run.poll() is None
            time.sleep(0.05)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert list(tmp_path.rglob("*.jpg")), "it was killed before it had begun"
    assert not root.exists()
    make_shapes(root, **SMALL)
    assert len(list((root / "train").iterdir())) == SMALL["num_train"]


def test_progress_shows_the_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_shapes(tmp_path / "shapes", **SMALL)
    shown = capsys.readouterr().err
    for split in ("train", "val"):
        assert re.search(rf"shapes {split}: 100%.*<\d\d:\d\d, ", shown)


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    """And what one that is alive is filling stays."""
    with making(tmp_path / "shapes") as filled:
        (filled / "half.txt").write_text("half")
        left = tmp_path / ".shapes.partial-killed"
        (left / "shapes").mkdir(parents=True)
        (tmp_path / ".other.partial-killed").mkdir()
        make_shapes(tmp_path / "elsewhere" / "shapes", num_train=1, num_val=1)
        with making(tmp_path / "shapes"):
            assert (filled / "half.txt").is_file()
            assert not left.exists()
        (tmp_path / "shapes").rmdir()
    assert [path.name for path in (tmp_path / "shapes").iterdir()] == ["half.txt"]
    assert (tmp_path / ".other.partial-killed").is_dir()
