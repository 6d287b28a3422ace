"""Where tiles lie, and which keys are refused."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from solo_family.config import check_config
from solo_family.errors import ConfigError
from solo_family.tiling.tiles import Tiling, overlapping, place_tiles, with_tile

from ..conftest import tiny_cfg


@pytest.mark.parametrize("size", [(300, 410), (64, 64), (40, 500), (100, 101), (1, 1)])
@pytest.mark.parametrize(("side", "overlap"), [(100, 0), (100, 30), (64, 50), (128, 100)])
def test_tiles_cover_the_image_and_overlap(size: tuple[int, int], side: int, overlap: int) -> None:
    tiles = place_tiles(size, Tiling(side, overlap))
    seen, owned = np.zeros(size, int), np.zeros(size, int)
    for place, tile in enumerate(tiles):
        assert tile.index == place
        top, left, bottom, right = tile.window
        assert (bottom - top, right - left) == (min(side, size[0]), min(side, size[1]))
        seen[top:bottom, left:right] += 1
        owned[tile.core.top : tile.core.bottom, tile.core.left : tile.core.right] += 1
        assert tile.window.intersection(tile.core) == tile.core
    assert seen.min() == 1 or overlap >= side / 2 or min(size) <= side
    assert (seen > 0).all()
    assert (owned == 1).all()
    columns = sorted({tile.window.left for tile in tiles})
    assert all(b - a <= side - overlap for a, b in pairwise(columns))
    expected = {
        (a.index, b.index)
        for a in tiles
        for b in tiles
        if a.index < b.index
        and max(a.window.top, b.window.top) < min(a.window.bottom, b.window.bottom)
        and max(a.window.left, b.window.left) < min(a.window.right, b.window.right)
    }
    found = list(overlapping(tiles))
    assert set(found) == expected
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"SIZE": 63}, "TEST.TILE.SIZE is 63; a tile has at least 64 pixels a side"),
        ({"SIZE": -1}, "TEST.TILE.SIZE is -1"),
        ({"SIZE": 64}, "TEST.TILE.OVERLAP is 64 with TEST.TILE.SIZE 64; .* from 0 to 63"),
        ({"SIZE": 256, "OVERLAP": -1}, "TEST.TILE.OVERLAP is -1"),
        ({"SIZE": 256, "MERGE": "wbf"}, "TEST.TILE.MERGE is 'wbf'; allowed: 'join', 'nms'"),
        ({"SIZE": 256, "BATCH": 0}, "TEST.TILE.BATCH is 0; at least 1"),
    ],
)
def test_keys_that_can_not_work_are_refused(keys: dict[str, Any], message: str) -> None:
    cfg = tiny_cfg()
    assert with_tile(Tiling.from_config(cfg), None) is None
    for key, value in keys.items():
        cfg.TEST.TILE[key] = value
    with pytest.raises(ConfigError, match=message):
        check_config(cfg)


def test_what_users_give() -> None:
    from_config = Tiling(512, 100, "nms", 2)
    assert with_tile(from_config, None) is from_config
    assert with_tile(None, None) is None
    assert with_tile(from_config, 0) is None
    assert with_tile(from_config, 256) == Tiling(256, 100, "nms", 2)
    assert with_tile(None, (256, 32)) == Tiling(256, 32)
    # A configuration without tiles still says how those of a flag are merged.
    cfg = tiny_cfg("SOLOv2")
    cfg.merge_from_list(["TEST.TILE.MERGE", "nms", "TEST.TILE.BATCH", 2])
    assert with_tile(Tiling.from_config(cfg), None) is None
    assert with_tile(Tiling.from_config(cfg), (256, 32)) == Tiling(256, 32, "nms", 2)
    for wrong in ("256", 256.0, (1, 2, 3), ()):
        with pytest.raises(ConfigError, match="it is the size of a tile in pixels, or size and"):
            with_tile(None, wrong)
    with pytest.raises(ConfigError, match=r"TEST.TILE.OVERLAP is 100"):
        with_tile(from_config, 90)
