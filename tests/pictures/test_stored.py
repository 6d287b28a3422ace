"""What files store, against the values that they were made of."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from solo_family.errors import DataError
from solo_family.pictures import tiff
from solo_family.pictures.formats import parse_format
from solo_family.pictures.stored import open_stored

from . import FILES, HEIGHT, WIDTH, scene

# What each file holds.
HELD = {
    "u8_5.tif": scene(5),
    "u8_5_pages.tif": scene(5),
    "u8_5_packbits.tif": scene(5),
    "u16_5_deflate.tif": scene(5, "u2", 20),
    "u16_5_lzw_planes.tif": scene(5, "u2", 20),
    "u16_4_tiles.tif": scene(4, "u2", 20),
    "f32_6_deflate.tif": scene(6, "f4", 1 / 199),
    "i32_5_big.tif": scene(5, "i4", 20),
}


def read(path: Path, name: str) -> np.ndarray:
    with open(path, "rb") as file:
        stored = open_stored(str(path), file, parse_format(name))
        assert stored is not None
        values = stored.read()
    assert values.shape == (stored.height, stored.width, stored.channels)
    assert values.dtype == stored.dtype.newbyteorder("=")
    return values


@pytest.mark.parametrize("name", HELD)
def test_tiffs_of_many_bands_have_their_very_values(name: str) -> None:
    expected = HELD[name]
    assert np.array_equal(read(FILES / name, f"{expected.shape[2]}ch"), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiffs_are_turned_as_pillow_turns_them(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(scene(3)).save(tmp_path / "x.tif", exif=exif)
    with Image.open(tmp_path / "x.tif") as image:
        expected = np.asarray(image)
    assert np.array_equal(read(tmp_path / "x.tif", "3ch"), expected)


@pytest.mark.parametrize("dtype", [">u2", "<f4", "i8", "?"])
@pytest.mark.parametrize("form", ["npy", "fortran", "npz", "named", "channels first", "grey"])
def test_arrays(tmp_path: Path, form: str, dtype: str) -> None:
    values = scene(1 if form == "grey" else 5, dtype)
    path = tmp_path / ("x.npz" if form in ("npz", "named") else "x.npy")
    if form == "npz":
        np.savez_compressed(path, values)
    elif form == "named":
        np.savez(path, other=values[:2], image=values)
    elif form == "channels first":
        np.save(path, values.transpose(2, 0, 1))
    elif form == "grey":
        np.save(path, values[:, :, 0])
    else:
        np.save(path, np.asfortranarray(values) if form == "fortran" else values)
    assert np.array_equal(read(path, "5ch"), values)


def test_an_array_of_objects_runs_no_code(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[{}]], object))
    with pytest.raises(DataError, match=r"x.npy is an array of object, \[1, 1\]"):
        read(tmp_path / "x.npy", "1ch")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": scene(3), "b": scene(3)}, "holds a, b; one array is needed"),
        ({}, "holds nothing"),
        ({"a": np.zeros(5)}, "an array of float64"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, arrays: dict, words: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=words):
        read(tmp_path / "x.npz", "3ch")


def test_a_compression_that_is_not_read_is_named() -> None:
    with pytest.raises(DataError, match=r"zstd.tif .*not read \(compression 50000, 5 bands of"):
        read(FILES / "u16_5_zstd.tif", "5ch")


@pytest.mark.parametrize("name", ["u8_5.tif", "u16_4_tiles.tif", "u16_5_lzw_planes.tif", "npz"])
def test_broken_files_are_errors_of_ours(tmp_path: Path, name: str) -> None:
    whole = io.BytesIO()
    if name == "npz":
        with zipfile.ZipFile(whole, "w") as archive:
            array = io.BytesIO()
            np.save(array, scene(5))
            archive.writestr("image.npy", array.getvalue())
    else:
        whole.write((FILES / name).read_bytes())
    data = whole.getvalue()
    generator = np.random.default_rng(0)
    for _ in range(150):
        changed = bytearray(data)
        for place in generator.integers(0, len(data), 3):
            changed[place] = generator.integers(256)
        cut = int(generator.integers(8, len(data))) if generator.integers(2) else len(data)
        file = io.BytesIO(bytes(changed[:cut]))
        try:
            stored = open_stored("x", file, parse_format("5ch"))
            if stored is not None and stored.height * stored.width * stored.channels < 10**7:
                stored.read()
        except DataError:
            pass
        except (ValueError, EOFError, zipfile.BadZipFile, IndexError):
            pass  # of `read`, which its callers name with the file


def test_pages_that_point_at_one_another_end() -> None:
    data = bytearray((FILES / "u8_5.tif").read_bytes())
    directory = int.from_bytes(data[4:8], "little")
    following = directory + 2 + 12 * int.from_bytes(data[directory : directory + 2], "little")
    data[following : following + 4] = data[4:8]
    assert len(tiff.read_pages(bytes(data))) == 1
    assert (HEIGHT, WIDTH) == (37, 29)
