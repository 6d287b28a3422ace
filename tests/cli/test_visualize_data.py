from pathlib import Path

import cv2
import numpy as np
import pytest

from solo_family.__main__ import main
from solo_family.model_zoo import get_config_file

RED = np.array([255, 56, 56])  # RGB of the first object


def draw(
    shapes: Path,
    output: Path,
    *words: str,
    config: str = "quickstart/solo.yaml",
    opts: tuple[str, ...] = (),
) -> int:
    train = f"('coco_json:{shapes}/annotations/train.json:{shapes}/train',)"
    return main(
        [
            *("visualize-data", "--config-file", get_config_file(config)),
            *("--output", str(output), *words, "--opts", "DATASETS.TRAIN", train, *opts),
        ]
    )


def test_images_and_their_masks_are_drawn(shapes: Path, tmp_path: Path) -> None:
    assert draw(shapes, tmp_path, "--num-images", "3") == 0
    names = sorted(path.name for path in (shapes / "train").iterdir())[:3]
    assert sorted(path.stem for path in tmp_path.iterdir()) == [Path(n).stem for n in names]
    for file in tmp_path.iterdir():
        assert cv2.imread(str(file)).std() > 10


@pytest.mark.parametrize(
    "config", ["quickstart/solo.yaml", "quickstart/decoupled_solo.yaml", "quickstart/solov2.yaml"]
)
def test_the_cells_of_every_level_are_drawn_side_by_side(
    shapes: Path, tmp_path: Path, config: str
) -> None:
    assert draw(shapes, tmp_path, "--targets", "--num-images", "6", config=config) == 0
    found = 0
    for file in tmp_path.iterdir():
        picture = cv2.imread(str(file))[:, :, ::-1].astype(int)
        # Five levels, each the padded image and 6 pixels of border, under 24 pixels of title.
        height, width = picture.shape[0] - 24, picture.shape[1] // 5 - 6
        assert picture.shape[1] % 5 == height % 32 == width % 32 == 0
        panels = np.split(picture, 5, axis=1)
        full = [(np.abs(panel - RED).max(2) <= 2).sum() for panel in panels]
        found += sum(pixels > 0 for pixels in full)
    assert found >= 4  # the first objects of most of these images, in one or two levels each


def test_cells_of_a_reference_size_are_drawn_as_large_as_they_are(
    shapes: Path, tmp_path: Path
) -> None:
    """A quarter of the published ones' sides: no more than a sixteenth of their pixels, twice."""
    coloured = []
    for reference in ("()", "(64, 64)"):
        output = tmp_path / reference
        words = ("--targets", "--num-images", "4")
        opts = ("MODEL.SOLOV2.GRID_REFERENCE_SIZE", reference)
        assert draw(shapes, output, *words, config="quickstart/solov2.yaml", opts=opts) == 0
        pictures = [cv2.imread(str(file))[:, :, ::-1].astype(int) for file in output.iterdir()]
        coloured.append(sum(int((np.abs(p - RED).max(2) <= 2).sum()) for p in pictures))
    assert 0 < coloured[1] < coloured[0] / 2


def test_a_method_without_a_grid_is_refused(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = tmp_path / "rcnn.yaml"
    config.write_text('MODEL:\n  META_ARCHITECTURE: "GeneralizedRCNN"\n')
    status = main(["visualize-data", "--config-file", str(config), "--targets"])
    assert status == 2
    assert "GeneralizedRCNN has no grid" in capsys.readouterr().err
