"""Which values INPUT.FORMAT has, and what becomes of a file's channels."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from solo_family.cli.inputs import find_sources
from solo_family.data.loading.images import read_image
from solo_family.errors import ConfigError
from solo_family.export.pictures import read_picture
from solo_family.pictures.formats import (
    SUFFIXES,
    OtherChannels,
    in_format,
    parse_format,
    to_picture,
)

from . import scene


@pytest.mark.parametrize(
    ("name", "count", "colours"),
    [
        ("RGB", 3, (0, 1, 2)),
        ("BGR", 3, (2, 1, 0)),
        ("L", 1, None),
        ("RGBA", 4, (0, 1, 2, 3)[:3]),
        ("RGBN", 4, (0, 1, 2)),
        ("CBGRNST", 7, (3, 2, 1)),
        ("5ch", 5, None),
        ("1ch", 1, None),
        ("224ch", 224, None),
    ],
)
def test_formats(name: str, count: int, colours: tuple[int, ...] | None) -> None:
    given = parse_format(name)
    assert (given.count, given.colours) == (count, colours)


@pytest.mark.parametrize(
    "name",
    [
        "HSV",
        "5",
        "0ch",
        "YUV-BT.601",
        "rgb",
        "",
        "0",
        "RBG",
        "BGRA",
        "RGBB",
        "GRNB",
        "CMYK",
        "1e3",
        "-2",
    ],
)
def test_all_else_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="allowed: RGB, BGR, L"):
        parse_format(name)


def test_grey_is_pillows() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    expected = np.asarray(Image.fromarray(colours).convert("L"))
    assert np.array_equal(in_format("x", colours, parse_format("L"))[:, :, 0], expected)


@pytest.mark.parametrize(
    ("there", "name", "places"),
    [
        (3, "RGB", [0, 1, 2]),
        (3, "BGR", [2, 1, 0]),
        (1, "BGR", [0, 0, 0]),
        (4, "RGBA", [0, 1, 2, 3]),
        (1, "L", [0]),
        (5, "5ch", [0, 1, 2, 3, 4]),
        (4, "BGRN", [0, 1, 2, 3]),
    ],
)
def test_channels_of_files(there: int, name: str, places: list[int]) -> None:
    stored = scene(there)
    assert np.array_equal(in_format("x", stored, parse_format(name)), stored[:, :, places])


def test_pictures_without_transparency_are_opaque() -> None:
    rgba = in_format("x", scene(3), parse_format("RGBA"))
    assert np.array_equal(rgba[:, :, :3], scene(3))
    assert (rgba[:, :, 3] == 255).all()


@pytest.mark.parametrize(
    ("there", "name", "line"),
    [(5, "RGB", "INPUT.FORMAT 5ch"), (3, "5ch", "INPUT.FORMAT RGB"), (1, "RGBN", "INPUT.FORMAT L")],
)
def test_other_channels_are_refused_and_the_advice_works(there: int, name: str, line: str) -> None:
    with pytest.raises(OtherChannels, match=f"x has {there} channels?, but .*Set {line} if all"):
        in_format("x", scene(there), parse_format(name))
    in_format("x", scene(there), parse_format(line.split()[1]))


@pytest.mark.parametrize(
    ("name", "bands", "blue_green_red"),
    [
        ("BGR", (), (0, 1, 2)),
        ("RGB", (), (2, 1, 0)),
        ("L", (), (0, 0, 0)),
        ("2ch", (), (0, 0, 0)),
        ("5ch", (), (2, 1, 0)),
        ("CBGRNST", (), (1, 2, 3)),
        ("CBGRNST", (5, 4, 3), (2, 3, 4)),
        ("5ch", (4,), (3, 3, 3)),
    ],
)
def test_what_pictures_show(name: str, bands: tuple, blue_green_red: tuple[int, ...]) -> None:
    image = scene(parse_format(name).count)
    shown = to_picture(image, parse_format(name), bands)
    assert np.array_equal(shown, image[:, :, list(blue_green_red)])


# What Pillow opens besides photographs and scans: animations, drawings, textures, icons, the files
# of programs, astronomy (without its scale), and formats that OpenCV can't read.
NO_PHOTOGRAPHS = {
    *(".fli", ".flc", ".mpg", ".mpeg", ".apng", ".avifs"),
    *(".dib", ".eps", ".ps", ".emf", ".wmf", ".dds", ".blp", ".ftc", ".ftu", ".gbr", ".vtf"),
    *(".ico", ".icns", ".cur", ".xbm", ".xpm", ".psd", ".msp", ".pcx", ".dcx", ".pxr", ".pcd"),
    *(".bufr", ".grib", ".h5", ".hdf", ".fit", ".fits", ".iim", ".im", ".pfm", ".qoi"),
    *(".ras", ".bw", ".rgb", ".rgba", ".sgi", ".tga", ".icb", ".vda", ".vst"),
}


def test_every_format_that_is_read_is_found_in_folders(tmp_path: Path) -> None:
    Image.init()
    names = Image.registered_extensions()
    opened = {suffix for suffix in names if names[suffix] in Image.OPEN}
    assert opened - NO_PHOTOGRAPHS <= {*SUFFIXES}
    picture = Image.fromarray(scene(3))
    paths = [tmp_path / f"x{suffix}" for suffix in SUFFIXES if suffix not in (".npy", ".npz")]
    for path in paths:
        as_grey = path.suffix in (".pbm", ".pgm")
        (picture.convert("1" if path.suffix == ".pbm" else "L") if as_grey else picture).save(path)
        trained, exported = read_image(str(path), "BGR"), read_picture(path)
        assert trained.shape == exported.shape == scene(3).shape
        # Decoders round in their own ways.
        assert cv2.absdiff(trained, exported).max() <= 8, path
    found, _ = find_sources([str(tmp_path)])
    assert {source.path for source in found} == {*paths}


def clear(seed: int = 0) -> Image.Image:
    """Returns a picture whose left half is more or less transparent."""
    values = np.random.default_rng(seed).integers(0, 256, (24, 32, 4), np.uint8)
    values[:, 16:, 3] = 255
    return Image.fromarray(values)


@pytest.mark.parametrize("name", ["L", "BGR", "RGBA", "RGBN"])
@pytest.mark.parametrize("multiplied", [False, True])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_the_transparency_of_a_tiff_changes_no_colour(
    tmp_path: Path, compression: str, multiplied: bool, name: str
) -> None:
    """OpenCV multiplies colours by it, which training does not."""
    path = tmp_path / "x.tif"
    tags = {338: 1 if multiplied else 2}
    clear().save(path, compression=compression, tiffinfo=tags)
    trained = read_image(str(path), name)
    assert np.array_equal(read_picture(path, {"color": name}), trained)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "suffix", "name"),
    [
        ("RGBA", ".png", "RGBA"),
        ("RGBA", ".png", "RGBN"),
        ("RGBA", ".webp", "4ch"),
        ("RGB", ".jpg", "RGBA"),
        ("RGB", ".jpg", "3ch"),
        ("RGB", ".png", "3ch"),
        ("L", ".jpg", "1ch"),
        ("L", ".png", "RGBA"),
    ],
)
def test_exported_models_turn_pictures_of_any_channels(
    tmp_path: Path, kind: str, suffix: str, name: str, orientation: int
) -> None:
    """OpenCV turns colours alone."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x{suffix}"
    options: dict[str, Any] = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    clear().convert(kind).save(path, exif=exif, **options)
    trained, exported = read_image(str(path), name), read_picture(path, {"color": name})
    assert trained.shape == exported.shape
    # Decoders of JPEG round in their own ways.
    assert cv2.absdiff(trained, exported).max() <= (8 if suffix == ".jpg" else 0)
