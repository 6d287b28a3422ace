"""JPEG 2000 of more than 8 bits: training and exported models read the file's very values."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from solo_family.data.loading.images import Reading, read_header, read_image
from solo_family.errors import DataError
from solo_family.export.pictures import read_picture
from solo_family.pictures.formats import parse_format

SIZE = (70, 90)


def values_of(bits: int, channels: int) -> np.ndarray:
    """Returns uint16 [70, 90, C], up to the greatest value of so many bits."""
    y, x, c = np.mgrid[: SIZE[0], : SIZE[1], :channels]
    values = (y * 90 + x + 1000 * c) * ((1 << bits) - 1) / (70 * 90 - 1 + 1000 * (channels - 1))
    return values.astype(np.uint16)


def write_jpeg2000(path: Path, values: np.ndarray, bits: int) -> str:
    """Writes values without loss, as a file whose header says so many bits.

    OpenCV writes 16 bits alone, of which decoders subtract the half of their range. The file has
    another header in the end, and values that are as much higher.
    """
    shift = (1 << 15) - (1 << bits - 1)
    channels = values.shape[2]
    colours = values[:, :, [2, 1, 0, 3][:channels]] if channels > 1 else values
    cv2.imwrite(str(path), np.ascontiguousarray(colours + np.uint16(shift)))
    content = bytearray(path.read_bytes())
    siz, ihdr = content.index(b"\xff\x51"), content.index(b"ihdr")
    content[ihdr + 14] = bits - 1
    for channel in range(channels):
        content[siz + 40 + 3 * channel] = bits - 1
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("bits", [12, 15, 16])
@pytest.mark.parametrize(("channels", "name"), [(1, "L"), (3, "RGB"), (4, "RGBN")])
@pytest.mark.parametrize("in_boxes", [True, False])
def test_values_are_the_files(
    tmp_path: Path, bits: int, channels: int, name: str, in_boxes: bool
) -> None:
    values = values_of(bits, channels)
    path = write_jpeg2000(tmp_path / "x.jp2", values, bits)
    if not in_boxes:
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[content.index(b"\xff\x4f\xff\x51") :])
    top = float((1 << bits) - 1)
    reading = Reading((0, top), image_format=parse_format(name).working.name)
    expected = np.round(values * (255 / top)).astype(np.int64)
    found = read_image(path, name, reading)
    # 0 to 65535 is cut, and other ranges are rounded.
    assert np.abs(found - expected).max() <= (bits == 16)
    exported = read_picture(path, {"color": name, "range": (0, top)})
    assert np.array_equal(exported, read_image(path, reading.image_format, reading))
    header = read_header(path, parse_format(name))
    assert header[:4] == (*SIZE, channels, True)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_untold_range_is_refused_and_the_advice_works(tmp_path: Path, channels: int) -> None:
    path = write_jpeg2000(tmp_path / "x.jp2", values_of(12, channels), 12)
    for read in (lambda: read_image(path, "BGR"), lambda: read_picture(path)):
        with pytest.raises(DataError, match=r'0 to 4095, in 16 bits.*INPUT\.RANGE "\(0, 4095\)"'):
            read()
    assert read_image(path, "BGR", Reading((0.0, 4095.0))).max() == 255


def test_sixteen_bits_need_no_range(tmp_path: Path) -> None:
    path = write_jpeg2000(tmp_path / "x.jp2", values_of(16, 3), 16)
    assert np.array_equal(read_image(path, "RGB"), (values_of(16, 3) >> 8).astype(np.uint8))


def test_a_file_that_is_cut_off_is_told_in_one_line(tmp_path: Path) -> None:
    path = Path(write_jpeg2000(tmp_path / "x.jp2", values_of(12, 3), 12))
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(DataError, match=r"x\.jp2 can't be read as an image"):
        read_image(str(path), "BGR")
