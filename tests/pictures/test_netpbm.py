"""PGM and PPM of any white: training, exported models and labels read the numbers in the file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from solo_family.data.formats.label_maps import read_labels
from solo_family.data.loading.images import Reading, read_header, read_image
from solo_family.errors import DataError
from solo_family.export.pictures import read_picture
from solo_family.pictures.formats import parse_format

SIZE = (20, 30)
COMMENT = b"# of a camera\n"


def values_of(white: int, channels: int = 1) -> np.ndarray:
    """Returns [20, 30, C] of 0 to the white."""
    generator = np.random.default_rng(white)
    values = generator.integers(0, white + 1, (*SIZE, channels))
    values[0, 0], values[0, 1] = 0, white
    return values


def write(path: Path, values: np.ndarray, white: int, *, text: bool = False) -> str:
    kind = {1: 5, 3: 6}[values.shape[2]] - 3 * text
    header = f"P{kind}\n".encode() + COMMENT + f"{SIZE[1]} {SIZE[0]}\n{white}\n".encode()
    if text:
        content = COMMENT + b"\n".join(str(value).encode() for value in values.ravel()) + b"\n"
    else:
        content = values.astype(">u2" if white > 255 else "u1").tobytes()
    path.write_bytes(header + content)
    return str(path)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("white", [1, 11, 99, 255, 300, 1023, 4095, 65535])
@pytest.mark.parametrize(("channels", "name"), [(1, "L"), (1, "BGR"), (3, "RGB")])
def test_the_header_says_what_is_white(
    tmp_path: Path, white: int, channels: int, name: str, text: bool
) -> None:
    values = values_of(white, channels)
    path = write(tmp_path / "x.pnm", values, white, text=text)
    expected = values * (255 / white)
    if name == "BGR":
        expected = np.repeat(expected, 3, axis=2)
    found = read_image(path, name)
    assert found.shape == expected.shape
    # Grey of 16 bits is cut, and everything else is rounded.
    assert np.abs(found - expected).max() <= (1 if white == 65535 else 0.5 + 1e-9)
    header = read_header(path, parse_format(name))
    assert header[:2] == SIZE
    assert header.is_deep == (white > 255)
    exported = read_picture(path, {"color": name})
    assert np.array_equal(exported, found[:, :, ::-1] if name == "RGB" else found)


def test_colours_are_as_detectron2_reads_them(tmp_path: Path) -> None:
    for white in (99, 4095, 65535):
        path = write(tmp_path / f"{white}.ppm", values_of(white, 3), white)
        assert np.array_equal(read_image(path, "RGB"), np.asarray(Image.open(path)))


def test_a_range_is_of_the_files_own_numbers(tmp_path: Path) -> None:
    values = values_of(4095)
    path = write(tmp_path / "x.pgm", values, 4095)
    expected = ((values - 1000.0) / 2000 * 255).round().clip(0, 255)
    found = read_image(path, "L", Reading((1000, 3000), image_format="L"))
    assert np.array_equal(found, expected)
    assert np.array_equal(read_picture(path, {"color": "L", "range": (1000, 3000)}), expected)


@pytest.mark.parametrize("white", [11, 255, 300])
def test_labels_are_not_scaled(tmp_path: Path, white: int) -> None:
    labels = values_of(11)
    path = write(tmp_path / "x.pgm", labels, white)
    assert np.array_equal(read_labels(path, 12), labels[:, :, 0])


@pytest.mark.parametrize("white", [99, 4095])
@pytest.mark.parametrize("text", [False, True])
def test_broken_files_are_one_line(tmp_path: Path, white: int, text: bool) -> None:
    values = values_of(white)
    path = write(tmp_path / "short.pgm", values[:-1], white, text=text)
    with pytest.raises(DataError, match=r"short.pgm can't be read.* it has 570 of 600 values"):
        read_image(path, "L")
    values[3, 4] = white + 5
    path = write(tmp_path / "high.pgm", values, white, text=text)
    with pytest.raises(DataError, match=rf"high.pgm .*has the value {white + 5}, above its white"):
        read_image(path, "L")
