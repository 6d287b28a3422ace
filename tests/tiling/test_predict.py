"""Images by tiles through the whole way, with a model that says exactly what is there."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from solo_family.data.loading.windows import ArrayWindows
from solo_family.errors import DataError
from solo_family.ops import run_masks
from solo_family.ops.run_masks import RunMasks
from solo_family.ops.window import Window
from solo_family.tiling import merge_semantic
from solo_family.tiling.merge_semantic import LabelMap
from solo_family.tiling.partial import PartialFile
from solo_family.tiling.predict import predict_by_tiles
from solo_family.tiling.tiles import Tiling, place_tiles

from .scenes import Scene, crowd, seen_in

STUFF = 3  # the class of everything that is no object


class Known:
    """A model that finds out from the pixels where it is in a scene, and answers truly."""

    def __init__(self, truth: Scene) -> None:
        self.truth = truth
        rows, columns = np.mgrid[: truth.size[0], : truth.size[1]]
        place = rows * truth.size[1] + columns
        self.image = np.stack([place >> 16, place >> 8 & 255, place & 255], axis=2).astype(np.uint8)
        self.batches: list[int] = []

    def __call__(self, tiles: list[np.ndarray]) -> list[dict]:
        self.batches.append(len(tiles))
        return [self._answer(tile) for tile in tiles]

    def _answer(self, tile: np.ndarray) -> dict:
        red, green, blue = (int(value) for value in tile[0, 0])
        top, left = divmod((red << 16) + (green << 8) + blue, self.truth.size[1])
        answer = seen_in(self.truth, top, left, *tile.shape[:2])
        found = answer["instances"]
        segments = torch.ones(tile.shape[:2], dtype=torch.int32)
        infos: list[dict] = [{"id": 1, "category_id": STUFF, "isthing": False}]
        for index in range(len(found)):
            segments[found.pred_masks[index]] = index + 2
            label, score = int(found.pred_classes[index]), float(found.scores[index])
            info = {"id": index + 2, "category_id": label, "isthing": True, "score": score}
            infos.append(info)
        answer["panoptic_seg"] = segments, infos
        return answer


@pytest.fixture(scope="module")
def truth() -> Scene:
    return crowd(3, (230, 300), 60)


def panoptic_map(segments: torch.Tensor, infos: list[dict]) -> np.ndarray:
    """Return score and class of every pixel, which do not depend on the segments' numbers."""
    assert [info["id"] for info in infos] == list(range(1, len(infos) + 1))
    values = [(-1.0, -1), *((info["score"], info["category_id"]) for info in infos)]
    return np.array(values)[segments.numpy()].round(4)


@pytest.mark.parametrize("batch", [1, 3])
def test_instances_and_segments_are_the_truth_whatever_the_batch(truth: Scene, batch: int) -> None:
    model = Known(truth)
    tiling = Tiling(100, 30, batch=batch)
    found = predict_by_tiles(model, ArrayWindows(model.image), tiling)
    assert found.unread == []
    assert max(model.batches) == batch
    instances = found.predictions["instances"]
    assert np.array_equal(instances.pred_masks.numpy(), truth.masks)
    assert np.allclose(instances.scores.numpy(), truth.scores)
    segments, infos = found.predictions["panoptic_seg"]
    assert len(infos) == len(truth.masks) + 1
    expected = np.zeros((*truth.size, 2))
    expected[:] = 1.0, STUFF
    for mask, score, label in zip(truth.masks, truth.scores, truth.classes):
        expected[mask] = score, label
    assert np.array_equal(panoptic_map(segments, infos), expected.round(4))


def test_masks_of_a_large_image_are_runs(truth: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_masks, "DENSE_BYTES", 1000)
    model = Known(truth)
    found = predict_by_tiles(model, ArrayWindows(model.image), Tiling(100, 30))
    masks = found.predictions["instances"].pred_masks
    assert isinstance(masks, RunMasks)
    assert np.array_equal(masks.numpy(), truth.masks)


class Broken:
    """An image of which a part can't be read."""

    def __init__(self, image: np.ndarray, broken: Window) -> None:
        self._windows = ArrayWindows(image)
        self._broken = broken
        self.size = self._windows.size

    def read(self, window: Window) -> np.ndarray:
        if not window.intersection(self._broken).is_empty:
            raise DataError(f"map.tif, {window}: can't be read: it is torn")
        return self._windows.read(window)


def test_the_rest_goes_on_where_a_window_can_t_be_read(
    truth: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    model = Known(truth)
    windows = Broken(model.image, Window(110, 180, 112, 182))
    with caplog.at_level(logging.ERROR):
        found = predict_by_tiles(model, windows, Tiling(100, 30))
    assert found.unread == [
        "map.tif, rows 70 to 170, columns 140 to 240: can't be read: it is torn"
    ]
    assert found.unread[0] in caplog.text
    whole = predict_by_tiles(model, ArrayWindows(model.image), Tiling(100, 30))
    assert 0 < len(found.predictions["instances"]) <= len(whole.predictions["instances"])
    with pytest.raises(DataError, match="rows 0 to 100, columns 0 to 100"):
        predict_by_tiles(model, Broken(model.image, Window(0, 0, 999, 999)), Tiling(100, 30))


def test_an_interrupted_image_goes_on_at_its_tile(truth: Scene, tmp_path: Path) -> None:
    """Also where the file was cut off in the middle of a record."""
    model = Known(truth)
    windows, tiling = ArrayWindows(model.image), Tiling(100, 30, batch=2)
    whole = predict_by_tiles(model, windows, tiling).predictions

    class Interrupted(Known):
        def __call__(self, tiles: list[np.ndarray]) -> list[dict]:
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().__call__(tiles)

    path = tmp_path / ".map.tiles"
    with pytest.raises(KeyboardInterrupt):
        predict_by_tiles(
            Interrupted(truth), windows, tiling, partial=PartialFile(path, "key", truth.size[0])
        )
    path.write_bytes(path.read_bytes()[:-5])
    partial = PartialFile(path, "key", truth.size[0])
    assert len(partial.finished) == 5
    model.batches = []
    found = predict_by_tiles(model, windows, tiling, partial=partial).predictions
    assert sum(model.batches) == len(place_tiles(truth.size, tiling)) - 5
    assert torch.equal(found["instances"].pred_masks, whole["instances"].pred_masks)
    assert torch.equal(found["instances"].scores, whole["instances"].scores)
    assert torch.equal(found["panoptic_seg"][0], whole["panoptic_seg"][0])
    assert found["panoptic_seg"][1] == whole["panoptic_seg"][1]
    partial.close()
    assert len(PartialFile(path, "key", truth.size[0]).finished) == len(
        place_tiles(truth.size, tiling)
    )
    other = PartialFile(path, "other weights", truth.size[0])
    assert other.finished == {}
    other.remove()
    assert not path.exists()


def blended(scores: torch.Tensor, tiling: Tiling) -> torch.Tensor | LabelMap:
    """Merge the parts of scores [K, H, W], each with something of its own added."""
    size = (scores.shape[1], scores.shape[2])
    image = np.zeros((*size, 3), np.uint8)
    given = iter(place_tiles(size, tiling))

    def predict(tiles: list[np.ndarray]) -> list[dict]:
        windows = [next(given).window for _ in tiles]
        return [
            {"sem_seg": scores[:, top:bottom, left:right]} for top, left, bottom, right in windows
        ]

    return predict_by_tiles(predict, ArrayWindows(image), tiling).predictions["sem_seg"]


@pytest.mark.parametrize("overlap", [0, 20, 70])
def test_scores_that_tiles_agree_on_stay(overlap: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randn(4, 150, 190, generator=torch.Generator().manual_seed(0))
    found = blended(scores, Tiling(80, overlap))
    assert isinstance(found, torch.Tensor)
    assert torch.allclose(found, scores, atol=1e-5)
    monkeypatch.setattr(merge_semantic, "DENSE_BYTES", 1000)
    labels = blended(scores, Tiling(80, overlap))
    assert isinstance(labels, LabelMap)
    assert labels.shape == scores.shape
    assert torch.equal(labels.argmax(dim=0), found.argmax(dim=0))
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(labels[order].argmax(dim=0), found[order].argmax(dim=0))


def test_scores_that_a_model_makes_late_are_merged() -> None:
    """As a panoptic model's in `demo --save label-map --tile`."""

    class Late:
        def __init__(self, scores: torch.Tensor) -> None:
            self.scores = scores

        def made(self) -> torch.Tensor:
            return self.scores

    scores = torch.randn(4, 50, 90, generator=torch.Generator().manual_seed(0))
    image = ArrayWindows(np.zeros((50, 90, 3), np.uint8))

    def predict(tiles: list[np.ndarray]) -> list[dict]:
        return [{"sem_seg": Late(scores)} for _ in tiles]

    found = predict_by_tiles(predict, image, Tiling(90, 0)).predictions["sem_seg"]
    assert torch.equal(found.argmax(dim=0), scores.argmax(dim=0))


def test_weights_fall_off_towards_a_border_between_tiles() -> None:
    """Two tiles, of 0 and of 1, go over into one another linearly; elsewhere they are alone."""
    values = iter([0.0, 1.0])

    def predict(tiles: list[np.ndarray]) -> list[dict]:
        return [{"sem_seg": torch.full((1, *tile.shape[:2]), next(values))} for tile in tiles]

    image = np.zeros((70, 140, 3), np.uint8)
    found = predict_by_tiles(predict, ArrayWindows(image), Tiling(80, 20)).predictions["sem_seg"][0]
    assert torch.equal(found, found[:1].expand(70, -1))
    row = found[0]
    assert row[:60].eq(0).all()
    assert row[80:].eq(1).all()
    assert torch.allclose(row[60:80], (torch.arange(20) + 0.5) / 20)
