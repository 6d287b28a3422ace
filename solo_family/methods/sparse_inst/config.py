"""Define SparseInst's keys (arXiv 2203.12827): official names and defaults, then our own."""

from detectron2.config import CfgNode as CN

from ...config.caps import cap
from ...config.one_to_many import (
    OneToMany,
    add_one_to_many,
    check_one_to_many,
    read_one_to_many,
)
from ...config.rules import check_at_least, check_one_of, check_shares, get_key
from ...errors import ConfigError

DECODERS = ("BaseIAMDecoder", "GroupIAMDecoder", "GroupIAMSoftDecoder", "CrossAttentionDecoder")
TIMM_BACKBONE = "build_timm_backbone"
_NUM_AUXILIARY = "NUM_MASKS"


def add_sparse_inst_config(cfg: CN) -> None:
    """Add `MODEL.SPARSE_INST`, `MODEL.PVT` and `MODEL.CSPNET` to `cfg`, in place."""
    cfg.MODEL.SPARSE_INST = CN()
    sparse_inst = cfg.MODEL.SPARSE_INST

    # Inference: the lowest score, the probability above which a pixel is in the mask, and the
    # greatest number of instances per image.
    sparse_inst.CLS_THRESHOLD = 0.005
    sparse_inst.MASK_THRESHOLD = 0.45
    sparse_inst.MAX_DETECTIONS = 0  # follows TEST.DETECTIONS_PER_IMAGE, which is 100

    sparse_inst.ENCODER = CN()
    # FPNPPMEncoder is the official default, and an older name of InstanceContextEncoder.
    sparse_inst.ENCODER.NAME = "FPNPPMEncoder"
    sparse_inst.ENCODER.NORM = ""  # the encoder has no normalisation
    # From the finest to the coarsest.
    sparse_inst.ENCODER.IN_FEATURES = ["res3", "res4", "res5"]
    sparse_inst.ENCODER.NUM_CHANNELS = 256

    _add_decoder(sparse_inst)

    sparse_inst.LOSS = CN()
    sparse_inst.LOSS.NAME = "SparseInstCriterion"
    # labels: loss_class; masks: loss_dice, loss_mask (of pixels) and loss_objectness.
    sparse_inst.LOSS.ITEMS = ("labels", "masks")
    sparse_inst.LOSS.CLASS_WEIGHT = 2.0
    sparse_inst.LOSS.MASK_PIXEL_WEIGHT = 5.0
    sparse_inst.LOSS.MASK_DICE_WEIGHT = 2.0
    sparse_inst.LOSS.OBJECTNESS_WEIGHT = 1.0

    # The matching maximises dice^ALPHA x probability^BETA. The official SparseInstMatcherV1 gives
    # the same pairs.
    sparse_inst.MATCHER = CN()
    sparse_inst.MATCHER.NAME = "SparseInstMatcher"
    sparse_inst.MATCHER.ALPHA = 0.8
    sparse_inst.MATCHER.BETA = 0.2

    # The only mapper: with INPUT.CROP it crops as DETR does (see INPUT.CROP.SHORT_EDGES).
    sparse_inst.DATASET_MAPPER = "SparseInstDatasetMapper"

    _add_backbones(cfg)
    _add_our_keys(sparse_inst)


def _add_decoder(sparse_inst: CN) -> None:
    sparse_inst.DECODER = CN()
    decoder = sparse_inst.DECODER
    # One of DECODERS above; the last is ours, for the paper's comparison with object queries.
    decoder.NAME = "BaseIAMDecoder"
    # The number of predictions, and so the greatest number of objects per image.
    decoder.NUM_MASKS = 100
    # 0 takes the class count from the dataset.
    decoder.NUM_CLASSES = 80
    decoder.KERNEL_DIM = 128
    # Masks are predicted at the stride of the finest feature, and upsampled by this factor.
    decoder.SCALE_FACTOR = 2.0
    # Add the activation maps of their instances to the results.
    decoder.OUTPUT_IAM = False
    # Number of groups in Group decoders, and of heads in CrossAttentionDecoder.
    decoder.GROUPS = 4
    # The towers of the two branches.
    decoder.INST = CN()
    decoder.INST.DIM = 256
    decoder.INST.CONVS = 4
    decoder.MASK = CN()
    decoder.MASK.DIM = 256
    decoder.MASK.CONVS = 4


def _add_backbones(cfg: CN) -> None:
    # build_pyramid_vision_transformer: b0 to b5; LINEAR selects b2 with linear attention.
    cfg.MODEL.PVT = CN()
    cfg.MODEL.PVT.NAME = "b1"
    cfg.MODEL.PVT.OUT_FEATURES = ["p2", "p3", "p4"]
    cfg.MODEL.PVT.LINEAR = False
    cfg.MODEL.PVT.EMBED_DIMS = []  # channels of the four stages; [] selects NAME's own

    # build_cspnet_backbone: timm's name of a DarkNet or CSPNet.
    cfg.MODEL.CSPNET = CN()
    cfg.MODEL.CSPNET.NAME = "darknet53"
    cfg.MODEL.CSPNET.NORM = ""  # batch norm; or FrozenBN, SyncBN
    cfg.MODEL.CSPNET.CHANNELS = []  # of the stem and of each stage; [] selects NAME's own
    cfg.MODEL.CSPNET.OUT_FEATURES = ["csp1", "csp2", "csp3", "csp4"]


def _add_our_keys(sparse_inst: CN) -> None:
    """Add the keys that the official code does not have, with defaults that keep its behaviour."""
    # Kernel size of the convolution that predicts the activation maps: 3, or 1.
    sparse_inst.DECODER.IAM_KERNEL_SIZE = 3
    # "" selects the decoder's own activation (softmax for GroupIAMSoftDecoder, else sigmoid); or
    # sigmoid, softmax.
    sparse_inst.DECODER.IAM_ACTIVATION = ""
    # The paper's ablations leave out, one by one: pyramid pooling of the coarsest feature; the
    # fusion of all levels, so that only the finest is used; the coordinates before both branches.
    sparse_inst.ENCODER.PYRAMID_POOLING = True
    sparse_inst.ENCODER.FUSION = True
    sparse_inst.DECODER.USE_COORDS = True
    # Without it scores are the class probabilities, and there is no loss_objectness. A
    # LOSS.OBJECTNESS_WEIGHT of 0 alone leaves the scores multiplied by an untrained objectness, as
    # in the official code.
    sparse_inst.DECODER.OBJECTNESS = True
    # Further activation maps, in training only, which are matched with every object several times
    # (hybrid matching, arXiv 2207.13080).
    add_one_to_many(sparse_inst, _NUM_AUXILIARY)
    # Scale random weights to the features of the backbone (`modeling/unit_init.py`): the encoder
    # has no norms, and features of some of timm's models are large.
    sparse_inst.UNIT_INIT = False
    # Matrix NMS on top, for crowded scenes: "" or matrix. The other keys are as in SOLOV2.
    sparse_inst.NMS_TYPE = ""
    sparse_inst.NMS_KERNEL = "gaussian"
    sparse_inst.NMS_SIGMA = 2
    sparse_inst.UPDATE_THR = 0.005
    sparse_inst.CLASS_AGNOSTIC_NMS = False
    # Predict panoptic segments, too, with a model trained on a panoptic dataset; only things are
    # instances then. Masks that score above the first threshold take part; segments are kept that
    # have at least this share of their mask. The names are those of MaskFormer's keys.
    sparse_inst.PANOPTIC_ON = False
    sparse_inst.OBJECT_MASK_THRESHOLD = 0.4
    sparse_inst.OVERLAP_THRESHOLD = 0.5


def check_sparse_inst_config(cfg: CN) -> None:
    """Check `MODEL.SPARSE_INST`.

    Raises:
        ConfigError: names the key, its value, and what is allowed.
    """
    prefix = "MODEL.SPARSE_INST"
    encoders = ("InstanceContextEncoder", "FPNPPMEncoder")
    check_one_of(cfg, f"{prefix}.ENCODER.NAME", encoders)
    check_one_of(cfg, f"{prefix}.ENCODER.NORM", ("",))
    check_one_of(cfg, f"{prefix}.DECODER.NAME", DECODERS)
    check_one_of(cfg, f"{prefix}.DECODER.IAM_KERNEL_SIZE", (1, 3))
    check_one_of(cfg, f"{prefix}.DECODER.IAM_ACTIVATION", ("", "sigmoid", "softmax"))
    check_one_of(cfg, f"{prefix}.LOSS.NAME", ("SparseInstCriterion",))
    check_one_of(cfg, f"{prefix}.MATCHER.NAME", ("SparseInstMatcher", "SparseInstMatcherV1"))
    check_one_of(cfg, f"{prefix}.DATASET_MAPPER", ("SparseInstDatasetMapper",))
    check_one_of(cfg, f"{prefix}.NMS_TYPE", ("", "matrix"))
    check_one_of(cfg, f"{prefix}.NMS_KERNEL", ("gaussian", "linear"))
    check_at_least(cfg, [f"{prefix}.NMS_SIGMA"], least=0)  # below, scores would rise
    sparse_inst = cfg.MODEL.SPARSE_INST
    if sparse_inst.UNIT_INIT and cfg.MODEL.BACKBONE.NAME != TIMM_BACKBONE:
        raise ConfigError(
            f"{prefix}.UNIT_INIT is True, but MODEL.BACKBONE.NAME is {cfg.MODEL.BACKBONE.NAME}, "
            f"whose weights are loaded after the model is built. Use {TIMM_BACKBONE}, or leave "
            f"{prefix}.UNIT_INIT False."
        )
    check_one_to_many(sparse_inst, _NUM_AUXILIARY, prefix)
    unknown = [item for item in sparse_inst.LOSS.ITEMS if item not in ("labels", "masks")]
    if unknown or not sparse_inst.LOSS.ITEMS:
        raise ConfigError(
            f"{prefix}.LOSS.ITEMS is {sparse_inst.LOSS.ITEMS}; allowed: labels, masks, or both."
        )
    decoder = sparse_inst.DECODER
    counts = ("NUM_MASKS", "KERNEL_DIM", "GROUPS", "INST.DIM", "INST.CONVS", "MASK.DIM")
    check_at_least(cfg, [f"{prefix}.DECODER.{key}" for key in counts])
    check_at_least(cfg, [f"{prefix}.DECODER.MASK.CONVS"], least=0)
    # Pyramid pooling has four maps of a quarter of the channels.
    check_at_least(cfg, [f"{prefix}.ENCODER.NUM_CHANNELS"], least=4)
    names = ("CLS_", "MASK_", "OBJECT_MASK_", "OVERLAP_")
    thresholds = [f"{prefix}.{name}THRESHOLD" for name in names]
    check_shares(cfg, [*thresholds, f"{prefix}.UPDATE_THR"])
    if decoder.NAME != "BaseIAMDecoder" and decoder.INST.DIM % decoder.GROUPS:
        raise ConfigError(
            f"{prefix}.DECODER.GROUPS is {decoder.GROUPS}, which does not divide "
            f"{prefix}.DECODER.INST.DIM, {decoder.INST.DIM}: each group has its share of channels."
        )


def one_to_many(sparse_inst: CN) -> OneToMany:
    """Return the settings `cfg.MODEL.SPARSE_INST.ONE_TO_MANY`."""
    return read_one_to_many(sparse_inst, _NUM_AUXILIARY)


def limit_instances(cfg: CN) -> dict[str, int]:
    """Return what limits the instances of an image, see `config.caps.instance_limits`."""
    masks = "MODEL.SPARSE_INST.DECODER.NUM_MASKS"
    return {**cap(cfg, "MODEL.SPARSE_INST.MAX_DETECTIONS"), masks: get_key(cfg, masks)}
