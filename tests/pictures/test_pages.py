"""Pages of TIFFs are read as files of their own would be."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from solo_family.data.loading.images import Reading, read_image
from solo_family.data.loading.windows import open_windows, read_whole
from solo_family.errors import DataError
from solo_family.pictures.formats import parse_format
from solo_family.pictures.pages import picture_pages


def pages(mode: str) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    if mode == "I;16":
        values = [generator.integers(0, 65536, (6, 8), np.uint16) for _ in range(3)]
    else:
        values = [generator.integers(0, 256, (6, 8, 3), np.uint8) for _ in range(3)]
    return [Image.fromarray(one) for one in values]


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_a_page_is_what_a_file_of_it_alone_is(tmp_path: Path, mode: str) -> None:
    images = pages(mode)
    images[0].save(tmp_path / "all.tif", save_all=True, append_images=images[1:])
    assert picture_pages(str(tmp_path / "all.tif"), parse_format("BGR")) == [1, 2, 3]
    for number, image in enumerate(images, start=1):
        image.save(tmp_path / "one.tif")
        alone = read_image(str(tmp_path / "one.tif"), "BGR")
        reading = Reading().of_page(number)
        path = str(tmp_path / "all.tif")
        np.testing.assert_array_equal(read_image(path, "BGR", reading), alone)
        np.testing.assert_array_equal(read_whole(open_windows(path, "BGR", reading)), alone)
    with pytest.raises(DataError, match=r"all\.tif can't be read as an image"):
        read_image(str(tmp_path / "all.tif"), "BGR", Reading(page=4))


# The beginning of JPEG 2000, up to the number of bands.
JPEG2000 = b"\xff\x4f\xff\x51" + bytes(36)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%PDF-1.7\n%\xe2\xe3", "it is a PDF; make pictures of its pages"),
        (b"<?xml version='1.0'?>\n<svg xmlns=''/>", "it is an SVG"),
        (b"\xef\xbb\xbf<!DOCTYPE html><html>", "it is a page of HTML"),
        (b"\0\0\0\x18ftypheic\0\0", "it is a HEIC picture"),
        (b"\0\0\0\x18ftypavif\0\0", "it is a broken AVIF picture; export or copy it again"),
        (b"\0\0\0\x18ftypisom\0\0", "it is a video"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (
            "größe 1.jpg\nb.jpg\n".encode(),
            "it is text; demo takes a list of files as --input @FILE",
        ),
        (b"", "the file is empty"),
        (JPEG2000 + b"\0\5", "its header is cut off"),
        (JPEG2000 + b"\0\x09" + b"\x0f\1\1" * 9, "JPEG 2000 with 9 bands, and at most 4"),
        (b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\0ftyp", "it has no pixels"),
        (b"\x89PNG\r\n\x1a\n\0\0", "can't be read as an image: cannot identify"),
    ],
)
def test_what_is_no_picture_is_told_in_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_image(str(tmp_path / "x.jpg"), "BGR")
    assert "\n" not in str(error.value)
