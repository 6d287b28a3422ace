"""Files of results, read again by this package's readers and by other programs' own."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, Metadata
from detectron2.structures import Boxes, Instances
from PIL import Image
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from solo_family.data.formats.coco_file import CocoFile, parse
from solo_family.data.formats.label_maps import read_labels, read_panoptic_ids
from solo_family.data.formats.labelme import read_labelme
from solo_family.data.formats.panoptic_dataset import load_panoptic
from solo_family.data.formats.yolo import register_yolo
from solo_family.errors import ConfigError, DataError
from solo_family.predictor import Result
from solo_family.saving.picture import Classes
from solo_family.saving.saver import Options
from solo_family.saving.writer import SAVERS, ResultWriter, make_savers

NAMES = ["apple", "big pear"]
METADATA = Metadata(thing_classes=NAMES, thing_dataset_id_to_contiguous_id={7: 0, 42: 1})
SIZE = (96, 128)
LEAST_IOU = 0.98


def masks() -> np.ndarray:
    """Return a ring, two separate discs as one object, and a square that overlaps the ring."""
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
    ring = abs(np.hypot(ys - 40, xs - 35) - 22) < 9
    discs = (np.hypot(ys - 20, xs - 90) < 14) | (np.hypot(ys - 70, xs - 100) < 17)
    return np.stack([ring, discs, (abs(ys - 60) < 15) & (abs(xs - 45) < 15)])


def found(chosen: np.ndarray | None = None) -> dict[str, Any]:
    chosen = masks() if chosen is None else chosen
    count = len(chosen)
    boxes = [cv2.boundingRect(mask.astype(np.uint8)) for mask in chosen]
    corners = [[x, y, x + w, y + h] for x, y, w, h in boxes]
    return {
        "instances": Instances(
            SIZE,
            pred_masks=torch.from_numpy(chosen),
            pred_boxes=Boxes(torch.tensor(corners).reshape(-1, 4)),
            scores=torch.tensor([0.9, 0.8, 0.7])[:count],
            pred_classes=torch.tensor([0, 1, 1])[:count],
        )
    }


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Return two pictures of one name in two folders, and one in which nothing is found."""
    paths = [tmp_path / "in" / name for name in ("a/frame.png", "b/frame.png", "none.png")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image()).save(path)
    return paths


def save(pictures: list[Path], folder: Path, *formats: str, tolerance: float | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    savers = make_savers(formats, folder, Classes(METADATA), Options(tolerance))
    with ResultWriter(savers, pictures[-1].parent) as writer:
        for number, path in enumerate(pictures, start=1):
            chosen = None if number < 3 else masks()[:0]
            writer.add(found(chosen), image(), number, file_name=str(path))
    return folder


def assert_same(read: list[np.ndarray], least: float = LEAST_IOU) -> None:
    expected = masks()
    assert len(read) == len(expected)
    for one, other in zip(read, expected):
        one = np.asarray(one, bool)
        assert (one & other).sum() / (one | other).sum() >= least


@pytest.mark.parametrize(("kind", "least"), [("coco", LEAST_IOU), ("coco-rle", 1.0)])
def test_a_coco_dataset_is_read_by_our_reader_and_by_pycocotools(
    pictures: list[Path], tmp_path: Path, kind: str, least: float
) -> None:
    file = save(pictures, tmp_path / "out", kind) / f"{kind.replace('-', '_')}.json"
    ours = CocoFile(str(file), parse(str(file)))
    ours.check()
    assert len(ours.usable) == 6
    paths = ours.image_paths(str(tmp_path / "in"))
    assert [Path(path) for path in paths] == pictures
    assert [(one["height"], one["width"]) for one in ours.images] == [SIZE] * 3
    coco = COCO(str(file))
    assert coco.loadCats(coco.getCatIds()) == [
        {"id": 7, "name": "apple"},
        {"id": 42, "name": "big pear"},
    ]
    for number in (1, 2):
        annotations = coco.loadAnns(coco.getAnnIds([number]))
        assert [one["category_id"] for one in annotations] == [7, 42, 42]
        assert_same([coco.annToMask(one) for one in annotations], least)
        kinds = [type(one["segmentation"]) for one in annotations]
        assert kinds == ([dict, list, list] if kind == "coco" else [dict] * 3)


def test_coco_results_are_those_that_cocos_evaluation_reads(
    pictures: list[Path], tmp_path: Path
) -> None:
    folder = save(pictures, tmp_path / "out", "coco", "coco-results")
    results = COCO(str(folder / "coco.json")).loadRes(str(folder / "coco_results.json"))
    assert_same([results.annToMask(one) for one in results.loadAnns(results.getAnnIds([2]))], 1.0)


def test_labelme_files_come_back(pictures: list[Path], tmp_path: Path) -> None:
    folder = save(pictures, tmp_path / "out", "labelme") / "labelme"
    content, left_out = read_labelme(folder)
    assert left_out == []
    names = [one["file_name"] for one in content["images"]]
    assert names == ["frame.png", "frame_2.png", "none.png"]
    (folder / "all.json").write_text(json.dumps(content))
    coco = COCO(str(folder / "all.json"))
    for number in (1, 2):
        found = coco.loadAnns(coco.getAnnIds([number]))
        assert [coco.cats[one["category_id"]]["name"] for one in found] == ["apple"] + NAMES[1:] * 2
        assert_same([coco.annToMask(one) for one in found])


def test_yolo_files_come_back(pictures: list[Path], tmp_path: Path) -> None:
    folder = save(pictures, tmp_path / "out", "yolo") / "yolo"
    name = f"yolo:{folder}"
    register_yolo(name)
    first, _, empty = DatasetCatalog.get(name)
    assert empty["annotations"] == []
    assert [one["category_id"] for one in first["annotations"]] == [0, 1, 1]
    codes = [mask_util.frPyObjects(one["segmentation"], *SIZE) for one in first["annotations"]]
    assert_same([mask_util.decode(code[0]) for code in codes])


def test_a_label_map_has_the_class_of_the_highest_score(
    pictures: list[Path], tmp_path: Path
) -> None:
    folder = save(pictures, tmp_path / "out", "label-map") / "label_maps"
    assert (folder / "classes.txt").read_text().split("\n")[:2] == NAMES
    ring, discs, square = masks()
    expected = np.where(ring, 0, np.where(discs | square, 1, 2))
    np.testing.assert_array_equal(read_labels(str(folder / "frame.png"), 2), expected)
    assert (read_labels(str(folder / "none.png"), 2) == 2).all()


@pytest.mark.parametrize(("count", "kind"), [(255, np.uint8), (300, np.uint16)])
def test_label_maps_of_a_semantic_model_have_16_bits_where_8_are_too_few(
    tmp_path: Path, count: int, kind: type
) -> None:
    labels = np.arange(count).repeat(4).reshape(-1, 20)
    scores = torch.nn.functional.one_hot(torch.from_numpy(labels), count).permute(2, 0, 1)
    names = [str(number) for number in range(count)]
    black = np.zeros((*labels.shape, 3), np.uint8)
    result = Result({"sem_seg": scores}, Metadata(stuff_classes=names), black, "x.png")
    result.save(tmp_path, "label-map", "panoptic")
    file = str(tmp_path / "label_maps" / "x.png")
    values = cv2.imread(file, cv2.IMREAD_UNCHANGED)
    assert values.dtype == kind
    np.testing.assert_array_equal(read_labels(file, count, 65535), labels)
    content = json.loads((tmp_path / "panoptic.json").read_text())
    ids = read_panoptic_ids(str(tmp_path / "panoptic" / "x.png"))
    classes = {one["id"]: one["category_id"] for one in content["annotations"][0]["segments_info"]}
    np.testing.assert_array_equal(np.vectorize(classes.get)(ids), labels)
    assert {one["isthing"] for one in content["categories"]} == {0}


@pytest.mark.parametrize("kind", ["coco", "coco-results", "labelme", "yolo", "geojson", "csv"])
def test_formats_of_instances_refuse_a_label_map(tmp_path: Path, kind: str) -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    result = Result({"sem_seg": torch.zeros(2, 4, 4)}, METADATA, black)
    with pytest.raises(ConfigError, match=f"{kind} needs instances.*label-map, panoptic"):
        result.save(tmp_path, kind)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name[0] != "."] == []


def test_panoptic_segments_come_back(pictures: list[Path], tmp_path: Path) -> None:
    ring, discs, _ = masks()
    ids = np.where(ring, 5, np.where(discs, 300, 9))  # 9 has no info: nothing
    infos = [
        {"id": 5, "category_id": 0, "isthing": True, "score": 0.9},
        {"id": 300, "category_id": 1, "isthing": False, "score": 0.8},
    ]
    given = {"panoptic_seg": (torch.from_numpy(ids), infos)}
    Result(given, METADATA, image(), pictures[0]).save(tmp_path, "panoptic", "coco-rle")
    args = (str(pictures[0].parent), str(tmp_path / "panoptic"), str(tmp_path / "panoptic.json"))
    (record,) = load_panoptic(*args)
    read = read_panoptic_ids(record["pan_seg_file_name"])
    things = {one["category_id"]: one["isthing"] for one in record["segments_info"]}
    assert things == {0: True, 1: False}
    for one, mask in zip(record["segments_info"], (ring, discs)):
        np.testing.assert_array_equal(read == one["id"], mask)
        assert one["area"] == mask.sum()
    assert set(np.unique(read)) == {0, *(one["id"] for one in record["segments_info"])}
    # The segments of things are instances.
    (thing,) = json.loads((tmp_path / "coco_rle.json").read_text())["annotations"]
    np.testing.assert_array_equal(mask_util.decode(thing["segmentation"]), ring)


def test_panoptic_files_of_instances_give_a_pixel_to_the_highest_score(
    pictures: list[Path], tmp_path: Path
) -> None:
    folder = save(pictures, tmp_path / "out", "panoptic")
    ids = read_panoptic_ids(str(folder / "panoptic" / "frame_2.png"))
    ring, discs, square = masks()
    np.testing.assert_array_equal(ids, ring + 2 * discs + 3 * (square & ~ring))


def test_geojson_has_closed_rings_with_holes_and_physical_areas(tmp_path: Path) -> None:
    result = Result(found(), METADATA, image(), "cells.png")
    result.save(tmp_path, "geojson", "csv", polygon_tolerance=0, pixel_size="0.25um")
    content = json.loads((tmp_path / "geojson" / "cells.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    kinds = [one["geometry"]["type"] for one in content["features"]]
    assert kinds == ["Polygon", "MultiPolygon", "Polygon"]
    for feature, mask in zip(content["features"], masks()):
        geometry, properties = feature["geometry"], feature["properties"]
        several = geometry["type"] == "MultiPolygon"
        polygons = geometry["coordinates"] if several else [geometry["coordinates"]]
        rings = [np.array(ring) for polygon in polygons for ring in polygon]
        assert all((ring[0] == ring[-1]).all() for ring in rings)
        areas = [(r[:-1, 0] * r[1:, 1] - r[1:, 0] * r[:-1, 1]).sum() / 2 for r in rings]
        assert areas[0] > 0  # as RFC 7946 turns outer rings
        assert sum(areas) == properties["area_px"] == mask.sum()
        assert properties["area_um2"] == pytest.approx(mask.sum() * 0.0625)
        assert properties["classification"] == {"name": properties["class"]}
    rows = list(csv.DictReader((tmp_path / "instances.csv").open(newline="")))
    assert [row["class"] for row in rows] == ["apple", "big pear", "big pear"]
    ys, xs = masks()[0].nonzero()
    assert float(rows[0]["centre_x"]) == pytest.approx(xs.mean() + 0.5)
    assert float(rows[0]["centre_y"]) == pytest.approx(ys.mean() + 0.5)
    assert [float(row["area_um2"]) for row in rows] == [m.sum() * 0.0625 for m in masks()]


def test_a_cutout_is_the_box_and_transparent_around_the_mask(
    pictures: list[Path], tmp_path: Path
) -> None:
    folder = save(pictures[:1], tmp_path / "out", "cutouts") / "cutouts"
    names = sorted(path.name for path in folder.iterdir())
    assert names[1] == "frame_0002_big_pear.png"
    cut = cv2.imread(str(folder / names[0]), cv2.IMREAD_UNCHANGED)
    x, y, w, h = cv2.boundingRect(masks()[0].astype(np.uint8))
    np.testing.assert_array_equal(cut[:, :, 3] > 0, masks()[0][y : y + h, x : x + w])
    np.testing.assert_array_equal(cut[:, :, :3], image()[y : y + h, x : x + w])


@pytest.mark.parametrize("kind", SAVERS)
def test_an_error_leaves_no_file_that_looks_complete(
    pictures: list[Path], tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    savers = make_savers([kind], folder, Classes(METADATA), Options())
    writer = ResultWriter(savers)
    with writer:
        writer.add(found(), image(), 1, file_name=str(pictures[0]))
        error = DataError("broken")
        writer.__exit__(DataError, error, None)
    assert not list(folder.rglob("*.tmp*"))
    whole = {"coco.json", "coco_rle.json", "coco_results.json", "panoptic.json", "instances.csv"}
    assert not whole & {path.name for path in folder.iterdir()}
    assert not (folder / "yolo" / "data.yaml").exists()


def test_frames_of_a_video_become_pictures_of_the_dataset(tmp_path: Path) -> None:
    savers = make_savers(["coco", "yolo"], tmp_path, Classes(METADATA), Options())
    with ResultWriter(savers) as writer:
        for frame in range(2):
            writer.add(found(), image(), frame + 1, file_name="clip.mp4", frame=frame)
    ours = CocoFile("coco.json", parse(str(tmp_path / "coco.json")))
    paths = ours.image_paths(str(tmp_path / "coco_images"))
    assert [Path(path).name for path in paths] == ["clip_000000.png", "clip_000001.png"]
    np.testing.assert_array_equal(cv2.imread(paths[1]), image())
    assert (tmp_path / "yolo" / "labels" / "clip_000001.txt").is_file()


def test_wrong_requests_name_what_is_allowed(tmp_path: Path) -> None:
    result = Result(found(), METADATA, image())
    with pytest.raises(ConfigError, match="'voc'; save as one of: pictures, coco"):
        result.save(tmp_path, "voc")
    with pytest.raises(ConfigError, match=r"'3 parsec'.*0.25um"):
        result.save(tmp_path, "csv", pixel_size="3 parsec")


def test_labelmes_own_loader_reads_the_files(pictures: list[Path], tmp_path: Path) -> None:
    label_file = pytest.importorskip("labelme._label_file", exc_type=ImportError)
    folder = save(pictures[:1], tmp_path / "out", "labelme") / "labelme"
    read = label_file.LabelFile(str(folder / "frame.json"))
    assert [shape["label"] for shape in read.shapes] == ["apple"] + ["big pear"] * 3


@pytest.mark.parametrize("kind", ["coco", "yolo"])
def test_supervisions_own_loaders_read_the_files(
    pictures: list[Path], tmp_path: Path, kind: str
) -> None:
    supervision = pytest.importorskip("supervision")
    folder = save(pictures, tmp_path / "out", kind, "labelme")
    if kind == "coco":
        data = supervision.DetectionDataset.from_coco(
            str(tmp_path / "in"), str(folder / "coco.json"), force_masks=True
        )
    else:
        yolo = folder / "yolo"
        data = supervision.DetectionDataset.from_yolo(
            str(yolo / "images"), str(yolo / "labels"), str(yolo / "data.yaml"), force_masks=True
        )
    assert data.classes == NAMES
    detections = next(iter(data.annotations.values()))
    assert sorted(detections.class_id) == [0, 1, 1]


def test_datumaros_own_loader_reads_the_dataset(pictures: list[Path], tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro", exc_type=ImportError)
    out = save(pictures, tmp_path / "out", "coco")
    folder = tmp_path / "dataset"
    (folder / "annotations").mkdir(parents=True)
    (out / "coco.json").rename(folder / "annotations" / "instances_all.json")
    (tmp_path / "in").rename(folder / "images")
    items = {item.id: item for item in datumaro.Dataset.import_from(str(folder), "coco_instances")}
    assert sorted(items) == ["a/frame", "b/frame", "none"]
    kinds = {type(one).__name__ for one in items["b/frame"].annotations}
    assert kinds >= {"Polygon", "RleMask"}


@pytest.mark.parametrize("kind", ["labelme", "yolo"])
def test_files_that_may_have_been_corrected_are_not_replaced(
    pictures: list[Path], tmp_path: Path, kind: str
) -> None:
    save(pictures[:1], tmp_path / "out", kind)
    with pytest.raises(ConfigError, match=r"frame.* exists, and may have been corrected"):
        save(pictures[:1], tmp_path / "out", kind)
    save([pictures[2]], tmp_path / "out", kind)  # another picture joins them
