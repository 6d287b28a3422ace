"""Files of more channels and bits than pictures have: training and exports read the same."""

import re
import shlex
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from detectron2.data import transforms as T
from PIL import Image

from solo_family.data.checks import findings
from solo_family.data.checks.dataset_check import check_coco_dataset
from solo_family.data.loading.augmentation import AtLeastOnePixel
from solo_family.data.loading.images import Reading, read_header, read_image
from solo_family.errors import DataError
from solo_family.export.pictures import read_picture
from solo_family.pictures.formats import parse_format

from ...coco_folder import CocoFolder, rectangle
from ...pictures import FILES, scene

TWELVE = (0.0, 4095.0)


def make(name: str, folder: Path) -> str:
    """Writes a file, or returns one that is there, and returns its path."""
    path = folder / name
    if (FILES / name).is_file():
        return str(FILES / name)
    if name == "u16_rgb.png":
        cv2.imwrite(str(path), np.ascontiguousarray(scene(3, "u2", 20)[:, :, ::-1]))
    elif name == "full_rgb.png":
        cv2.imwrite(str(path), np.ascontiguousarray(scene(3, "u2", 327)[:, :, ::-1]))
    elif name == "u16_grey.png":
        cv2.imwrite(str(path), scene(1, "u2", 20))
    elif name.endswith(".npy"):
        np.save(path, scene(int(name[0])))
    else:
        channels = {"L": 1, "RGB": 3, "RGBA": 4}[path.stem]
        Image.fromarray(scene(channels).squeeze(), path.stem).save(path)
    return str(path)


def in_8_bits(channels: int, high: float, factor: float) -> np.ndarray:
    """The definition of INPUT.RANGE (0, high)."""
    exact = scene(channels, "f8", factor)
    return np.clip(np.round(exact * 255 / high), 0, 255).astype(np.uint8)


# The file, INPUT.FORMAT, INPUT.RANGE, and what is read.
READ: list[tuple[str, str, Any, np.ndarray]] = [
    ("u8_5.tif", "5ch", None, scene(5)),
    ("u8_5_pages.tif", "5ch", None, scene(5)),
    ("u16_5_deflate.tif", "5ch", TWELVE, in_8_bits(5, 4095, 20)),
    ("i32_5_big.tif", "5ch", TWELVE, in_8_bits(5, 4095, 20)),
    ("u16_4_tiles.tif", "RGBN", TWELVE, in_8_bits(4, 4095, 20)),
    ("f32_6_deflate.tif", "6ch", None, scene(6, "f4", 1 / 199)),
    ("u16_rgb.tif", "RGB", TWELVE, in_8_bits(3, 4095, 20)),
    ("u16_rgba.tif", "RGB", TWELVE, in_8_bits(3, 4095, 20)),
    ("u16_rgba.tif", "RGBA", TWELVE, in_8_bits(4, 4095, 20)),
    ("u16_rgb.png", "RGB", TWELVE, in_8_bits(3, 4095, 20)),
    ("u16_grey.png", "L", TWELVE, in_8_bits(1, 4095, 20)),
    ("full_rgb.png", "RGB", None, (scene(3, "u2", 327) >> 8).astype(np.uint8)),
    ("RGB.jp2", "RGB", None, scene(3)),
    ("RGBA.jp2", "RGBA", None, scene(4)),
    ("L.jp2", "L", None, scene(1)),
    ("L.jp2", "RGB", None, scene(1).repeat(3, axis=2)),
    ("u8_rgbn.tif", "RGBN", None, scene(4)),
    ("u8_rgbn.tif", "RGB", None, scene(3)),
    ("5.npy", "5ch", None, scene(5)),
    ("3.npy", "RGB", None, scene(3)),
    ("RGB.png", "RGB", None, scene(3)),
    ("RGBA.png", "RGBA", None, scene(4)),
    ("RGBA.png", "4ch", None, scene(4)),
    ("RGBA.png", "RGB", None, scene(3)),
    ("L.png", "L", None, scene(1)),
    ("L.png", "RGB", None, scene(1).repeat(3, axis=2)),
]


@pytest.mark.parametrize(("name", "image_format", "given", "expected"), READ)
def test_training_and_exported_models_read_the_same(
    name: str, image_format: str, given: Any, expected: np.ndarray, tmp_path: Path
) -> None:
    if expected.dtype != np.uint8:  # fractions
        expected = np.round(expected.astype(np.float64) * 255).astype(np.uint8)
    path = make(name, tmp_path)
    reading = Reading(given, image_format=parse_format(image_format).working.name)
    found = read_image(path, image_format, reading)
    assert np.array_equal(found, expected)
    assert found.flags["WRITEABLE"]
    assert found.flags["C_CONTIGUOUS"]
    exported = read_picture(path, {"color": image_format, "range": given})
    assert np.array_equal(exported, read_image(path, reading.image_format, reading))
    header = read_header(path, parse_format(image_format))
    assert header[:2] == found.shape[:2]
    assert header.is_deep == ("16" in name or "32" in name or "full" in name)


@pytest.mark.parametrize("name", ["u16_rgb.png", "u16_rgb.tif", "u16_grey.png"])
@pytest.mark.parametrize("read", ["training", "export"])
def test_colours_of_an_untold_range_are_refused_and_the_advice_works(
    name: str, read: str, tmp_path: Path
) -> None:
    path = make(name, tmp_path)
    with pytest.raises(DataError, match="0 to 3980, in 16 bits") as error:
        read_image(path, "RGB") if read == "training" else read_picture(path)
    (low, high) = re.findall(r"\((\d+), (\d+)\)", str(error.value))[0]
    given = (float(low), float(high))
    count = 1 if "grey" in name else 3
    expected = in_8_bits(count, 4095, 20).repeat(3 // count, axis=2)
    assert np.array_equal(read_image(path, "RGB", Reading(given)), expected)


def test_a_fourth_band_that_is_no_transparency_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes((FILES / "u8_rgbn.tif").read_bytes())
    for _ in range(2):
        read_image(str(path), "RGB")
    assert caplog.text.count("x.tif has a fourth band that is no transparency") == 1
    caplog.clear()
    Image.new("CMYK", (8, 6), (10, 60, 0, 90)).save(tmp_path / "cmyk.tif")
    assert tuple(read_image(str(tmp_path / "cmyk.tif"), "RGB")[0, 0]) == (159, 126, 165)
    assert caplog.text == ""


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_every_channel_is_resized_by_itself(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 29, channels), np.uint8)
    image[:, :, -1] = 0  # Pillow would take it for transparency, and lose the others
    resize = AtLeastOnePixel(T.ResizeShortestEdge(20, 100)).get_transform(image)
    found = resize.apply_image(image)
    for channel in range(channels):
        one = Image.fromarray(image[:, :, channel]).resize((20, 26), Image.Resampling.BILINEAR)
        assert np.array_equal(found[:, :, channel], np.asarray(one))


def test_check_data_names_files_of_other_channels_and_the_advice_works(tmp_path: Path) -> None:
    folder = CocoFolder(tmp_path, {1: "cat"})
    for number, name in enumerate(("3.npy", "5.npy"), start=1):
        make(name, tmp_path / "images")
        folder.content["images"].append(
            {"id": number, "file_name": name, "height": 37, "width": 29}
        )
        ids = {"id": number, "image_id": number}
        folder.content["annotations"].append(ids | rectangle(2, 2, 9 + number, 9))
    folder.write()
    words = [str(folder.json), str(tmp_path / "images")]
    assert check_coco_dataset(*words).found[findings.OTHER_CHANNELS] == ["5.npy: 5"]
    five = check_coco_dataset(*words, reading=Reading(image_format="5ch"))
    assert five.found[findings.OTHER_CHANNELS] == ["3.npy: 3"]


def test_a_message_names_what_to_set(tmp_path: Path) -> None:
    path = make("5.npy", tmp_path)
    with pytest.raises(DataError, match=r"has 5 channels, but INPUT\.FORMAT RGB is of 3") as error:
        read_image(path, "RGB")
    words = shlex.split(str(error.value).partition("Set ")[2])
    assert words[0] == "INPUT.FORMAT"
    assert read_image(path, words[1]).shape == (37, 29, 5)
