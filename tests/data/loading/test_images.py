from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from solo_family.data.loading.images import read_image, read_image_size
from solo_family.errors import DataError


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
