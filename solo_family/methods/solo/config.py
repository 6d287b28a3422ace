"""Keys of SOLO and Decoupled SOLO (arXiv 1912.04488)."""

from detectron2.config import CfgNode as CN

from ...config.rules import check_one_of
from ...errors import ConfigError
from ...registry import METHODS
from ..grid.config import add_grid_keys, check_grid_keys

# The heads of each meta-architecture; "" is the first.
HEADS = {
    "SOLO": ("SOLOHead",),
    "DecoupledSOLO": ("DecoupledSOLOHead", "DecoupledSOLOLightHead"),
}


def add_solo_config(cfg: CN) -> None:
    """Add `MODEL.SOLO` to `cfg`, in place."""
    cfg.MODEL.SOLO = CN()
    solo = cfg.MODEL.SOLO
    add_grid_keys(solo)
    solo.INSTANCE_CHANNELS = 256
    solo.NUM_INSTANCE_CONVS = 7
    solo.SHARED_CELL = "last"
    # SOLOv2's key: any other value is refused, as the grids are in these methods' weights.
    solo.GRID_REFERENCE_SIZE = ()
    # "" is the meta-architecture's own: SOLOHead, or DecoupledSOLOHead; or DecoupledSOLOLightHead.
    solo.HEAD_NAME = ""
    # How features come to the grid's size in the category branch: interpolate (bilinear),
    # adaptive_pool (maximum), region_grid (the average of bilinear samples of each cell).
    solo.CATEGORY_ALIGN = "interpolate"
    # The mask loss, dice, bce or focal, and the weights of the latter two; bce counts a pixel of
    # the object BCE_POSITIVE_WEIGHT times.
    solo.LOSS.MASK_LOSS = "dice"
    solo.LOSS.BCE_WEIGHT = 10.0
    solo.LOSS.BCE_POSITIVE_WEIGHT = 2.0
    solo.LOSS.MASK_FOCAL_WEIGHT = 20.0


def check_solo_config(cfg: CN) -> None:
    """Check `MODEL.SOLO`.

    Raises:
        ConfigError: names the key, its value, what is allowed.
    """
    check_grid_keys(cfg, "MODEL.SOLO")
    if cfg.MODEL.SOLO.GRID_REFERENCE_SIZE:
        given = cfg.MODEL.SOLO.GRID_REFERENCE_SIZE
        raise ConfigError(
            f"MODEL.SOLO.GRID_REFERENCE_SIZE is {given}, but the masks of "
            f"{METHODS[cfg.MODEL.META_ARCHITECTURE].title} are channels of its last convolution, "
            "one for each cell, or row and column: its weights fix how many there are. Leave it at "
            "(), or take SOLOv2, whose grids can follow the image."
        )
    check_one_of(cfg, "MODEL.SOLO.HEAD_NAME", ("", *HEADS[cfg.MODEL.META_ARCHITECTURE]))
    check_one_of(cfg, "MODEL.SOLO.CATEGORY_ALIGN", ("interpolate", "adaptive_pool", "region_grid"))
    check_one_of(cfg, "MODEL.SOLO.LOSS.MASK_LOSS", ("dice", "bce", "focal"))
