"""Keys of SOLOv2 (arXiv 2003.10152): AdelaiDet's names and defaults first, then ours."""

from detectron2.config import CfgNode as CN

from ..errors import ConfigError
from .grid import check_grid_keys
from .rules import check_one_of


def add_solov2_config(cfg: CN) -> None:
    """Adds `MODEL.SOLOV2` to `cfg`, in place."""
    cfg.MODEL.SOLOV2 = CN()
    solov2 = cfg.MODEL.SOLOV2

    # Feature levels of the head, the strides they are resized to, and the objects each is for:
    # sqrt(width x height) of the box in pixels of the network's input, both ends inclusive.
    solov2.INSTANCE_IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    solov2.FPN_INSTANCE_STRIDES = [8, 8, 16, 32, 32]
    solov2.FPN_SCALE_RANGES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
    solov2.NUM_GRIDS = [40, 36, 24, 16, 12]
    # Side of the region of positive cells around the centre of mass, as a share of the box's.
    solov2.SIGMA = 0.2

    # Category and kernel branches. The input channels are the backbone's own; a value that is
    # neither the default nor theirs is an error.
    solov2.INSTANCE_IN_CHANNELS = 256
    solov2.INSTANCE_CHANNELS = 512
    solov2.NUM_INSTANCE_CONVS = 4
    solov2.USE_DCN_IN_INSTANCE = False
    solov2.TYPE_DCN = "DCN"  # or DCNv2
    # 0 takes the count from the dataset.
    solov2.NUM_CLASSES = 80
    solov2.NUM_KERNELS = 256
    solov2.NORM = "GN"  # gcd(32, channels) groups; or "", BN, SyncBN, ...
    solov2.USE_COORD_CONV = True
    solov2.PRIOR_PROB = 0.01

    # Mask feature branch.
    solov2.MASK_IN_FEATURES = ["p2", "p3", "p4", "p5"]
    solov2.MASK_IN_CHANNELS = 256
    solov2.MASK_CHANNELS = 128
    solov2.NUM_MASKS = 256

    # Inference.
    solov2.NMS_PRE = 500
    solov2.SCORE_THR = 0.1
    solov2.UPDATE_THR = 0.05
    solov2.MASK_THR = 0.5
    solov2.MAX_PER_IMG = 100
    solov2.NMS_TYPE = "matrix"  # or mask: greedy, by mask IoU
    solov2.NMS_KERNEL = "gaussian"  # or linear
    solov2.NMS_SIGMA = 2

    # Losses.
    solov2.LOSS = CN()
    solov2.LOSS.FOCAL_USE_SIGMOID = True
    solov2.LOSS.FOCAL_ALPHA = 0.25
    solov2.LOSS.FOCAL_GAMMA = 2.0
    solov2.LOSS.FOCAL_WEIGHT = 1.0
    solov2.LOSS.DICE_WEIGHT = 3.0

    _add_our_keys(solov2)


def _add_our_keys(solov2: CN) -> None:
    """Keys that AdelaiDet does not have. The defaults are what the official code does."""
    # Which convolutions of the towers USE_DCN_IN_INSTANCE makes deformable: all, or last (Light).
    solov2.DCN_CONVS = "all"
    # Deformable convolutions of TYPE_DCN in the mask feature branch, its 1x1 projection included.
    solov2.USE_DCN_IN_MASK = False
    # The mask feature level that is given coordinates: fourth (the official code and AdelaiDet:
    # P5, none where there are fewer levels), or last (mmdetection).
    solov2.MASK_COORD_LEVEL = "fourth"
    # Two objects in one cell: both give a (kernel, mask) pair to the mask loss, or only the last.
    solov2.SHARED_CELL = "both"
    # The mask loss is averaged over (kernel, mask) pairs, or summed and divided by the number of
    # distinct positive cells (mmdetection).
    solov2.LOSS.DICE_NORMALIZER = "pairs"  # or cells
    # Candidates whose mask has no more pixels, at stride 4, than the level's stride are dropped.
    # The official code does it; it costs the smallest objects.
    solov2.AREA_FILTER = True
    # Let masks of different classes suppress one another.
    solov2.CLASS_AGNOSTIC_NMS = False
    # IoU above which NMS_TYPE mask drops the lower-scored mask (AdelaiDet's constant).
    solov2.MASK_NMS_THR = 0.5


def check_solov2_config(cfg: CN) -> None:
    """Checks `MODEL.SOLOV2`.

    Raises:
        ConfigError: names the key, its value, what is allowed.
    """
    check_grid_keys(cfg, "MODEL.SOLOV2")
    check_one_of(cfg, "MODEL.SOLOV2.MASK_COORD_LEVEL", ("fourth", "last"))
    solov2 = cfg.MODEL.SOLOV2
    if solov2.NUM_KERNELS != solov2.NUM_MASKS:
        raise ConfigError(
            f"MODEL.SOLOV2.NUM_KERNELS is {solov2.NUM_KERNELS} and MODEL.SOLOV2.NUM_MASKS is "
            f"{solov2.NUM_MASKS}; kernels are applied to the mask features: the two must be equal."
        )
