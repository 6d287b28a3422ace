"""The cache of decoded images: shared by processes, bounded, and without a trace in the batches."""

import itertools
import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from PIL import Image

from solo_family.config.check import check_config
from solo_family.data.formats.register import register_in_place
from solo_family.data.loading import image_cache
from solo_family.data.loading.batch_loader import BatchLoader
from solo_family.data.loading.image_cache import ImageCache
from solo_family.data.loading.images import Reading, read_image
from solo_family.data.loading.loader import build_train_loader
from solo_family.data.loading.mappers import build_train_mapper
from solo_family.errors import ConfigError, DataError

from ...coco_folder import noise
from ...conftest import tiny_cfg
from ..coco import HEIGHT, WIDTH, polygon, write_dataset

SHAPE = (HEIGHT, WIDTH, 3)
BYTES = HEIGHT * WIDTH * 3


@pytest.fixture
def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Counter[str]]:
    """Returns how often each file was decoded, in any process."""
    log = tmp_path / "decoded"
    log.touch()

    def read(path: str, *options: Any) -> np.ndarray:
        with log.open("a") as file:
            file.write(f"{Path(path).name}\n")
        return read_image(path, *options)

    monkeypatch.setattr(image_cache, "read_image", read)
    return lambda: Counter(log.read_text().split())


def pictures(folder: Path, count: int) -> list[str]:
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    paths = [str(folder / f"{index}.png") for index in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, SHAPE, np.uint8)).save(path)
    return paths


def cache_of(paths: list[str], num_bytes: int = 10**6) -> ImageCache:
    return ImageCache("BGR", Reading(), dict.fromkeys(paths, SHAPE), num_bytes)


class Cached:
    """Images of a cache, as a dataset."""

    def __init__(self, cache: ImageCache, paths: list[str]) -> None:
        self._cache, self._paths = cache, paths

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self._cache.read(self._paths[index]))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "opts", [[], ["INPUT.COPY_PASTE.ENABLED", True]], ids=["plain", "copy-paste"]
)
def test_batches_are_the_same_with_it(
    workers: int, opts: list, tmp_path: Path, decoded: Callable[[], Counter[str]]
) -> None:
    annotations = [
        {"image_id": image, "category_id": 7, "bbox": [9, 9, 30, 30]}
        | {"segmentation": polygon(9, 9, 39, 9 + 5 * image)}
        for image in range(1, 7)
    ]
    name = write_dataset(tmp_path / "data", annotations, images=6)
    register_in_place([name])
    batches = []
    for num_bytes in (0, 10**6):
        keys = ["DATASETS.TRAIN", (name,), "DATALOADER.NUM_WORKERS", workers, "SEED", 3, *opts]
        keys += ["SOLVER.IMS_PER_BATCH", 2, "DATALOADER.CACHE_BYTES", num_bytes]
        cfg = tiny_cfg(opts=[*keys, "INPUT.MIN_SIZE_TRAIN", (48, 64), "INPUT.COLOR_AUG_SSD", True])
        batches.append(list(itertools.islice(build_train_loader(cfg)[0], 15)))
    for plain, cached in zip(*batches):
        for one, other in zip(plain, cached):
            assert one["file_name"] == other["file_name"]
            assert torch.equal(one["image"], other["image"])
            masks = (item["instances"].gt_masks.tensor for item in (one, other))
            assert torch.equal(*masks)
    # Each of 30 images and more is one of six; processes may decode one at the same time.
    assert len(decoded()) == 6
    assert sum(decoded().values()) <= 6 * max(1, workers) + 3


def test_what_one_process_has_decoded_none_decodes_again(
    tmp_path: Path, decoded: Callable[[], Counter[str]]
) -> None:
    paths = pictures(tmp_path / "images", 6)
    expected = [read_image(path, "BGR") for path in paths]
    images = Cached(cache_of(paths), paths)
    for _ in range(3):  # new workers each time
        loader = BatchLoader(images, [[index] for index in range(6)], num_workers=3)
        for (found,), image in zip(loader, expected, strict=True):
            assert np.array_equal(found.numpy(), image)
        # Where another process was writing at this moment, one more decodes later.
        assert sum(decoded().values()) <= 2 * 6
    before = decoded()
    list(BatchLoader(images, [[index] for index in range(6)], num_workers=2))
    assert decoded() == before


def test_a_changed_file_is_decoded_again(
    tmp_path: Path, decoded: Callable[[], Counter[str]]
) -> None:
    (path,) = pictures(tmp_path / "images", 1)
    cache = cache_of([path])
    for _ in range(3):
        first = cache.read(path)
    assert decoded() == {"0.png": 1}
    first[:] = 7  # the reader's own copy
    for value in (50, 60):
        Image.new("RGB", (WIDTH, HEIGHT), (value, 2, 3)).save(path)
        os.utime(path, ns=(value, value))
        assert cache.read(path)[0, 0].tolist() == [3, 2, value]
    os.remove(path)
    with pytest.raises(DataError, match=r"0\.png"):
        cache.read(path)


def test_its_size_is_a_bound(tmp_path: Path, decoded: Callable[[], Counter[str]]) -> None:
    paths = pictures(tmp_path / "images", 5)
    cache = cache_of(paths, num_bytes=3 * BYTES - 1)
    assert (len(cache), cache.num_bytes) == (2, 2 * BYTES)
    expected = [read_image(path, "BGR") for path in paths]
    for _ in range(3):
        assert all(np.array_equal(cache.read(path), image) for path, image in zip(paths, expected))
    assert list(decoded().values()) == [1, 1, 3, 3, 3]


def test_an_image_of_another_shape_is_read_and_not_kept(
    tmp_path: Path, decoded: Callable[[], Counter[str]]
) -> None:
    first, second = pictures(tmp_path / "images", 2)
    Image.new("RGB", (WIDTH, HEIGHT + 1), (1, 2, 3)).save(first)
    cache = cache_of([first, second])
    for _ in range(2):
        assert cache.read(first).shape == (HEIGHT + 1, WIDTH, 3)
        assert np.array_equal(cache.read(second), read_image(second, "BGR"))
    assert decoded() == {"0.png": 2, "1.png": 1}


def test_a_process_that_was_killed_while_it_wrote_stops_nobody(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "images", 2)
    cache = cache_of(paths)
    child = os.fork()
    if not child:
        os.read(cache._turn[0], 1)  # as one does that writes
        cache._memory[:BYTES] = 99
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    for path in paths * 2:
        assert np.array_equal(cache.read(path), read_image(path, "BGR"))


def test_a_killed_run_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a cache in /dev/shm would, or in the temporary folder."""
    paths = pictures(tmp_path / "images", 4)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = set(Path("/proc/self/maps").read_text().splitlines())
    child = os.fork()
    if not child:
        images = Cached(cache_of(paths), paths)
        for _ in BatchLoader(images, [[0], [1], [2], [3]], num_workers=2):
            # Files of other programs are none of this process's.
            own = [name for name in os.listdir("/dev/shm") if str(os.getpid()) in name]
            maps = set(Path("/proc/self/maps").read_text().splitlines())
            own += [line for line in maps - before if "/dev/shm" in line]
            (tmp_path / "seen").write_text(repr(own + os.listdir(temporary)))
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert (tmp_path / "seen").read_text() == "[]"


def test_without_memory_images_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(image_cache.mmap, "mmap", refuse)
    cfg = tiny_cfg(opts=["DATALOADER.CACHE_BYTES", 10**6])
    records = [{"file_name": path} for path in pictures(tmp_path / "images", 1)]
    assert image_cache.build_cache(cfg, records) is None
    assert "does not give the 1000000 bytes of DATALOADER.CACHE_BYTES" in caplog.text


def test_records_without_sizes_have_those_of_their_files(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "images", 2)
    (tmp_path / "images/0.png").write_bytes(b"no image")
    cfg = tiny_cfg(opts=["DATALOADER.CACHE_BYTES", 10**6])
    cache = image_cache.build_cache(cfg, [{"file_name": path} for path in paths])
    assert (len(cache), cache.num_bytes) == (1, BYTES)


def test_images_with_semantic_labels_are_kept_too(
    tmp_path: Path, decoded: Callable[[], Counter[str]]
) -> None:
    pictures(tmp_path / "images", 2)
    (tmp_path / "labels").mkdir()
    for index in range(2):
        labels = np.full((HEIGHT, WIDTH), index, np.uint8)
        Image.fromarray(labels).save(tmp_path / f"labels/{index}.png")
    name = f"semantic:{tmp_path}/images:{tmp_path}/labels:a,b"
    register_in_place([name])
    batches = []
    for num_bytes in (0, 10**6):
        keys = ["DATASETS.TRAIN", (name,), "DATALOADER.NUM_WORKERS", 0, "SEED", 3]
        keys += ["SOLVER.IMS_PER_BATCH", 2, "DATALOADER.CACHE_BYTES", num_bytes]
        loader = build_train_loader(tiny_cfg("MaskFormer", opts=keys))[0]
        batches.append(list(itertools.islice(loader, 4)))
    for plain, cached in zip(*batches):
        for one, other in zip(plain, cached):
            assert torch.equal(one["image"], other["image"])
            assert torch.equal(one["sem_seg"], other["sem_seg"])
    assert decoded() == {"0.png": 1, "1.png": 1}


def test_images_at_another_scale_are_not_those_of_the_cache(tmp_path: Path) -> None:
    """Copy-paste reads larger ones where objects are pasted enlarged."""
    path = str(tmp_path / "a.jpg")
    noise(160, 160).save(path)
    record = {"file_name": path, "height": 160, "width": 160, "image_id": 1, "annotations": []}
    keys = ["DATALOADER.CACHE_BYTES", 10**6, "INPUT.REDUCED_JPEG", True]
    keys += ["INPUT.RANDOM_FLIP", "none", "INPUT.MIN_SIZE_TRAIN"]
    small, large = (tiny_cfg(opts=[*keys, (side,)]) for side in (40, 80))
    cache = image_cache.build_cache(small, [record])

    def image(cfg: CfgNode, cache: ImageCache | None) -> torch.Tensor:
        return build_train_mapper(cfg, [record], cache)(record)["image"]

    for _ in range(2):
        assert torch.equal(image(small, cache), image(small, None))
    assert torch.equal(image(large, cache), image(large, None))


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"DATALOADER\.CACHE_BYTES is -1"):
        check_config(tiny_cfg(opts=["DATALOADER.CACHE_BYTES", -1]))
