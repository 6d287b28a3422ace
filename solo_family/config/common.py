"""Keys that every method shares. No key of detectron2's is given another default."""

from detectron2.config import CfgNode as CN


def add_common_config(cfg: CN) -> None:
    """Adds the shared keys to `cfg`, in place."""
    # Names of the classes, in the order of the model's outputs. Training fills it in from the
    # dataset, so that a saved config names classes where the dataset is not at hand.
    cfg.MODEL.CLASS_NAMES = []
    # The ids that these have in the dataset, which results are written with. Filled in likewise.
    cfg.MODEL.CLASS_IDS = []
    # Train on several datasets with different classes, each of which is learnt. Otherwise all of
    # DATASETS.TRAIN have the same classes, by their names.
    cfg.DATASETS.CLASS_UNION = False
    # Which of these are stuff, without instances. Filled in likewise.
    cfg.MODEL.STUFF_IDS = []

    # Network and selection are replayed as a CUDA graph from the second time on that a padded size
    # comes: the same results, with one launch instead of hundreds (modeling/cuda_graphs.py).
    cfg.MODEL.INFERENCE = CN()
    cfg.MODEL.INFERENCE.CUDA_GRAPH = False
    # Of the weights in demo, evaluation and benchmark, never in training or export: float32,
    # float16 or bfloat16 (modeling/inference.py).
    cfg.MODEL.INFERENCE.PRECISION = "float32"

    # Batch-norm layers of the backbone keep their statistics while training; their weights and
    # biases are trained (the official SOLO code's `norm_eval`).
    cfg.MODEL.BACKBONE.NORM_EVAL = False

    # Any timm model with `features_only`: build_timm_backbone, build_timm_fpn_backbone.
    cfg.MODEL.TIMM = CN()
    cfg.MODEL.TIMM.NAME = "resnet18"
    # Named by stride, as detectron2's ResNet: res2 is stride 4, res5 is stride 32.
    cfg.MODEL.TIMM.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    # A checkpoint with timm's key names, or "pretrained" for timm's own download. It initialises
    # the backbone, and is not read when MODEL.WEIGHTS names a checkpoint of the whole model.
    cfg.MODEL.TIMM.WEIGHTS = ""

    # The coarsest stride: 8 or 16 for models that can be dilated. The deepest layer then gives the
    # feature of that stride (res3 is stride 8).
    cfg.MODEL.TIMM.OUTPUT_STRIDE = 32

    # Parameters of the timm model whose names begin so are not trained: ["conv_stem", "blocks.0"].
    cfg.MODEL.TIMM.FREEZE = []

    # build_vgg_atrous_backbone: VGG-16 at stride 8. A checkpoint of torchvision's vgg16, or
    # "pretrained" for torchvision's own download; not read when MODEL.WEIGHTS names a checkpoint.
    # MODEL.BACKBONE.FREEZE_AT counts its five stages.
    cfg.MODEL.VGG = CN()
    cfg.MODEL.VGG.WEIGHTS = ""

    # "" is the method's own (see solo_family/registry.py); or SGD, AdamW (also written ADAMW).
    cfg.SOLVER.OPTIMIZER = ""
    # With AdamW: its AMSGrad variant.
    cfg.SOLVER.AMSGRAD = False
    # Factor on the backbone's learning rate; 0 is the method's own.
    cfg.SOLVER.BACKBONE_MULTIPLIER = 0.0
    # The batch size that BASE_LR is for: with another IMS_PER_BATCH the rate is scaled in
    # proportion. 0 leaves it as it is.
    cfg.SOLVER.REFERENCE_BATCH_SIZE = 0
    # Weight decay of nn.Embedding, as WEIGHT_DECAY_NORM is of norms.
    cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.0
    # With LR_SCHEDULER_NAME "WarmupPolyLR": (1 - iteration / MAX_ITER) ^ power, and the factor that
    # it does not fall below. Names and defaults of detectron2's DeepLab project.
    cfg.SOLVER.POLY_LR_POWER = 0.9
    cfg.SOLVER.POLY_LR_CONSTANT_ENDING = 0.0
    # Keep the weights of convolutions, and with them maps of features, channel by channel within a
    # pixel: the same numbers in another order in memory. On a GPU some models train faster so
    # (SparseInst in float32, SOLOv2 in bfloat16), others slower (SOLOv2 in float32, SparseInst in
    # bfloat16): try it. Checkpoints fit either way.
    cfg.SOLVER.CHANNELS_LAST = False
    # An exponential moving average of the weights, evaluated and saved beside them.
    cfg.SOLVER.EMA = CN()
    cfg.SOLVER.EMA.ENABLED = False
    cfg.SOLVER.EMA.DECAY = 0.9998
    # Keep the checkpoint that is best by this metric, for instance "segm/AP"; "" keeps none.
    cfg.TEST.BEST_METRIC = ""
    # Also measure the recall of masks as class-agnostic proposals (evaluation/proposal_recall.py),
    # for methods that are not evaluated so anyway.
    cfg.TEST.PROPOSAL_RECALL = False
    # With SOLVER.AMP.ENABLED: float16 (with loss scaling) or bfloat16.
    cfg.SOLVER.AMP.PRECISION = "float16"
    # Losses are divided by counts (of objects, of cells) of this process, as published; True
    # divides them by the counts of all processes, so that they don't depend on the sharding, as
    # MaskFormer and SparseInst always do.
    cfg.SOLVER.NORMALIZE_LOSS_GLOBALLY = False

    # Go on in training past images that can't be read, and count them (--skip-bad-images).
    cfg.DATALOADER.SKIP_BAD_IMAGES = False

    # Large-scale jitter (Ghiasi et al., arXiv 2012.07177): resize by a random factor, then crop or
    # pad to a square. Takes the place of MIN_SIZE_TRAIN and MAX_SIZE_TRAIN.
    cfg.INPUT.LSJ = CN()
    cfg.INPUT.LSJ.ENABLED = False
    cfg.INPUT.LSJ.IMAGE_SIZE = 1024
    cfg.INPUT.LSJ.MIN_SCALE = 0.1
    cfg.INPUT.LSJ.MAX_SCALE = 2.0

    # Of files deeper than 8 bits (12 bits in 16, floats, counts): the values that become 0 and 255,
    # (0, 4095) for 12 bits. None, or "auto", takes files that fill their 16 bits and fractions of 0
    # to 1, and refuses what it can't tell.
    cfg.INPUT.RANGE = None
    # Files of more pixels than this are not opened; 0 is Pillow's limit, 178,956,970.
    cfg.INPUT.MAX_PIXELS = 0

    # With INPUT.CROP: crop in half of the images only, after a resize to one of these short edges,
    # and resize again afterwards (DETR). () is the method's own; SOLO crops every image, first.
    cfg.INPUT.CROP.SHORT_EDGES = ()

    # Random colours: each is scaled by a factor from 1 - its value to 1 + its value; 0 is off.
    cfg.INPUT.COLOR_AUG = CN()
    cfg.INPUT.COLOR_AUG.ENABLED = False
    cfg.INPUT.COLOR_AUG.BRIGHTNESS = 0.4
    cfg.INPUT.COLOR_AUG.CONTRAST = 0.4
    cfg.INPUT.COLOR_AUG.SATURATION = 0.4
