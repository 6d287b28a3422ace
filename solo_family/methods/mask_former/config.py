"""Define MaskFormer's keys (arXiv 2107.06278): official names and defaults, then our own."""

from detectron2.config import CfgNode as CN
from detectron2.projects.deeplab import add_deeplab_config

from ...config.backbone import check_norm
from ...config.one_to_many import (
    OneToMany,
    add_one_to_many,
    check_one_to_many,
    read_one_to_many,
)
from ...config.rules import check_at_least, check_one_of, check_shares
from ...errors import ConfigError

MAPPERS = ("mask_former_semantic", "mask_former_panoptic", "detr_panoptic")
_NUM_AUXILIARY = "NUM_OBJECT_QUERIES"


def add_mask_former_config(cfg: CN) -> None:
    """Add `MODEL.MASK_FORMER`, `MODEL.SWIN` and their companions to `cfg`, in place."""
    # Crops with a limit on one category's area, the DeepLab stem, and the DeepLabV3+ head.
    add_deeplab_config(cfg)

    # "" selects the mapper for the dataset's task; or mask_former_semantic, mask_former_panoptic,
    # detr_panoptic.
    cfg.INPUT.DATASET_MAPPER_NAME = ""
    # The colour augmentation of SSD (arXiv 1512.02325).
    cfg.INPUT.COLOR_AUG_SSD = False
    # The mappers pad images, on the right and below, to multiples of this; -1 turns it off.
    cfg.INPUT.SIZE_DIVISIBILITY = -1

    cfg.MODEL.MASK_FORMER = CN()
    method = cfg.MODEL.MASK_FORMER

    # Losses: loss_ce has weight 1, loss_mask (focal) MASK_WEIGHT, loss_dice DICE_WEIGHT.
    method.DEEP_SUPERVISION = True
    method.NO_OBJECT_WEIGHT = 0.1
    method.DICE_WEIGHT = 1.0
    method.MASK_WEIGHT = 20.0

    # Transformer.
    method.NHEADS = 8
    method.DROPOUT = 0.1
    method.DIM_FEEDFORWARD = 2048
    method.ENC_LAYERS = 0
    method.DEC_LAYERS = 6
    method.PRE_NORM = False
    method.HIDDEN_DIM = 256
    method.NUM_OBJECT_QUERIES = 100
    # Either a feature of the backbone, or transformer_encoder, that of the pixel decoder.
    method.TRANSFORMER_IN_FEATURE = "res5"
    # Project that feature even if it has HIDDEN_DIM channels.
    method.ENFORCE_INPUT_PROJ = False

    # Inputs are padded to multiples of this; 0 means no padding, which a pyramid can't do with, -1
    # the backbone's own value.
    method.SIZE_DIVISIBILITY = 32

    method.TEST = CN()
    method.TEST.PANOPTIC_ON = False
    method.TEST.OVERLAP_THRESHOLD = 0.0
    method.TEST.SEMANTIC_INFERENCE_METHOD = "probabilistic"  # or hard
    method.TEST.OBJECT_MASK_THRESHOLD = 0.0
    method.TEST.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE = False

    head = cfg.MODEL.SEM_SEG_HEAD
    head.MASK_DIM = 256
    head.TRANSFORMER_ENC_LAYERS = 0
    # One of the SEM_SEG_HEADS registry: BasePixelDecoder, TransformerEncoderPixelDecoder, or a
    # per-pixel classifier whose features are used: SemSegFPNHead, DeepLabV3PlusHead.
    head.PIXEL_DECODER_NAME = "BasePixelDecoder"

    _add_swin(cfg)
    _add_our_keys(method)


def _add_swin(cfg: CN) -> None:
    cfg.MODEL.SWIN = CN()
    swin = cfg.MODEL.SWIN
    swin.PRETRAIN_IMG_SIZE = 224
    swin.PATCH_SIZE = 4
    swin.EMBED_DIM = 96
    swin.DEPTHS = [2, 2, 6, 2]
    swin.NUM_HEADS = [3, 6, 12, 24]
    swin.WINDOW_SIZE = 7
    swin.MLP_RATIO = 4.0
    swin.QKV_BIAS = True
    swin.QK_SCALE = None
    swin.DROP_RATE = 0.0
    swin.ATTN_DROP_RATE = 0.0
    swin.DROP_PATH_RATE = 0.3
    swin.APE = False
    swin.PATCH_NORM = True
    swin.OUT_FEATURES = ["res2", "res3", "res4", "res5"]


def _add_our_keys(method: CN) -> None:
    """Add the keys that the official code does not have, with defaults that keep its behaviour."""
    # The results to compute. Names of Mask2Former's code, which instances follow, too.
    method.TEST.SEMANTIC_ON = True
    method.TEST.INSTANCE_ON = False
    # The lowest score of instances, exclusive: the class's probability times the mask's quality.
    # Their number is at most TEST.DETECTIONS_PER_IMAGE.
    method.TEST.INSTANCE_SCORE_THRESHOLD = 0.0

    # Ablations of the paper (3.2 and 4.4), by which query learns which object: bipartite matching;
    # or fixed, for semantic segmentation: the k-th query learns class k.
    method.MATCHING = "bipartite"
    # mask_classification; or per_pixel_likelihood, of the classes, marginalised over the masks.
    method.LOSS_TYPE = "mask_classification"

    # Further queries, in training only, which are matched with every object several times (hybrid
    # matching, arXiv 2207.13080).
    add_one_to_many(method, _NUM_AUXILIARY)

    # Compute mask losses at points instead of at all pixels, chosen as in PointRend (arXiv
    # 1912.08193). Names and numbers are those of Mask2Former's code (arXiv 2112.01527, section
    # 3.3).
    method.POINT_SAMPLING = False
    method.TRAIN_NUM_POINTS = 12544
    method.OVERSAMPLE_RATIO = 3.0
    method.IMPORTANCE_SAMPLE_RATIO = 0.75


def check_mask_former_config(cfg: CN) -> None:
    """Check `MODEL.MASK_FORMER`.

    Raises:
        ConfigError: names the key, its value, and what is allowed.
    """
    prefix = "MODEL.MASK_FORMER"
    method = cfg.MODEL.MASK_FORMER
    check_one_of(cfg, "INPUT.DATASET_MAPPER_NAME", ("", *MAPPERS))
    check_one_of(cfg, "MODEL.SEM_SEG_HEAD.NAME", ("MaskFormerHead",))
    check_one_of(cfg, f"{prefix}.TEST.SEMANTIC_INFERENCE_METHOD", ("probabilistic", "hard"))
    check_one_of(cfg, f"{prefix}.MATCHING", ("bipartite", "fixed"))
    check_one_of(cfg, f"{prefix}.LOSS_TYPE", ("mask_classification", "per_pixel_likelihood"))
    check_one_to_many(method, _NUM_AUXILIARY, prefix)
    copies = method.ONE_TO_MANY.COPIES
    for key, needed in (("MATCHING", "bipartite"), ("LOSS_TYPE", "mask_classification")):
        if copies and method[key] != needed:
            raise ConfigError(
                f"{prefix}.ONE_TO_MANY.COPIES is {copies}, but {prefix}.{key} is "
                f"{method[key]}, which matches no object with several queries. Set {prefix}.{key} "
                f"{needed}, or COPIES 0."
            )
    _check_semantic_only(method, prefix)
    sizes = ("DEC_LAYERS", "NUM_OBJECT_QUERIES", "HIDDEN_DIM", "NHEADS", "DIM_FEEDFORWARD")
    check_at_least(cfg, [f"{prefix}.{key}" for key in (*sizes, "TRAIN_NUM_POINTS")])
    check_at_least(cfg, ["MODEL.SEM_SEG_HEAD.CONVS_DIM", "MODEL.SEM_SEG_HEAD.MASK_DIM"])
    check_at_least(cfg, [f"{prefix}.OVERSAMPLE_RATIO"])
    check_at_least(cfg, [f"{prefix}.ENC_LAYERS"], least=0)
    _check_head(cfg, method.NHEADS)
    thresholds = ("OBJECT_MASK", "OVERLAP", "INSTANCE_SCORE")
    shares = [f"TEST.{name}_THRESHOLD" for name in thresholds]
    shares += ["DROPOUT", "IMPORTANCE_SAMPLE_RATIO"]
    check_shares(cfg, [f"{prefix}.{key}" for key in shares])
    if method.HIDDEN_DIM % method.NHEADS or method.HIDDEN_DIM % 4:
        raise ConfigError(
            f"{prefix}.HIDDEN_DIM is {method.HIDDEN_DIM}; it must be a multiple of {prefix}.NHEADS "
            f"({method.NHEADS}), and of 4 for the position encoding."
        )
    if not (method.TEST.SEMANTIC_ON or method.TEST.PANOPTIC_ON or method.TEST.INSTANCE_ON):
        raise ConfigError(
            f"{prefix}.TEST.SEMANTIC_ON, PANOPTIC_ON and INSTANCE_ON are all False: the model "
            "would predict nothing. Set one of them to True."
        )


def _check_head(cfg: CN, heads: int) -> None:
    """Check the keys of the pixel decoder, which has attention or other norms with some names."""
    head, prefix = cfg.MODEL.SEM_SEG_HEAD, "MODEL.SEM_SEG_HEAD"
    is_fpn = head.PIXEL_DECODER_NAME == "SemSegFPNHead"
    check_norm(cfg, f"{prefix}.NORM", [f"{prefix}.CONVS_DIM"] if is_fpn else [])
    if not head.IN_FEATURES:
        raise ConfigError(
            f"{prefix}.IN_FEATURES has no names; name the backbone's features that the pixel "
            "decoder combines."
        )
    attends = head.PIXEL_DECODER_NAME == "TransformerEncoderPixelDecoder"
    if attends and head.TRANSFORMER_ENC_LAYERS and (head.CONVS_DIM % heads or head.CONVS_DIM % 4):
        raise ConfigError(
            f"{prefix}.CONVS_DIM is {head.CONVS_DIM}; it must be a multiple of "
            f"MODEL.MASK_FORMER.NHEADS ({heads}), and of 4 for the position encoding."
        )


def _check_semantic_only(method: CN, prefix: str) -> None:
    """Refuse losses that take a class for one object where objects are wanted."""
    wanted = [name for name in ("PANOPTIC_ON", "INSTANCE_ON") if method.TEST[name]]
    for key, value, usual in (
        ("MATCHING", "fixed", "bipartite"),
        ("LOSS_TYPE", "per_pixel_likelihood", "mask_classification"),
    ):
        if wanted and method[key] == value:
            raise ConfigError(
                f"{prefix}.{key} is {value}, which is for semantic segmentation: it does not teach "
                f"the model to tell objects of a class apart, as {prefix}.TEST.{wanted[0]} needs. "
                f"Set {prefix}.{key} {usual}, or {' and '.join(wanted)} False."
            )


def one_to_many(method: CN) -> OneToMany:
    """Return the settings `cfg.MODEL.MASK_FORMER.ONE_TO_MANY`."""
    return read_one_to_many(method, _NUM_AUXILIARY)


def limit_instances(cfg: CN) -> dict[str, int]:
    """Return what limits the instances of an image, see `config.caps.instance_limits`.

    A query gives one mask, to panoptic segments as well; without either there are no instances.
    """
    test = cfg.MODEL.MASK_FORMER.TEST
    limits = {}
    if test.INSTANCE_ON:
        limits["TEST.DETECTIONS_PER_IMAGE"] = cfg.TEST.DETECTIONS_PER_IMAGE
    if test.INSTANCE_ON or test.PANOPTIC_ON:
        queries = "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES"
        limits[queries] = cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES
    return limits
