"""Define InstanceFCN's keys (arXiv 1603.08678); it has no published code, so all names are ours."""

from detectron2.config import CfgNode as CN

from ...config.rules import check_at_least, check_one_of, check_shares
from ...errors import ConfigError


def add_instance_fcn_config(cfg: CN) -> None:
    """Add `MODEL.INSTANCE_FCN` to `cfg`, in place."""
    cfg.MODEL.INSTANCE_FCN = CN()
    instance_fcn = cfg.MODEL.INSTANCE_FCN

    # The backbone's feature that the head works on: conv5 of build_vgg_atrous_backbone; or any
    # other, such as p3 of an FPN.
    instance_fcn.IN_FEATURE = "conv5"
    # k: an object has k x k relative positions, and as many score maps.
    instance_fcn.NUM_POSITIONS = 5
    # m: the side of a window, in cells of the feature map.
    instance_fcn.WINDOW_SIZE = 21
    instance_fcn.CHANNELS = 512

    # The windows that are trained on. Whether an object is too large or too small for a window is
    # judged by the longer side of its box; how far it is off the centre, by the greater of the
    # distances along x and y.
    instance_fcn.WINDOWS_PER_IMAGE = 256
    instance_fcn.POSITIVE_FRACTION = 0.5
    # What to do if there are some positives, but fewer than requested: take more negatives (as
    # Faster R-CNN does), repeat positives, or take fewer windows, as many negatives as positives.
    instance_fcn.SHORT_OF_POSITIVES = "negatives"  # or repeat, fewer
    # DeepMask's rule (arXiv 1506.06204), in pixels of its window of 224, which are
    # scaled to WINDOW_SIZE cells. Octaves: 0.25 is a factor of 2^0.25.
    instance_fcn.OBJECT_SIZE = 128
    instance_fcn.POSITIVE_SHIFT = 16
    instance_fcn.POSITIVE_OCTAVES = 0.25
    instance_fcn.NEGATIVE_SHIFT = 32
    instance_fcn.NEGATIVE_OCTAVES = 1.0

    instance_fcn.LOSS = CN()
    instance_fcn.LOSS.OBJECTNESS_WEIGHT = 1.0
    # Weight of loss_mask, a mean over a window's pixels; WINDOW_SIZE squared makes it their sum.
    instance_fcn.LOSS.MASK_WEIGHT = 1.0
    # Negative windows learn empty masks, too.
    instance_fcn.LOSS.NEGATIVE_MASKS = False
    instance_fcn.LOSS.CLASS_WEIGHT = 1.0

    # Inference: the short edges that an image is resized to, 600 x 1.5^{-4..1}. () keeps the image
    # as it is loaded (INPUT.MIN_SIZE_TEST). INPUT.MAX_SIZE_TEST limits the long edge.
    instance_fcn.TEST_SCALES = (119, 178, 267, 400, 600, 900)
    # What proposals are ranked by: objectness, or its product with the mean probability inside the
    # mask.
    instance_fcn.SCORE = "objectness"  # or product
    instance_fcn.MASK_THR = 0.5
    # The number of best windows that go into NMS; 0 for all.
    instance_fcn.NMS_PRE = 0
    instance_fcn.NMS_TYPE = "box"  # by the masks' tight boxes; or matrix, by masks
    # IoU above which NMS_TYPE box drops the lower-scored proposal.
    instance_fcn.NMS_THR = 0.8
    instance_fcn.NMS_KERNEL = "gaussian"  # or linear, for NMS_TYPE matrix
    instance_fcn.NMS_SIGMA = 2.0
    instance_fcn.MAX_PER_IMG = 1000

    # Ours, not the paper's: classify proposals by the mean of the features inside their masks.
    # Without it all proposals have one class, and NUM_CLASSES is not read. 0 takes the class count
    # from the dataset.
    instance_fcn.CLASSIFY = False
    instance_fcn.NUM_CLASSES = 80


def check_instance_fcn_config(cfg: CN) -> None:
    """Check `MODEL.INSTANCE_FCN`.

    Raises:
        ConfigError: names the key, its value, and what is allowed.
    """
    prefix = "MODEL.INSTANCE_FCN"
    instance_fcn = cfg.MODEL.INSTANCE_FCN
    check_one_of(cfg, f"{prefix}.SHORT_OF_POSITIVES", ("negatives", "repeat", "fewer"))
    check_one_of(cfg, f"{prefix}.SCORE", ("objectness", "product"))
    check_one_of(cfg, f"{prefix}.NMS_TYPE", ("box", "matrix"))
    check_one_of(cfg, f"{prefix}.NMS_KERNEL", ("gaussian", "linear"))
    check_at_least(cfg, [f"{prefix}.NMS_SIGMA"], least=0)  # below, scores would rise
    counts = ("WINDOWS_PER_IMAGE", "MAX_PER_IMG", "CHANNELS", "OBJECT_SIZE")
    check_at_least(cfg, [f"{prefix}.{key}" for key in counts])
    check_shares(cfg, [f"{prefix}.{key}" for key in ("POSITIVE_FRACTION", "MASK_THR", "NMS_THR")])
    if any(side < 1 for side in instance_fcn.TEST_SCALES):
        raise ConfigError(
            f"{prefix}.TEST_SCALES is {tuple(instance_fcn.TEST_SCALES)}; each must be a short edge "
            "of 1 pixel or more, or all () for the size that images are loaded with."
        )
    if not 1 <= instance_fcn.NUM_POSITIONS <= instance_fcn.WINDOW_SIZE:
        raise ConfigError(
            f"{prefix}.NUM_POSITIONS is {instance_fcn.NUM_POSITIONS}; it must be from 1 to "
            f"{prefix}.WINDOW_SIZE, which is {instance_fcn.WINDOW_SIZE}."
        )
    if instance_fcn.NMS_TYPE == "matrix" and instance_fcn.NMS_PRE < 1:
        raise ConfigError(
            f"{prefix}.NMS_PRE is {instance_fcn.NMS_PRE}: with NMS_TYPE 'matrix', which compares "
            "each mask with all others, a limit is needed, for instance 2000."
        )
    for key in ("SHIFT", "OCTAVES"):
        check_at_least(cfg, [f"{prefix}.POSITIVE_{key}"], least=0)  # below, none is positive
        positive, negative = (instance_fcn[f"{label}_{key}"] for label in ("POSITIVE", "NEGATIVE"))
        if positive > negative:
            raise ConfigError(
                f"{prefix}.POSITIVE_{key} is {positive}, above {prefix}.NEGATIVE_{key}, "
                f"{negative}: a window can't be both positive and negative."
            )


def limit_instances(cfg: CN) -> dict[str, int]:
    """Return what limits the proposals of an image, see `config.caps.instance_limits`."""
    instance_fcn = cfg.MODEL.INSTANCE_FCN
    limits = {"MODEL.INSTANCE_FCN.MAX_PER_IMG": instance_fcn.MAX_PER_IMG}
    if instance_fcn.NMS_PRE:
        limits["MODEL.INSTANCE_FCN.NMS_PRE"] = instance_fcn.NMS_PRE
    return limits
