"""The check of `TEST.TILE`, which cuts large images into tiles."""

from ..errors import ConfigError

SMALLEST_TILE = 64
MERGES = ("join", "nms")


def check_tile(size: int, overlap: int, merge: str, batch: int) -> None:
    """Check the keys of `TEST.TILE`, unless tiles are off (`size` is 0).

    Args:
        size: height and width of a tile, in pixels of the image.
        overlap: of neighbouring tiles, in pixels.
        merge: how the masks of an object in several tiles are merged, one of `MERGES`.
        batch: number of tiles per batch.

    Raises:
        ConfigError: a value can't work; the message names the key, the value and what is allowed.
    """
    if not size:
        return
    if size < SMALLEST_TILE:
        raise ConfigError(
            f"TEST.TILE.SIZE is {size}; a tile has at least {SMALLEST_TILE} pixels a side. 0 cuts "
            "no image into tiles."
        )
    if not 0 <= overlap < size:
        raise ConfigError(
            f"TEST.TILE.OVERLAP is {overlap} with TEST.TILE.SIZE {size}; it must be from 0 to "
            f"{size - 1}. Take a little more than the size of most objects, for instance "
            f"{size // 4}."
        )
    if merge not in MERGES:
        choices = ", ".join(map(repr, MERGES))
        raise ConfigError(f"TEST.TILE.MERGE is {merge!r}; allowed: {choices}.")
    if batch < 1:
        raise ConfigError(f"TEST.TILE.BATCH is {batch}; at least 1 is needed.")
