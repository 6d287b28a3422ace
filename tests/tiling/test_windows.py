"""Windows of files have the pixels that the whole image has, however it is written."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from solo_family.data.loading import windows as windows_module
from solo_family.data.loading.images import Reading, read_image
from solo_family.data.loading.windows import ArrayWindows, open_windows, read_whole
from solo_family.errors import DataError
from solo_family.ops.window import Window
from solo_family.pictures.depth import UntoldRange

SIZE = (70, 90)
PARTS = [Window(0, 0, 70, 90), Window(5, 17, 40, 33), Window(69, 89, 70, 90)]


def pixels(channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = SIZE if channels == 1 else (*SIZE, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def assert_windows(path: Path, expected: np.ndarray, reading: Reading | None = None) -> Any:
    """Compare windows with the whole image, uint8 [H, W, 3] in RGB, in both orders of colours."""
    for image_format, whole in (("RGB", expected), ("BGR", expected[:, :, ::-1])):
        opened = open_windows(str(path), image_format, reading)
        assert opened.size == whole.shape[:2]
        for part in PARTS:
            found = opened.read(part)
            assert np.array_equal(found, whole[part.top : part.bottom, part.left : part.right])
            found[:] = 0  # a memory of its own
        assert np.array_equal(read_whole(opened), whole)
    return opened


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[:, :, None], 3, axis=2)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_npy(tmp_path: Path, channels: int) -> None:
    image = pixels(channels)
    np.save(tmp_path / "x.npy", image)
    opened = assert_windows(tmp_path / "x.npy", grey(image) if channels == 1 else image[:, :, :3])
    assert not isinstance(opened, ArrayWindows)


def test_the_range_is_that_of_the_whole_file_not_of_a_window(tmp_path: Path) -> None:
    image = np.zeros(SIZE, np.uint16)
    image[:, :40] = 300  # which alone would be refused
    image[60, 80] = 65535
    path = tmp_path / "x.npy"
    np.save(path, image)
    assert_windows(path, grey((image // 257).astype(np.uint8)))
    image[60, 80] = 4095
    np.save(path, image)
    with pytest.raises(UntoldRange, match="0 to 4095"):
        open_windows(str(path), "RGB").read(PARTS[1])
    expected = (image * (255 / 4095)).round().astype(np.uint8)
    assert_windows(path, grey(expected), Reading(value_range=(0, 4095)))


def test_other_arrays_are_refused(tmp_path: Path) -> None:
    for number, array in enumerate((np.zeros((4, 4, 2)), np.zeros(3), np.array([{}]))):
        path = tmp_path / f"{number}.npy"
        np.save(path, array)
        with pytest.raises(DataError, match=f"{number}.npy (has an array of|can't be read)"):
            open_windows(str(path), "RGB")


def test_what_pillow_reads_is_decoded_once_within_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(pixels()).save(path)
    assert isinstance(assert_windows(path, pixels()), ArrayWindows)
    with pytest.raises(DataError, match=r"set INPUT.MAX_PIXELS 6300"):
        open_windows(str(path), "RGB", Reading(max_pixels=6299))
    with pytest.raises(DataError, match=r"no.png can't be read"):
        open_windows(str(tmp_path / "no.png"), "RGB")


TIFFS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tiles": {"tile": (32, 48)},
    "packed strips": {"compression": "zlib", "rowsperstrip": 16},
    "packed tiles": {"compression": "zlib", "tile": (16, 16), "predictor": True},
}


@pytest.mark.parametrize("kind", TIFFS)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("library", ["tifffile", "rasterio"])
def test_tiff(
    tmp_path: Path, kind: str, channels: int, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip(library)
    if library == "rasterio":
        monkeypatch.setattr(windows_module, "open_tiff", lambda _: None)
    image = pixels(channels)
    photometric = "minisblack" if channels == 1 else "rgb"
    tifffile.imwrite(tmp_path / "x.tif", image, photometric=photometric, **TIFFS[kind])
    opened = assert_windows(tmp_path / "x.tif", grey(image) if channels == 1 else image[:, :, :3])
    assert not isinstance(opened, ArrayWindows)


def test_tiffs_of_other_kinds_are_pillow_s(tmp_path: Path) -> None:
    """Also where no library reads windows."""
    image = Image.fromarray(pixels())
    exif = Image.Exif()
    exif[0x0112] = 6
    image.convert("P").save(tmp_path / "palette.tif")
    image.convert("CMYK").save(tmp_path / "cmyk.tif")
    image.convert("1").save(tmp_path / "bits.tif")
    image.save(tmp_path / "turned.tif", exif=exif)
    for path in tmp_path.iterdir():
        whole = read_image(str(path), "RGB")
        opened = open_windows(str(path), "RGB")
        assert np.array_equal(read_whole(opened), whole), path
    if importlib.util.find_spec("tifffile") is None:
        image.save(tmp_path / "x.tif")
        assert isinstance(assert_windows(tmp_path / "x.tif", pixels()), ArrayWindows)


def test_a_broken_part_is_named_and_the_rest_can_be_read(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "torn.tif"
    tifffile.imwrite(path, pixels(), compression="zlib", rowsperstrip=10, photometric="rgb")
    path.write_bytes(path.read_bytes()[:-3000])
    opened = open_windows(str(path), "RGB")
    message = "torn.tif, rows 60 to 70, columns 0 to 90: can't be read: "
    with pytest.raises(DataError, match=message):
        opened.read(Window(60, 0, 70, 90))
    assert np.array_equal(opened.read(Window(0, 3, 30, 50)), pixels()[:30, 3:50])
    assert np.array_equal(open_windows(str(path), "RGB").read(Window(0, 0, 9, 9)), pixels()[:9, :9])
