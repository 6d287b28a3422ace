"""Define the keys of SOLOv2 (arXiv 2003.10152), with AdelaiDet's names and defaults."""

from detectron2.config import CfgNode as CN

from ...config.rules import check_at_least, check_one_of
from ...errors import ConfigError
from ..grid.config import add_grid_keys, check_grid_keys, grid_limits

# Inputs are padded to multiples of it at least.
_MULTIPLE = 32


def add_solov2_config(cfg: CN) -> None:
    """Add `MODEL.SOLOV2` to `cfg`, in place."""
    cfg.MODEL.SOLOV2 = CN()
    solov2 = cfg.MODEL.SOLOV2
    add_grid_keys(solov2)
    solov2.NUM_KERNELS = 256

    # Mask feature branch.
    solov2.MASK_IN_FEATURES = ["p2", "p3", "p4", "p5"]
    solov2.MASK_IN_CHANNELS = 256
    solov2.MASK_CHANNELS = 128
    solov2.NUM_MASKS = 256
    # Not in AdelaiDet: make all convolutions of the mask feature branch deformable (TYPE_DCN),
    # including the 1x1 projection.
    solov2.USE_DCN_IN_MASK = False
    # Not in AdelaiDet: unified is published, one map for all levels. separate, the paper's
    # alternative: each of INSTANCE_IN_FEATURES has its own, by seven convolutions of NUM_MASKS
    # channels as in SOLO; coordinates are on every level, or with MASK_COORD_LEVEL none on none.
    solov2.MASK_FEATURES = "unified"
    # Not in AdelaiDet: the mask feature level to which coordinates are appended. fourth is P5, and
    # none if there are fewer levels (the official code and AdelaiDet); last is mmdetection's; none
    # leaves them out, as the paper's row without coordinates in the mask features does.
    solov2.MASK_COORD_LEVEL = "fourth"
    # Not in AdelaiDet: the side of the dynamic convolutions: 1 as published, or 3 (the paper's
    # ablation). A kernel has NUM_KERNELS = KERNEL_SIZE x KERNEL_SIZE x NUM_MASKS weights.
    solov2.KERNEL_SIZE = 1
    # Not in AdelaiDet: the height and width, in pixels of the network's input, that NUM_GRIDS cells
    # and coordinates from -1 to 1 span. A larger image then has more cells of the same size, a
    # smaller image fewer. () is published: grid and coordinates span every image.
    solov2.GRID_REFERENCE_SIZE = ()


def check_solov2_config(cfg: CN) -> None:
    """Check `MODEL.SOLOV2`.

    Raises:
        ConfigError: a value is not allowed; the message names the key, the value and what is.
    """
    check_grid_keys(cfg, "MODEL.SOLOV2")
    check_one_of(cfg, "MODEL.SOLOV2.MASK_COORD_LEVEL", ("fourth", "last", "none"))
    check_one_of(cfg, "MODEL.SOLOV2.MASK_FEATURES", ("unified", "separate"))
    check_one_of(cfg, "MODEL.SOLOV2.KERNEL_SIZE", (1, 3))
    check_at_least(cfg, ["MODEL.SOLOV2.MASK_CHANNELS", "MODEL.SOLOV2.NUM_MASKS"])
    solov2 = cfg.MODEL.SOLOV2
    _check_reference_size(solov2)
    if solov2.MASK_FEATURES == "separate" and solov2.GRID_REFERENCE_SIZE not in ((), []):
        raise ConfigError(
            f"MODEL.SOLOV2.GRID_REFERENCE_SIZE is {solov2.GRID_REFERENCE_SIZE!r}, but MODEL.SOLOV2."
            "MASK_FEATURES is 'separate'; grids that follow the image's size need one map of mask "
            "features. Set MASK_FEATURES to 'unified', or GRID_REFERENCE_SIZE to ()."
        )
    size = solov2.KERNEL_SIZE
    needed = size * size * solov2.NUM_MASKS
    if needed != solov2.NUM_KERNELS:
        raise ConfigError(
            f"MODEL.SOLOV2.NUM_KERNELS is {solov2.NUM_KERNELS} and MODEL.SOLOV2.NUM_MASKS is "
            f"{solov2.NUM_MASKS}; kernels are applied to the mask features: NUM_KERNELS must be "
            f"{needed}, {size} x {size} weights for each of them."
        )


def _check_reference_size(solov2: CN) -> None:
    size = solov2.GRID_REFERENCE_SIZE
    if size in ((), []):
        return
    pair = isinstance(size, tuple | list) and len(size) == 2
    if not pair or any(type(side) is not int or side < 1 or side % _MULTIPLE for side in size):
        whole = pair and all(type(side) is int and side > 0 for side in size)
        near = tuple(-(-side // _MULTIPLE) * _MULTIPLE for side in size) if whole else (512, 512)
        raise ConfigError(
            f"MODEL.SOLOV2.GRID_REFERENCE_SIZE is {size!r}; allowed: () for the published grids, "
            f"or height and width in multiples of {_MULTIPLE}, which inputs are padded to, for "
            f"instance {near}."
        )
    odd = [stride for stride in solov2.FPN_INSTANCE_STRIDES if _MULTIPLE % stride]
    if odd:
        raise ConfigError(
            f"MODEL.SOLOV2.GRID_REFERENCE_SIZE is {size!r}, but FPN_INSTANCE_STRIDES has {odd[0]}: "
            f"with cells of one size in pixels every stride must divide {_MULTIPLE}."
        )


def limit_instances(cfg: CN) -> dict[str, int]:
    """Return what limits the instances of an image; see `grid_limits`."""
    return grid_limits(cfg, "MODEL.SOLOV2")
