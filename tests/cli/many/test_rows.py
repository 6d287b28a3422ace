"""A row says of a picture what the model does, to the pixel."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import BitMasks, Instances
from PIL import Image
from pycocotools import mask as mask_util

from solo_family.cli.batches import Item
from solo_family.cli.inputs import Source
from solo_family.cli.many.rows import as_picture, as_table, describe_classes, result_row
from solo_family.saving.picture import Classes, predicted

CLASSES = Classes(
    Metadata(thing_classes=["a", "b", "c"], thing_dataset_id_to_contiguous_id={7: 0, 5: 1, 90: 2})
)
HEIGHT, WIDTH = 11, 17


def row_of(predictions: dict[str, Any], classes: Classes = CLASSES) -> dict[str, Any]:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    item = Item(Source(None, False, content=b"", page=2), None, 3, image)
    (row,) = as_table([result_row(item, predicted(predictions), classes)]).to_pylist()
    assert (row["image_id"], row["page"], row["error"]) == (3, 2, None)
    assert (row["height"], row["width"]) == (HEIGHT, WIDTH)
    return row


def instances(count: int) -> Instances:
    masks = torch.from_numpy(np.random.default_rng(count).random((count, HEIGHT, WIDTH)) > 0.6)
    found = Instances((HEIGHT, WIDTH), pred_masks=masks, scores=torch.linspace(0.1, 0.7, count))
    found.pred_classes = torch.arange(count) % 3
    found.pred_boxes = BitMasks(masks).get_bounding_boxes()
    return found


@pytest.mark.parametrize("count", [0, 5])
def test_instances(count: int) -> None:
    found = instances(count)
    row = row_of({"instances": found})
    order = range(count - 1, -1, -1)  # the scores rise
    assert row["labels"] == [i % 3 for i in order]
    assert row["class_ids"] == [[7, 5, 90][i % 3] for i in order]
    assert row["class_names"] == ["abc"[i % 3] for i in order]
    assert row["scores"] == [float(found.scores[i]) for i in order]
    for place, index in enumerate(order):
        mask = found.pred_masks[index].numpy()
        assert np.array_equal(mask_util.decode(row["masks"][place]).astype(bool), mask)
        y, x = np.nonzero(mask)
        box = [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]
        assert row["boxes"][place] == box
    assert row["label_map"] is None
    assert row["panoptic"] is None
    picture = as_picture(row, "in/a.png")
    assert picture.instances == predicted({"instances": found})["instances"]
    assert picture.size == {"height": HEIGHT, "width": WIDTH}


@pytest.mark.parametrize("count", [3, 300])
def test_classes_of_pixels(count: int) -> None:
    scores = torch.rand(count + 1, HEIGHT, WIDTH, generator=torch.manual_seed(0))
    classes = Classes(Metadata(stuff_classes=[str(i) for i in range(count)]))
    row = row_of({"sem_seg": scores}, classes)
    values = np.asarray(Image.open(io.BytesIO(row["label_map"])))
    best = scores.argmax(dim=0).numpy()
    assert np.array_equal(values, np.where(best == count, 255 if count == 3 else 65535, best))
    assert row["labels"] is None


def test_panoptic_segments() -> None:
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (HEIGHT, WIDTH)) * 300)
    infos = [
        {"id": 300, "category_id": 1, "isthing": True, "score": 0.5},
        {"id": 600, "category_id": 2, "isthing": False},
    ]
    row = row_of({"panoptic_seg": (ids, infos)})
    colours = np.asarray(Image.open(io.BytesIO(row["panoptic"]))).astype(int)
    decoded = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
    assert np.array_equal(decoded, ids.numpy())
    one, other = row["segments"]
    names = ("id", "label", "class_id", "class_name", "is_thing", "score")
    assert tuple(map(one.get, names)) == (300, 1, 5, "b", True, 0.5)
    assert tuple(map(other.get, names)) == (600, 2, 90, "c", False, None)
    assert row["labels"] == [1]  # the segments of things are the instances
    assert np.array_equal(mask_util.decode(row["masks"][0]), ids.numpy() == 300)


def test_the_classes_are_in_the_file() -> None:
    (text,) = describe_classes(CLASSES).values()
    assert b'{"id": 90, "name": "c"}' in text
