import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from solo_family.config.check import check_config
from solo_family.config.load import merge_pairs
from solo_family.data.loading import images
from solo_family.data.loading.dataset_mapper import MaskDatasetMapper
from solo_family.data.loading.images import Reading, read_image, read_image_size
from solo_family.errors import ConfigError, DataError

from ...conftest import tiny_cfg


def test_every_kind_of_picture_is_read_in_colour(tmp_path: Path) -> None:
    for mode, suffix in [
        ("L", "png"),
        ("RGBA", "png"),
        ("P", "gif"),
        ("1", "png"),
        ("CMYK", "jpg"),
    ]:
        path = tmp_path / f"{mode}.{suffix}"
        Image.new(mode, (7, 5)).save(path)
        image = read_image(str(path), "BGR")
        assert (image.shape, image.dtype) == ((5, 7, 3), np.uint8)
        assert image.flags["C_CONTIGUOUS"]
        assert image.flags["WRITEABLE"]


def test_channels_are_blue_green_red(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "x.png")
    assert read_image(str(tmp_path / "x.png"), "BGR").tolist() == [[[30, 20, 10]]]


def test_an_exif_rotated_picture_is_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "x.jpg", exif=exif)
    assert read_image(str(tmp_path / "x.jpg"), "BGR").shape == (8, 6, 3)


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp", "x.tif"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_the_header_has_the_size_that_is_read(
    name: str, orientation: int | None, tmp_path: Path
) -> None:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    path = str(tmp_path / name)
    Image.new("RGB", (8, 6)).save(path, exif=exif)
    assert read_image_size(path) == read_image(path, "BGR").shape[:2]
    assert read_image_size(path) == ((8, 6) if orientation in (6, 8) else (6, 8))


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bits_are_scaled_to_8(tmp_path: Path, order: str) -> None:
    pixels = np.array([[0, 257 * 7, 257 * 200, 65535]], f"{order}u2")
    Image.fromarray(pixels).save(tmp_path / "x.tif")
    assert read_image(str(tmp_path / "x.tif"), "RGB")[..., 0].tolist() == [[0, 7, 200, 255]]


def test_unreadable_pictures_name_the_file(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:1500])
    (tmp_path / "text.png").write_text("not a picture")
    for name in ("cut.jpg", "text.png", "missing.png"):
        with pytest.raises(DataError, match=name):
            read_image(str(tmp_path / name), "BGR")
    for name in ("text.png", "missing.png"):  # the header of the other is whole
        with pytest.raises(DataError, match=f"{name} can't be read as an image"):
            read_image_size(str(tmp_path / name))


def suggested(error: Exception) -> list[str]:
    """The key and the value that a message ends with."""
    key, value = re.findall(r'(INPUT\.\w+) "?([^"]+)"?$', str(error))[0]
    return [key, value]


def reading_of(*opts: str) -> Reading:
    cfg = tiny_cfg()
    merge_pairs(cfg, opts)
    check_config(cfg)
    return Reading.from_config(cfg)


SCENE = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.float64)
SCENE[0, :2] = 0, 255
# The scene as instruments store it; whether that can be told.
CONTAINERS = {
    "12 bits in 16, PNG": (SCENE * 4095 / 255, np.uint16, "x.png", False),
    "12 bits in 16, TIFF": (SCENE * 4095 / 255, np.uint16, "x.tif", False),
    "16 bits": (SCENE * 257, np.uint16, "x.png", True),
    "int32": (SCENE * 4095 / 255, np.int32, "x.tif", False),
    "8 bits in 16": (SCENE, np.uint16, "x.tif", False),
    "fractions": (SCENE / 255, np.float32, "x.tif", True),
    "counts, below 0 too": (SCENE * 7 - 300, np.float32, "x.tif", False),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_deep_pictures_show_the_scene_or_say_which_key_does(container: str, tmp_path: Path) -> None:
    values, dtype, name, is_told = CONTAINERS[container]
    path = str(tmp_path / name)
    Image.fromarray(values.round(0 if dtype != np.float32 else 9).astype(dtype)).save(path)
    reading = reading_of()
    if not is_told:
        with pytest.raises(DataError, match="Their range can't be inferred") as error:
            read_image(path, "RGB", reading)
        reading = reading_of(*suggested(error.value))
    image = read_image(path, "RGB", reading)
    assert np.abs(image[..., 0] - SCENE).max() <= 1
    mapper = MaskDatasetMapper(tiny_cfg(), is_train=False)
    assert mapper._reading == reading_of() == Reading()


@pytest.mark.parametrize("value", ["(5, 5)", "(1,)", "16", "'bits'"])
def test_a_range_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"INPUT\.RANGE is .*allowed: 'auto'"):
        reading_of("INPUT.RANGE", value)


def test_a_black_picture_is_black(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "x.png")
    assert not read_image(str(tmp_path / "x.png"), "RGB").any()


def test_a_huge_picture_is_opened_when_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MOST_PIXELS", 1000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    path = str(tmp_path / "x.png")
    Image.new("1", (60, 50)).save(path)
    assert read_image_size(path) == (50, 60)
    with pytest.raises(DataError, match="has 50 x 60 pixels, and files of more than 1000") as error:
        read_image(path, "RGB", reading_of())
    assert read_image(path, "RGB", reading_of(*suggested(error.value))).shape == (50, 60, 3)
    assert Image.MAX_IMAGE_PIXELS == 400


def test_pages_that_are_not_read_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pages = [Image.new("L", (8, 6), shade) for shade in (10, 20, 30)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    for _ in range(2):
        assert read_image(str(tmp_path / "x.tif"), "RGB").max() == 10
    assert caplog.text.count("x.tif has 3 pages: only the first one is read") == 1
