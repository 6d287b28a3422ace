from pathlib import Path

import cv2
import numpy as np
import pytest

from solo_family.__main__ import main
from solo_family.cli import visualize_data
from solo_family.config import setup_cfg
from solo_family.data.loading.loader import build_train_loader
from solo_family.data.loading.sampler import Draw
from solo_family.model_zoo import get_config_file

from ..coco_folder import CocoFolder, noise, rectangle
from ..data.segments import write_panoptic, write_semantic

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


def test_images_of_the_same_name_in_several_folders_are_all_drawn(tmp_path: Path) -> None:
    folder = CocoFolder(tmp_path / "data", {1: "box"})
    for number, name in enumerate(("monday/1.png", "tuesday/1.png", "tuesday/1.jpg")):
        (folder.root / "images" / name).parent.mkdir(exist_ok=True)
        folder.add(name, noise(48, 64, seed=number), [rectangle(5, 5, 20, 30)])
    words = ["--config-file", get_config_file("quickstart/solo.yaml"), "--output"]
    opts = ["--opts", "DATASETS.TRAIN", str((folder.write(),)), "MODEL.SOLO.NUM_CLASSES", "0"]
    for _ in range(2):  # a second start replaces the pictures of the first
        assert main(["visualize-data", *words, str(tmp_path / "out"), *opts]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("1.png", "1_2.png", "1_3.png")
    ]


@pytest.mark.parametrize(
    "config",
    [
        pytest.param("quickstart/solo.yaml", marks=pytest.mark.slow),
        pytest.param("quickstart/decoupled_solo.yaml", marks=pytest.mark.slow),
        "quickstart/solov2.yaml",
    ],
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


@pytest.mark.parametrize("kind", [pytest.param("semantic", marks=pytest.mark.slow), "panoptic"])
def test_labels_are_drawn_on_what_the_training_loader_gives(tmp_path: Path, kind: str) -> None:
    """Augmented by the same draws; every class of semantic labels has one colour."""
    root = tmp_path / "data"
    name = write_semantic(root) if kind == "semantic" else write_panoptic(root)[0]
    config = get_config_file(f"quickstart/mask_former_{kind}.yaml")
    size = ["INPUT.MIN_SIZE_TRAIN", "(480,)", "INPUT.MAX_SIZE_TRAIN", "800"]
    opts = ["DATASETS.TRAIN", f"('{name}',)", "SEED", "5", "MODEL.TIMM.WEIGHTS", "", *size]
    command = ["visualize-data", "--config-file", config, "--output", str(tmp_path / "out")]
    assert main([*command, "--opts", *opts]) == 0
    cfg = setup_cfg(config, opts)
    images = build_train_loader(cfg)[0].dataset
    given = images[Draw(0, 0, 5)]
    file = tmp_path / "out" / f"{Path(given['file_name']).stem}.png"
    drawn = cv2.imread(str(file))[:, :, :: 1 if cfg.INPUT.FORMAT == "BGR" else -1]
    plain = given["image"].permute(1, 2, 0).numpy()
    assert len(given["instances"]) > 1
    for index, mask in enumerate(given["instances"].gt_masks.tensor.numpy()):
        # Half the colour, half the image, but for the text of the label and the outline.
        colour = np.median(2.0 * drawn[mask] - plain[mask], axis=0)
        label = int(given["instances"].gt_classes[index]) if kind == "semantic" else index
        assert np.abs(colour - visualize_data._colour(label)).max() < 12


def test_a_method_without_a_grid_is_refused(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = tmp_path / "rcnn.yaml"
    config.write_text('MODEL:\n  META_ARCHITECTURE: "GeneralizedRCNN"\n')
    status = main(["visualize-data", "--config-file", str(config), "--targets"])
    assert status == 2
    assert "GeneralizedRCNN has no grid" in capsys.readouterr().err
