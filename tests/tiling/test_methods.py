"""Every method by tiles: tiny models through the way that evaluation takes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from solo_family import METHODS
from solo_family.data.loading.dataset_mapper import MaskDatasetMapper
from solo_family.engine.main import main
from solo_family.errors import DataError
from solo_family.ops.window import Window
from solo_family.predictor import Predictor
from solo_family.tiling import model as model_module
from solo_family.tiling.model import TiledModel

from ..coco_folder import write_cfg
from ..conftest import eager_to_find, picture, tiny_cfg, tiny_model
from ..predictor.test_predictor import tiny_run

SMALL = ["INPUT.MIN_SIZE_TEST", 64, "TEST.TILE.OVERLAP", 16, "TEST.DETECTIONS_PER_IMAGE", 8]


def record(tmp_path: Path, height: int, width: int) -> dict[str, Any]:
    """Write a picture, and return its dict."""
    pixels = picture(height, width, objects=8, seed=2)["image"].permute(1, 2, 0).numpy()
    path = tmp_path / "x.png"
    Image.fromarray(pixels).save(path)
    return {"file_name": str(path), "height": height, "width": width, "image_id": 1}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_image_of_one_tile_is_as_without_tiles(method: str, tmp_path: Path) -> None:
    model = eager_to_find(tiny_model(method, opts=SMALL), True)
    item = record(tmp_path, 70, 96)
    cfg = tiny_cfg(method, opts=[*SMALL, "TEST.TILE.SIZE", 128])
    with torch.no_grad():
        whole = model([MaskDatasetMapper(cfg, is_train=False)(item)])[0]
    tiled = TiledModel(model, cfg)([item])[0]
    assert set(tiled) == set(whole)
    some = whole["instances"][whole["instances"].pred_masks.any(dim=(1, 2))]
    assert len(some) > 0
    found = tiled["instances"]
    assert torch.equal(found.scores, some.scores.sort(descending=True).values)
    expected = {mask.numpy().tobytes() for mask in some.pred_masks}
    assert {mask.numpy().tobytes() for mask in found.pred_masks} == expected
    if "sem_seg" in whole:
        assert torch.equal(tiled["sem_seg"], whole["sem_seg"])
    if "panoptic_seg" in whole:
        segments, infos = tiled["panoptic_seg"]
        given, its_infos = whole["panoptic_seg"]
        assert len(infos) == len(its_infos)
        assert torch.equal(segments > 0, given > 0)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_several_tiles_whatever_the_batch(method: str, tmp_path: Path) -> None:
    model = eager_to_find(tiny_model(method, opts=SMALL), True)
    item = record(tmp_path, 100, 150)
    results = []
    for batch in (1, 4):
        cfg = tiny_cfg(method, opts=[*SMALL, "TEST.TILE.SIZE", 64, "TEST.TILE.BATCH", batch])
        results.append(TiledModel(model, cfg)([item])[0])
    one, other = (result["instances"] for result in results)
    assert one.image_size == (100, 150)
    assert one.pred_masks.shape == (len(one), 100, 150)
    assert len(one) == len(other) > 0
    torch.testing.assert_close(one.scores, other.scores, atol=1e-4, rtol=0)
    for key in set(results[0]) & {"sem_seg"}:
        torch.testing.assert_close(results[0][key], results[1][key], atol=1e-4, rtol=1e-4)
    for key in set(results[0]) & {"panoptic_seg"}:
        assert results[0][key][0].shape == (100, 150)
        assert results[0][key][1]


def test_another_size_than_the_dataset_says_is_refused(tmp_path: Path) -> None:
    cfg = tiny_cfg(opts=[*SMALL, "TEST.TILE.SIZE", 64])
    item = record(tmp_path, 70, 80) | {"width": 81}
    with pytest.raises(DataError, match="is 70 x 80, but the dataset says 70 x 81"):
        TiledModel(tiny_model(), cfg)([item])


def test_predictor_by_tiles(tmp_path: Path) -> None:
    """The keyword, the keys of the config, a file and an array of it: the same result."""
    tiny_run(tmp_path / "run", "SOLOv2", *SMALL[-2:])
    path = record(tmp_path, 100, 150)["file_name"]
    pixels = np.asarray(Image.open(path))
    whole = Predictor(tmp_path / "run", confidence_threshold=0)(path)
    predict = Predictor(tmp_path / "run", confidence_threshold=0, tile=(64, 16))
    result = predict(path)
    assert result.masks.shape[1:] == result.image.shape[:2] == (100, 150)
    assert len(result) != len(whole)
    again = predict([pixels, Image.open(path)], channels="RGB")
    config = tiny_cfg(
        opts=[*SMALL, "TEST.TILE.SIZE", 64, "MODEL.CLASS_NAMES", ["apple", "pear", "plum"]]
    )
    by_keys = Predictor(
        config, tmp_path / "run" / "model_final.pth", confidence_threshold=0, tile=None
    )
    for other in (*again, by_keys(path)):
        assert np.array_equal(other.masks, result.masks)
        assert np.array_equal(other.scores, result.scores)
    assert result.plot().shape == (100, 150, 3)
    assert len(Predictor(config, tmp_path / "run" / "model_final.pth", tile=0)(path).image) == 100


def evaluation(root: Path, shapes: Path) -> list[str]:
    """Return the words of an evaluation by tiles."""
    weights = root / "model.pth"
    model = eager_to_find(tiny_model(num_classes=5, opts=SMALL), True)
    torch.save({"model": model.state_dict()}, weights)
    name = f"coco_json:{shapes}/annotations/val.json:{shapes}/val"
    keys = ["DATASETS.TEST", (name,), "DATALOADER.NUM_WORKERS", 0, "TEST.TILE.SIZE", 96, *SMALL]
    cfg = tiny_cfg(
        num_classes=5, opts=[*keys, "MODEL.WEIGHTS", str(weights), "OUTPUT_DIR", str(root / "run")]
    )
    write_cfg(root / "tiled.yaml", cfg)
    return ["--config-file", str(root / "tiled.yaml"), "--eval-only"]


def test_evaluation_by_tiles(
    shapes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A window that can't be read leaves the metrics of the rest, and another exit status."""
    words = evaluation(tmp_path, shapes)
    assert main(words) == 0
    results = json.loads((tmp_path / "run/inference/coco_instances_results.json").read_text())
    assert {tuple(one["segmentation"]["size"]) for one in results} == {(96, 128)}
    assert len({one["image_id"] for one in results}) == 8

    real = model_module.open_windows

    def torn(path: str, *args: Any) -> Any:
        windows: Any = real(path, *args)
        if path.endswith("000001.jpg"):
            read = windows.read
            windows.read = lambda window: read(_whole(window))
        return windows

    def _whole(window: Window) -> Window:
        if window.left > 0:
            raise DataError(f"map.tif, {window}: can't be read: it is torn")
        return window

    monkeypatch.setattr(model_module, "open_windows", torn)
    assert main(words) == 2
    printed = capsys.readouterr()
    assert "windows could not be read, and nothing is predicted there: map.tif" in printed.err
    assert "Task: segm" in printed.out
