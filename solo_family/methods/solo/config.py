"""Define the keys of SOLO and Decoupled SOLO (arXiv 1912.04488)."""

from detectron2.config import CfgNode as CN

from ...config.rules import check_one_of
from ...errors import ConfigError
from ...registry import METHODS, method_name
from ..grid.config import add_grid_keys, check_grid_keys, grid_limits

# The heads that each meta-architecture accepts; the first is the default.
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
    # The head: "" for the meta-architecture's default (SOLOHead or DecoupledSOLOHead), or
    # DecoupledSOLOLightHead.
    solo.HEAD_NAME = ""
    # With USE_COORD_CONV: how many convolutions of SOLOHead's mask tower, from the first, see
    # coordinates (the paper's ablation).
    solo.NUM_COORD_CONVS = 1
    # How the category branch resizes features to the grid: interpolate (bilinear), adaptive_pool
    # (maximum), region_grid (mean of bilinear samples in each cell).
    solo.CATEGORY_ALIGN = "interpolate"
    # The mask loss: dice, bce or focal. The weights of the latter two follow; dice has DICE_WEIGHT.
    # BCE_POSITIVE_WEIGHT is bce's factor on the loss of the object's own pixels.
    solo.LOSS.MASK_LOSS = "dice"
    solo.LOSS.BCE_WEIGHT = 10.0
    solo.LOSS.BCE_POSITIVE_WEIGHT = 2.0
    solo.LOSS.MASK_FOCAL_WEIGHT = 20.0


def check_solo_config(cfg: CN) -> None:
    """Check `MODEL.SOLO`.

    Raises:
        ConfigError: a value is not allowed; the message names the key, the value and what is.
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
    check_one_of(
        cfg, "MODEL.SOLO.HEAD_NAME", ("", *HEADS[method_name(cfg.MODEL.META_ARCHITECTURE)])
    )
    count, convs = cfg.MODEL.SOLO.NUM_COORD_CONVS, cfg.MODEL.SOLO.NUM_INSTANCE_CONVS
    if not 1 <= count <= convs:
        raise ConfigError(
            f"MODEL.SOLO.NUM_COORD_CONVS is {count}; it must be from 1 to "
            f"MODEL.SOLO.NUM_INSTANCE_CONVS, {convs}. For none set MODEL.SOLO.USE_COORD_CONV False."
        )
    if count > 1 and method_name(cfg.MODEL.META_ARCHITECTURE) == "DecoupledSOLO":
        raise ConfigError(
            f"MODEL.SOLO.NUM_COORD_CONVS is {count}, which only SOLO's own head reads. Set 1."
        )
    check_one_of(cfg, "MODEL.SOLO.CATEGORY_ALIGN", ("interpolate", "adaptive_pool", "region_grid"))
    check_one_of(cfg, "MODEL.SOLO.LOSS.MASK_LOSS", ("dice", "bce", "focal"))


def limit_instances(cfg: CN) -> dict[str, int]:
    """Return what limits the instances of an image; see `grid_limits`."""
    return grid_limits(cfg, "MODEL.SOLO")
