"""Models of other channels than three, the whole way: training, evaluation, results, export."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from PIL import Image

from solo_family import METHODS, Predictor
from solo_family.cli import demo as demo_verb
from solo_family.config import setup_cfg
from solo_family.data.loading.dataset_mapper import MaskDatasetMapper
from solo_family.data.loading.images import read_image
from solo_family.engine.main import main as train
from solo_family.export.runtime import ExportedModel
from solo_family.export.write import Options, export_model

from .coco_folder import CocoFolder, rectangle, run_cfg, write_cfg
from .conftest import assert_finite_gradients, picture, tiny_cfg, tiny_model

SLOW = pytest.mark.slow
FORMATS = {"L": 1, "RGBA": 4, "RGBN": 4, "5ch": 5}


def statistics(name: str) -> list[Any]:
    count = FORMATS[name]
    values = ["MODEL.PIXEL_MEAN", [100.0] * count, "MODEL.PIXEL_STD", [50.0] * count]
    return ["INPUT.FORMAT", name, *values]


def of_channels(item: dict[str, Any], count: int) -> dict[str, Any]:
    image = item["image"].repeat(2, 1, 1)[:count]
    return item | {"image": image}


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("name", ["L", "5ch"])
def test_every_method_trains_and_predicts(method: str, name: str) -> None:
    model = tiny_model(method, opts=statistics(name))
    batch = [of_channels(picture(seed=seed), FORMATS[name]) for seed in range(2)]
    assert_finite_gradients(model, model(batch))
    with torch.no_grad():
        results = model.eval()(batch)
    assert len(results) == 2


@pytest.mark.parametrize(
    "method",
    [name if name == "SparseInst" else pytest.param(name, marks=SLOW) for name in sorted(METHODS)],
)
def test_every_method_is_exported_and_runs_as_it_did(method: str, tmp_path: Path) -> None:
    """`export_model` compares the two, of whose input it makes pictures of five channels."""
    opts = [*statistics("5ch"), "INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 96]
    cfg = tiny_cfg(method, opts=opts)
    model = tiny_model(method, opts=opts).eval()
    description = export_model(model, cfg, tiny_metadata(), tmp_path / "exported", Options())
    assert len(description["input"]["pad_value"]) == 5
    session = ExportedModel(tmp_path / "exported")
    engine: Any = session.engine
    assert engine._session.get_inputs()[0].shape[1] == 5
    session(np.zeros((40, 50, 5), np.uint8))


def tiny_metadata() -> Any:
    from detectron2.data import Metadata

    return Metadata(thing_classes=["a", "b", "c"])


def values(name: str, seed: int) -> np.ndarray:
    """A scene of noise with a bright rectangle: uint8 [48, 64, C]."""
    noise = np.random.default_rng(seed).integers(0, 60, (48, 64, FORMATS[name]), np.uint8)
    noise[8:32, 5 + seed : 25 + seed] += 150
    return noise


def save(path: Path, image: np.ndarray, name: str) -> Path:
    """Writes an image in the format's usual container."""
    if name == "5ch":
        np.save(path.with_suffix(".npy"), image)
        return path.with_suffix(".npy")
    mode = "L" if name == "L" else "RGBA"
    Image.fromarray(image.squeeze(), mode).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


@pytest.fixture(
    scope="module",
    params=["5ch", *(pytest.param(name, marks=SLOW) for name in ("L", "RGBA", "RGBN"))],
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on such a dataset, with a config file."""
    name = request.param
    root = tmp_path_factory.mktemp(f"channels_{name}")
    folder = CocoFolder(root / "data", {1: "cat"})
    for seed in range(2):
        file = save(root / "data" / "images" / str(seed), values(name, seed), name)
        folder.content["images"].append(
            {"id": seed + 1, "file_name": file.name, "height": 48, "width": 64}
        )
        ids = {"id": seed + 1, "image_id": seed + 1}
        folder.content["annotations"].append(ids | rectangle(5 + seed, 8, 20, 24))
    folder.write()
    opts = [*statistics(name), "SOLVER.MAX_ITER", 1, "INPUT.MAX_SIZE_TEST", 64]
    cfg = run_cfg(folder.name, root / "run", *opts, test=folder.name)
    write_cfg(root / "config.yaml", cfg)
    return root


def loaded(run: Path) -> CfgNode:
    return setup_cfg(str(run / "config.yaml"))


def test_training_reads_the_files_own_values(run: Path) -> None:
    cfg = loaded(run)
    name = cfg.INPUT.FORMAT
    from solo_family.data.formats.register import check_datasets

    check_datasets(cfg.DATASETS.TRAIN)
    record = DatasetCatalog.get(cfg.DATASETS.TRAIN[0])[0]
    mapped = MaskDatasetMapper(cfg, is_train=True)(record)
    assert np.array_equal(mapped["image"].permute(1, 2, 0).numpy(), values(name, 0))
    assert np.array_equal(read_image(record["file_name"], name), values(name, 0))


def test_training_evaluates_and_demo_draws(run: Path) -> None:
    assert train(["--config-file", str(run / "config.yaml")]) == 0
    results = json.loads((run / "run" / "metrics.json").read_text().splitlines()[-1])
    assert "segm/AP" in results
    words = ["--config-file", str(run / "run" / "config.yaml"), "--output", str(run / "drawn")]
    words += ["--input", str(run / "data" / "images"), "--confidence-threshold", "0"]
    weights = ["--opts", "MODEL.WEIGHTS", str(run / "run" / "model_final.pth")]
    assert verb(demo_verb, [*words, *weights]) == 0
    for drawn in (run / "drawn").iterdir():
        assert np.asarray(Image.open(drawn)).shape == (48, 64, 3)


def verb(module: Any, words: list[str]) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.run(parser.parse_args(words))


@pytest.mark.slow
def test_files_arrays_and_exported_models_give_the_same(run: Path, tmp_path: Path) -> None:
    cfg = loaded(run)
    name = cfg.INPUT.FORMAT
    torch.manual_seed(0)
    cfg.MODEL.SOLOV2.NUM_CLASSES = 1
    cfg.MODEL.INFERENCE.OPTIMIZE = "off"  # the model itself is saved and exported
    from solo_family.predictor.load import load_predictor

    weights = load_predictor(cfg).model
    torch.save({"model": weights.state_dict()}, tmp_path / "model.pth")
    predict = Predictor(cfg, tmp_path / "model.pth", confidence_threshold=0.0)
    (file, *_) = sorted((run / "data" / "images").iterdir())
    expected = predict(file)
    assert len(expected) > 0
    channels = "RGB" if name == "RGBA" else None
    array = values(name, 0)
    assert np.array_equal(predict(array, channels=channels).masks, expected.masks)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    if name != "RGBA":
        assert np.array_equal(predict(tensor, channels="RGB").masks, expected.masks)
    export_model(weights, cfg, tiny_metadata(), tmp_path / "exported", Options())
    exported = ExportedModel(tmp_path / "exported")
    found = exported(exported.read(file)).instances
    assert found is not None
    assert np.allclose(found.scores, expected.scores, atol=1e-4)
    with_exported = Predictor(tmp_path / "exported", confidence_threshold=0.0)(file)
    assert np.allclose(with_exported.scores, expected.scores, atol=1e-4)
