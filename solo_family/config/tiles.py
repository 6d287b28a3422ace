"""Check `TEST.TILE`: how large images are cut into tiles."""

from ..errors import ConfigError

SMALLEST_TILE = 64
MERGES = ("join", "nms")


def check_tile(size: int, overlap: int, merge: str, batch: int) -> None:
    """Refuse tiles that can't work; with `size` 0 there are none, and nothing is refused.

    Args:
        size: height and width of a tile, in pixels of the image.
        overlap: of neighbours.
        merge: what becomes of an object that several tiles see.
        batch: number of tiles that the model is given at once.

    Raises:
        ConfigError: names the key, its value, and what is allowed.
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
