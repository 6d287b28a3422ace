"""The reader of COCO jsons on files that are broken in any way: our own errors, or it works."""

import contextlib
import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from solo_family.data.checks.dataset_check import check_coco_dataset
from solo_family.data.formats import coco_file
from solo_family.data.formats.coco_json import coco_classes, load_coco, read_coco_truth
from solo_family.data.loading.dataset_mapper import MaskDatasetMapper
from solo_family.errors import SoloFamilyError

from ..coco_folder import CocoFolder, noise, rectangle, run_cfg
from .fuzzing import counts, fuzz

# Runs that don't add up, of which pycocotools' comparison does not come back.
ENDLESS = {"size": [48, 64], "counts": "11"}
GARBAGE = [
    *(None, True, False, 0, 1, -1, 2, 7, 10**6, 2**31, 2**63, 10**30, -(10**30)),
    *(0.5, -0.0, 1e-300, 1e9, 1e300, -1e300, math.nan, math.inf, -math.inf),
    *("", "x", "0.png", "../0.png", "/etc/passwd", "\0", "\ud800", "é" * 300, "11", "0"),
    *([], {}, [[]], [[[]]], [None], [math.nan] * 8, [1e300] * 8, [5, 5, 9, 5, 9, 9], ["a"] * 6),
    *([[1, 1, 9, 9]], [[1e6, 1e6, -1e6, 5, 5, 5]], [[math.nan, 1, 2, 3, 4, 5]], [2**40] * 6),
    *(ENDLESS, {"size": [48, 64], "counts": [3]}, {"size": [48, 64], "counts": [-1, 3073]}),
    *({"size": [48, 64]}, {"size": [48.0, 64.0], "counts": [3072]}, {"counts": "x", "size": None}),
    *({"size": [48, 64], "counts": "\ud800"}, {"size": [0, 0], "counts": []}, {"size": "ab"}),
    # As tools write them otherwise.
    *("1", "1.0", 1.0, "-7", "00012", "9b1d-1", "true", "images\\0.png", "http://[x/0.png"),
    *([[5, 5], [9, 5], [9, 9]], [[[5, 5], [9, 5], [9, 9]]], [["5"] * 6], [[{"x": 5, "y": 9}] * 3]),
    *([{"size": ["48", 64.0], "counts": [3072.0]}], [[]] * 3, [{"counts": 7}], [{}], [[True] * 6]),
]
# Forms of a polygon's points.
forms = st.sampled_from(
    [
        lambda p: p,
        lambda p: [p],
        lambda p: [[p[i : i + 2] for i in range(0, len(p), 2)]],
        lambda p: [p[i : i + 2] for i in range(0, len(p), 2)],
        lambda p: [[str(value) for value in p]],
        lambda p: [[{"x": x, "y": y} for x, y in zip(p[::2], p[1::2])]],
    ]
)
REMOVE, DOUBLE = "remove", "double"
values = st.one_of(
    st.sampled_from(GARBAGE),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=10,
    ),
)
# Where, counted through all places of the file, and what stands there afterwards.
mutations = st.lists(
    st.tuples(st.integers(0, 10**6), st.sampled_from([REMOVE, DOUBLE]) | st.tuples(values)),
    min_size=1,
    max_size=4,
)


def good(root: Path) -> CocoFolder:
    """A small dataset with polygons and RLE of both kinds."""
    mask = np.zeros((48, 64), np.uint8, order="F")
    mask[8:30, 5:40] = 1
    compressed = mask_util.encode(mask)
    runs = [5 * 48 + 8, *[22, 26] * 34, 22, 48 * 24 + 18]
    folder = CocoFolder(root, {1: "cat", 2: "dog"})
    for index in range(3):
        rle = {"size": [48, 64], "counts": compressed["counts"].decode() if index else runs}
        boxes = [
            rectangle(5, 5, 20, 20),
            rectangle(5, 8, 35, 22, segmentation=rle, category_id=2),
            rectangle(5, 8, 35, 22, segmentation=rle, iscrowd=1),
        ]
        folder.add(f"{index}.png", noise(48, 64), boxes)
    return folder


def places(content: Any) -> list[tuple[Any, Any]]:
    """Returns all containers with each of their keys."""
    found = []
    keys = content if isinstance(content, dict) else range(len(content))
    for key in list(keys):
        found.append((content, key))
        if isinstance(content[key], dict | list):
            found += places(content[key])
    return found


def mutate(content: dict[str, Any], changes: list[tuple[int, Any]]) -> dict[str, Any]:
    content = json.loads(json.dumps(content))
    for index, change in changes:
        known = places(content)
        if not known:
            break
        container, key = known[index % len(known)]
        if change == REMOVE:
            del container[key]
        elif change == DOUBLE:
            if isinstance(container, list):
                container.append(container[key])
        else:
            container[key] = copy.deepcopy(change[0])  # later changes are made within it
    return content


def read_everything(folder: CocoFolder) -> None:
    """Reads a dataset as training and evaluation do."""
    coco_file._files.clear()  # files that are written in the same moment have one stamp
    path, images = str(folder.json), str(folder.root / "images")
    check_coco_dataset(path, images)
    coco_classes(path, images)
    records = load_coco(path, images)
    mapper = MaskDatasetMapper(run_cfg("", folder.root), is_train=True)
    for record in records:
        with contextlib.suppress(SoloFamilyError):
            instances = mapper(record)["instances"]
            assert len(instances) <= len(record["annotations"])
    truth = read_coco_truth(path, images)
    for image in truth.dataset["images"]:
        annotations = truth.imgToAnns[image["id"]]
        masks = [truth.annToRLE(annotation) for annotation in annotations]
        crowds = [int(annotation["iscrowd"]) for annotation in annotations]
        if masks:
            assert mask_util.iou(masks, masks, crowds).shape == (len(masks), len(masks))


@counts
def test_changed_values_keys_and_types(tmp_path: Path, examples: int) -> None:
    folder = good(tmp_path / "data")
    whole = folder.content

    def check(changes: list[tuple[int, Any]]) -> None:
        folder.json.write_text(json.dumps(mutate(whole, changes)))
        with contextlib.suppress(SoloFamilyError):
            read_everything(folder)

    fuzz(check, mutations, 2 * examples, tmp_path)


@counts
def test_segmentations_of_any_kind(tmp_path: Path, examples: int) -> None:
    folder = good(tmp_path / "data")

    def check(segmentation: Any) -> None:
        folder.content["annotations"][1]["segmentation"] = segmentation
        folder.write()
        with contextlib.suppress(SoloFamilyError):
            read_everything(folder)

    number = st.integers(-5000, 5000) | st.floats() | st.integers(-(2**70), 2**70)
    polygons = st.lists(st.lists(number, max_size=12), max_size=4)
    runs = st.lists(st.integers(-2, 4000), max_size=9) | st.text(st.characters(), max_size=12)
    text = st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=12)
    rle = st.fixed_dictionaries({"size": st.just([48, 64]), "counts": runs | text})
    written = st.builds(lambda form, points: form(points), forms, st.lists(number, max_size=12))
    fuzz(check, polygons | rle | values | written, 2 * examples, tmp_path)


@counts
def test_files_that_are_cut_short_or_have_other_bytes(tmp_path: Path, examples: int) -> None:
    folder = good(tmp_path / "data")
    folder.write()
    whole = folder.json.read_bytes()

    def check(change: tuple[int, bytes, bool]) -> None:
        place, other, cut = change
        place %= len(whole)
        rest = b"" if cut else whole[place + len(other) :]
        folder.json.write_bytes(whole[:place] + other + rest)
        with contextlib.suppress(SoloFamilyError):
            read_everything(folder)

    change = st.tuples(st.integers(0, 10**6), st.binary(max_size=6), st.booleans())
    fuzz(check, change, 2 * examples, tmp_path)


def test_the_good_dataset_is_read(tmp_path: Path) -> None:
    """The mutations begin with a file that works, or they would show nothing."""
    folder = good(tmp_path / "data")
    folder.write()
    read_everything(folder)
    records = load_coco(str(folder.json), str(folder.root / "images"))
    assert [len(record["annotations"]) for record in records] == [3, 3, 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "is not JSON"),
        ('{"images": ' + "9" * 5000 + "}", "is not JSON"),
    ],
    ids=["deep", "long"],
)
def test_what_breaks_the_json_reader_itself(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "deep.json").write_text(text)
    with pytest.raises(SoloFamilyError, match=words):
        load_coco(str(tmp_path / "deep.json"), str(tmp_path))
