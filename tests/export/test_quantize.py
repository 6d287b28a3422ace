"""What 8 bits may lose."""

import math
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from solo_family.errors import SoloFamilyError
from solo_family.export.quantize import _Pictures, instance_agreement
from solo_family.export.results import PredictedInstances, Prediction, Sizes
from solo_family.export.runtime import ExportedModel, read_image
from solo_family.export.self_check import check_agreement
from solo_family.export.write import Options, export_model

from ..conftest import eager_to_find, tiny_cfg, tiny_model
from .exporting import METADATA, SMALL, picture_of


class Finds:
    """In the place of an exported model: finds the same in every picture."""

    def __init__(self, *objects: tuple[float, int, slice]) -> None:
        self.objects = objects

    def read(self, path: Path) -> np.ndarray:
        return read_image(path)

    def preprocess(self, picture: np.ndarray) -> tuple[np.ndarray, Sizes]:
        size = (picture.shape[0], picture.shape[1])
        return picture[None], Sizes(size, size, size)

    def forward(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return {"images": images}

    def postprocess(self, outputs: dict[str, np.ndarray], sizes: Sizes) -> Prediction:
        masks = np.zeros((len(self.objects), *sizes.output), bool)
        for mask, (_, _, columns) in zip(masks, self.objects):
            mask[:, columns] = True
        scores = np.array([score for score, _, _ in self.objects], np.float32)
        return Prediction(
            PredictedInstances(scores, np.array([c for _, c, _ in self.objects], int), masks)
        )


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "picture.png"), picture_of((64, 96)))
    return tmp_path / "picture.png"


LEFT, HALF, MORE = slice(0, 8), slice(0, 4), slice(0, 5)


@pytest.mark.parametrize(
    ("found", "share"),
    [
        ([(0.1, 0, LEFT)], 0.5),
        ([(0.9, 1, LEFT)], 0.0),  # of another class
        ([(0.9, 0, HALF)], 0.0),  # IoU 0.5
        ([(0.9, 0, MORE)], 0.5),
        ([(0.9, 0, MORE), (0.5, 2, slice(8, 24))], 1.0),
        ([], 0.0),
    ],
)
def test_the_share_of_instances_that_are_found_again(
    found: list, share: float, picture: Path
) -> None:
    """The last of three has too low a score to be looked for."""
    reference = Finds((0.9, 0, LEFT), (0.5, 2, slice(8, 24)), (0.2, 1, HALF))
    assert instance_agreement(reference, Finds(*found), [picture, picture]) == share  # type: ignore[arg-type]


def test_where_nothing_was_found_nothing_is_known(picture: Path) -> None:
    assert math.isnan(instance_agreement(Finds(), Finds(), [picture]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (0.69, "predicts 69% of the float32 model's instances in the calibration images"),
        (math.nan, "the model predicts no instances in these images"),
    ],
)
def test_too_few_of_them_fail(share: float, message: str) -> None:
    with pytest.raises(SoloFamilyError, match=message):
        check_agreement(share)
    check_agreement(0.7)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_a_model_that_8_bits_ruin_is_not_written(
    scale: float, picture: Path, tmp_path: Path
) -> None:
    """One channel is made so wide, without a change of what is found, that others round to 0."""
    cfg = tiny_cfg("SparseInst", opts=SMALL)
    model = eager_to_find(tiny_model("SparseInst", opts=SMALL))
    fusion, decoder = model.encoder.fusion, model.decoder
    with torch.no_grad():
        fusion.weight[0] *= scale
        fusion.bias[0] *= scale
        for branch in (decoder.mask_branch, decoder.instance_branch):
            branch.convs[0].weight[:, 2] /= scale  # after x and y
    folder, options = tmp_path / "exports" / "int8", Options(calibration=(picture,))
    if scale == 1:
        assert export_model(model, cfg, METADATA, folder, options)["instance_agreement"] >= 0.7
        return
    with pytest.raises(SoloFamilyError, match="of the float32 model's instances") as error:
        export_model(model, cfg, METADATA, folder, options)
    assert len(str(error.value).splitlines()) == 1
    assert list(folder.parent.iterdir()) == []


def test_calibration_reads_files_with_the_range_of_training(tmp_path: Path) -> None:
    values = np.arange(0, 4096, 256).astype(np.uint16).reshape(4, 4)
    cv2.imwrite(str(tmp_path / "12_bits.png"), values)
    model = ExportedModel.__new__(ExportedModel)
    size = {"min_size": 0, "max_size": 9, "size": None, "divisibility": 1, "batch_size": 1}
    given = {"color": "RGB", "range": [0, 4095], "pad_value": [0, 0, 0], **size}
    model.description, model.thresholds = {"input": given}, {}
    model.engine = SimpleNamespace(inputs=["images"])
    fed = _Pictures(model, [tmp_path / "12_bits.png"]).get_next()
    assert fed is not None
    assert np.array_equal(fed["images"][0], np.round(values / 4095 * 255)[None].repeat(3, axis=0))
