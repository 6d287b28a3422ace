"""Lay overlapping tiles over an image."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from detectron2.config import CfgNode

from ..config.tiles import check_tile
from ..errors import ConfigError
from ..ops.window import Window


@dataclass(frozen=True)
class Tiling:
    """How images are cut into tiles, in pixels of the images themselves.

    Attributes:
        size: height and width of a tile; 0 for no tiles.
        overlap: of neighbours.
        merge: what becomes of an object that several tiles see; see `merge_instances`.
        batch: number of tiles that the model is given at once.

    Raises:
        ConfigError: a value can't work.
    """

    size: int
    overlap: int = 64
    merge: str = "join"
    batch: int = 4

    def __post_init__(self) -> None:
        check_tile(self.size, self.overlap, self.merge, self.batch)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "Tiling":
        """Return what `TEST.TILE` says."""
        tile = cfg.TEST.TILE
        return cls(tile.SIZE, tile.OVERLAP, tile.MERGE, tile.BATCH)


@dataclass(frozen=True)
class Tile:
    """One tile of an image.

    Attributes:
        index: its place in the order of reading.
        window: its pixels.
        core: those of them that are nearer to its centre than to that of any other tile; the cores
            of all tiles cover the image once.
    """

    index: int
    window: Window
    core: Window

    def cuts(self, box: Window) -> bool:
        """Return whether a box in the tile touches a border of it that is within the image.

        A core ends before its tile where the tile ends within the image.
        """
        return any(
            edge == side and side != inner
            for edge, side, inner in zip(box, self.window, self.core, strict=True)
        )


def place_tiles(size: tuple[int, int], tiling: Tiling) -> list[Tile]:
    """Return the tiles of an image, row by row.

    Neighbours overlap by `tiling.overlap`; the last of a row or column ends with the image, and so
    overlaps more. An image that is smaller than a tile is one.

    Args:
        size: height and width of the image.
        tiling: how large the tiles are.
    """
    rows = _spans(size[0], tiling)
    columns = _spans(size[1], tiling)
    places = [(row, column) for row in rows for column in columns]
    return [
        Tile(
            index,
            Window(row[0], column[0], row[1], column[1]),
            Window(row[2], column[2], row[3], column[3]),
        )
        for index, (row, column) in enumerate(places)
    ]


def _spans(length: int, tiling: Tiling) -> list[tuple[int, int, int, int]]:
    """Return beginning and end of each tile along one axis, and those of its core."""
    last = max(0, length - tiling.size)
    starts = [*range(0, last, tiling.size - tiling.overlap), last]
    ends = [min(start + tiling.size, length) for start in starts]
    # A border between two cores is in the middle of what the two tiles share.
    middles = [(start + end) // 2 for start, end in zip(starts[1:], ends[:-1])]
    return list(zip(starts, ends, [0, *middles], [*middles, length]))


def overlapping(tiles: list[Tile]) -> Iterator[tuple[int, int]]:
    """Yield the indices of every two tiles that share pixels, the smaller one first."""
    across = sum(tile.window.top == 0 for tile in tiles)
    for tile in tiles:
        for row in range(tile.index // across, -1, -1):
            left = tiles[row * across].window
            if left.bottom <= tile.window.top:
                break
            for other in tiles[row * across : (row + 1) * across]:
                shared = other.window.intersection(tile.window)
                if other.index < tile.index and not shared.is_empty:
                    yield other.index, tile.index


def with_tile(tiling: Tiling | None, tile: Any) -> Tiling | None:
    """Return the tiling that Python's users and flags ask for; None for no tiles.

    Args:
        tiling: the configuration's, where there is one. What `tile` does not name is as there,
            whether or not there are tiles in it.
        tile: the size, or the size and the overlap; 0 for no tiles; None for the configuration's.

    Raises:
        ConfigError: it is none of these, or can't work.
    """
    tiling = tiling or Tiling(0)
    if tile is None:
        return tiling if tiling.size else None
    values = tile if isinstance(tile, tuple | list) else (tile,)
    if not 1 <= len(values) <= 2 or not all(type(value) is int for value in values):
        raise ConfigError(
            f"tile is {tile!r}; it is the size of a tile in pixels, or size and overlap: (1024, "
            "128)."
        )
    given = dict(zip(("size", "overlap"), values))
    return replace(tiling, **given) if given["size"] else None
