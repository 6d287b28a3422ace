"""Define the keys that every method shares, without changing any default of detectron2."""

from detectron2.config import CfgNode as CN

from .copy_paste import add_copy_paste_config
from .sampling import add_sampling_config


def add_common_config(cfg: CN) -> None:
    """Add the shared keys to `cfg`, in place."""
    # Names of the classes, in the order of the model's outputs. Training fills them in from the
    # dataset, so that a saved config names its classes even where the dataset is not available.
    cfg.MODEL.CLASS_NAMES = []
    # The ids that these have in the dataset, which results are written with. Filled in likewise.
    cfg.MODEL.CLASS_IDS = []
    # Train on several datasets with different classes, each of which is learnt. Otherwise all of
    # DATASETS.TRAIN have the same classes, by their names.
    cfg.DATASETS.CLASS_UNION = False
    # Which of these are stuff, without instances. Filled in likewise.
    cfg.MODEL.STUFF_IDS = []

    # In demo, Predictor, evaluation without training and benchmark, on a GPU: from the second time
    # on that a padded size occurs, replay network and selection as a CUDA graph: the same results,
    # with one launch instead of hundreds (modeling/cuda_graphs.py).
    cfg.MODEL.INFERENCE = CN()
    cfg.MODEL.INFERENCE.CUDA_GRAPH = True
    # Precision of inference in demo, evaluation and benchmark, never in training or export:
    # float32, float16, bfloat16, or "auto": bfloat16 where the processor is fast with it and the
    # first image agrees with float32 (modeling/precision.py).
    cfg.MODEL.INFERENCE.PRECISION = "float32"
    # In the same places: "auto" folds batch norms into convolutions and, on a CPU, packs weights
    # once; results are the same up to rounding. "off" runs the model as it was trained.
    cfg.MODEL.INFERENCE.OPTIMIZE = "auto"

    # Freeze the statistics of the backbone's batch-norm layers in training; their weights and
    # biases are trained (the official SOLO code's `norm_eval`).
    cfg.MODEL.BACKBONE.NORM_EVAL = False

    # build_timm_backbone, build_timm_fpn_backbone: timm's name of the model, with or without a tag
    # of its weights, for instance "convnext_tiny.fb_in22k" (docs/choosing.md has the kinds).
    cfg.MODEL.TIMM = CN()
    cfg.MODEL.TIMM.NAME = "resnet18"
    # Features are named by stride, as in detectron2's ResNet: res2 has stride 4, res5 has stride
    # 32.
    cfg.MODEL.TIMM.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    # A checkpoint with timm's key names, or "pretrained" for timm's own download. It initialises
    # the backbone, and is not read when MODEL.WEIGHTS names a checkpoint of the whole model.
    cfg.MODEL.TIMM.WEIGHTS = ""

    # The coarsest stride: 8 or 16 for models that can be dilated. The deepest layer then gives the
    # feature of that stride (res3 for stride 8).
    cfg.MODEL.TIMM.OUTPUT_STRIDE = 32

    # Parameters of the timm model whose names begin with one of these are not trained, for instance
    # ["conv_stem", "blocks.0"].
    cfg.MODEL.TIMM.FREEZE = []

    # build_vgg_atrous_backbone: VGG-16 at stride 8. Either a checkpoint of torchvision's vgg16, or
    # "pretrained" for torchvision's own download; it is not read when MODEL.WEIGHTS names a
    # checkpoint. MODEL.BACKBONE.FREEZE_AT counts its five stages.
    cfg.MODEL.VGG = CN()
    cfg.MODEL.VGG.WEIGHTS = ""

    # "" selects the method's own optimizer (see solo_family/registry.py); the others are SGD and
    # AdamW (also written ADAMW).
    cfg.SOLVER.OPTIMIZER = ""
    # Use AdamW's AMSGrad variant.
    cfg.SOLVER.AMSGRAD = False
    # Factor on the backbone's learning rate; 0 selects the method's own factor.
    cfg.SOLVER.BACKBONE_MULTIPLIER = 0.0
    # Factor on the learning rate from each block of the backbone to the one before it, for instance
    # 0.8 for transformers; 1 for one rate. The pyramid's convolutions have the whole rate.
    cfg.SOLVER.BACKBONE_LAYER_DECAY = 1.0
    # What WarmupCosineLR and OneCycleLR end with; version 0.6 of detectron2 has no such key.
    cfg.SOLVER.setdefault("BASE_LR_END", 0.0)
    # The batch size that BASE_LR is meant for: with another IMS_PER_BATCH the learning rate is
    # scaled in proportion. 0 leaves it unchanged.
    cfg.SOLVER.REFERENCE_BATCH_SIZE = 0
    # Compute a batch in so many parts, one after another, which takes the memory of one part: the
    # gradients and the losses are those of the whole batch, but batch norms that are trained see
    # the images of a part. IMS_PER_BATCH stays the number of images of an iteration.
    cfg.SOLVER.ACCUMULATE = 1
    # Weight decay of nn.Embedding, as WEIGHT_DECAY_NORM is that of normalisation layers.
    cfg.SOLVER.WEIGHT_DECAY_EMBED = 0.0
    # Parameters whose names contain one of these texts don't decay, for instance ("patch_embed",).
    cfg.SOLVER.NO_DECAY_NAMES = ()
    # For LR_SCHEDULER_NAME "WarmupPolyLR": the power in (1 - iteration / MAX_ITER) ^ power, and the
    # smallest value of that factor. Names and defaults are those of detectron2's DeepLab project.
    cfg.SOLVER.POLY_LR_POWER = 0.9
    cfg.SOLVER.POLY_LR_CONSTANT_ENDING = 0.0
    # Store the weights of convolutions, and hence feature maps, channels last: the same numbers in
    # another order in memory. On a GPU this makes some models train faster (SparseInst in float32,
    # SOLOv2 in bfloat16) and others slower (SOLOv2 in float32, SparseInst in bfloat16), so measure
    # it. Checkpoints fit either way.
    cfg.SOLVER.CHANNELS_LAST = False
    # Keep only the inputs of the backbone's blocks and of the heads' parts in training, and compute
    # the rest again in the backward pass: less memory and more time, with the same gradients.
    cfg.SOLVER.ACTIVATION_CHECKPOINTING = False
    # Compile the heads with torch.compile in training, for sizes that vary: the same losses up to
    # rounding. Evaluations run them uncompiled, and so does training where compiling fails.
    cfg.SOLVER.COMPILE = False
    # On a CPU: use fewer threads while other programs need the cores (`engine/shared_cores.py`).
    cfg.SOLVER.SHARE_CORES = True
    # Keep an exponential moving average of the weights, evaluated and saved beside them.
    cfg.SOLVER.EMA = CN()
    cfg.SOLVER.EMA.ENABLED = False
    cfg.SOLVER.EMA.DECAY = 0.9998
    # Keep the checkpoint that is best by this metric, for instance "segm/AP"; "" keeps none.
    cfg.TEST.BEST_METRIC = ""
    # End training after this many evaluations in a row without a better TEST.BEST_METRIC; 0 never
    # does.
    cfg.TEST.EARLY_STOP_PATIENCE = 0
    # At each evaluation also log the losses on DATASETS.TEST, without augmentation: "validation/".
    cfg.TEST.EVAL_LOSS = False
    # Also measure the recall of masks as class-agnostic proposals (evaluation/proposal_recall.py),
    # for methods whose evaluation does not include it anyway.
    cfg.TEST.PROPOSAL_RECALL = False
    # The lowest score that demo, Predictor and visualize-results show, unless they are given
    # another; metrics don't depend on it. None is the next one or, if that is None, 0.5.
    cfg.TEST.CONFIDENCE_THRESHOLD = None
    # The one with the best F1 on DATASETS.TEST. The report of a training fills it in.
    cfg.TEST.BEST_CONFIDENCE = None
    # What the log and metrics.json have is also written by these: "tensorboard", "wandb", "mlflow"
    # and "csv" (engine/loggers.py).
    cfg.OUTPUT = CN()
    cfg.OUTPUT.LOGGERS = ("tensorboard",)
    # Write the folder `report` when a training has ended (docs/report.md).
    cfg.OUTPUT.REPORT = True
    # What computes COCO's metrics: "hotcoco", or "pycocotools", which gives the same numbers in
    # many times the time.
    cfg.TEST.COCO_LIBRARY = "hotcoco"
    # Cut images into overlapping tiles with sides of this many pixels, and merge the predictions of
    # the tiles; 0 predicts images as a whole (docs/tiles.md). Each tile is resized by
    # INPUT.MIN_SIZE_TEST, like an image.
    cfg.TEST.TILE = CN()
    cfg.TEST.TILE.SIZE = 0
    # Overlap of neighbouring tiles, in pixels; it should exceed the length of most objects.
    cfg.TEST.TILE.OVERLAP = 64
    # How to merge the masks of an object that is in several tiles: "join" unites them, and "nms"
    # keeps the one with the highest score.
    cfg.TEST.TILE.MERGE = "join"
    # Number of tiles per batch; it does not affect the results.
    cfg.TEST.TILE.BATCH = 4
    # With SOLVER.AMP.ENABLED: float16 (with loss scaling) or bfloat16.
    cfg.SOLVER.AMP.PRECISION = "float16"
    # Losses are divided by counts (of objects, of cells) within this process, as published. True
    # divides them by the counts of all processes, so that the losses don't depend on how images are
    # spread over processes. MaskFormer and SparseInst don't read it: see docs/distributed.md.
    cfg.SOLVER.NORMALIZE_LOSS_GLOBALLY = False

    # What detectron2's samplers read, and it has no defaults for: the share of images that
    # RandomSubsetTrainingSampler takes, and pairs of a name of DATASETS.TRAIN and how often
    # WeightedTrainingSampler and WeightedCategoryTrainingSampler take its images.
    add_sampling_config(cfg)
    # Skip unreadable images in training, and count them (--skip-bad-images).
    cfg.DATALOADER.SKIP_BAD_IMAGES = False
    # Seconds to wait for a batch of a worker process before the run ends; 0 waits forever.
    cfg.DATALOADER.TIMEOUT = 600
    # Keep decoded training images in memory, at most so many bytes on a machine, for all processes
    # that load images: height times width times 3 for each. 0 decodes them each time. The batches
    # are the same.
    cfg.DATALOADER.CACHE_BYTES = 0

    # Large-scale jitter (Ghiasi et al., arXiv 2012.07177): resize by a random factor, then crop or
    # pad to a square. It replaces MIN_SIZE_TRAIN and MAX_SIZE_TRAIN, whatever the labels are, and
    # doesn't go with INPUT.CROP.ENABLED.
    cfg.INPUT.LSJ = CN()
    cfg.INPUT.LSJ.ENABLED = False
    cfg.INPUT.LSJ.IMAGE_SIZE = 1024
    cfg.INPUT.LSJ.MIN_SCALE = 0.1
    cfg.INPUT.LSJ.MAX_SCALE = 2.0
    # What is padded is "gray" (128), as in detectron2, or has the "mean" colour (MODEL.PIXEL_MEAN),
    # which is 0 for the network: mmdetection pads after normalisation.
    cfg.INPUT.LSJ.PAD = "gray"

    add_copy_paste_config(cfg)

    # The values that become 0 and 255 in files deeper than 8 bits (12 bits stored in 16, floats,
    # counts), for instance (0, 4095) for 12 bits. None, or "auto", infers 0 to 65535 for files that
    # use 16 bits and 0 to 1 for floats, and refuses other files.
    cfg.INPUT.RANGE = None
    # Channels that pictures of results show as red, green and blue, counted from 1: (4, 3, 2), or
    # one of them for grey. () are those that INPUT.FORMAT calls R, G and B, or the first three.
    cfg.INPUT.BANDS = ()
    # Files of more pixels than this are not opened; 0 is Pillow's limit, 178,956,970.
    cfg.INPUT.MAX_PIXELS = 0

    # In training, before all other augmentations, crop images to windows of this height and width,
    # in pixels of the files, each around a random object; () crops none. If the format allows it,
    # only the window of a large image is read. The crop of INPUT.CROP.ENABLED is independent of it.
    cfg.INPUT.CROP.AROUND_OBJECTS = ()

    # With INPUT.CROP: crop only half of the images, after a resize to one of these short edges, and
    # resize again afterwards (DETR). () selects the order of the method and its labels; SOLO crops
    # every image before resizing, MaskFormer after it.
    cfg.INPUT.CROP.SHORT_EDGES = ()

    # Whether to "keep" panoptic segments that a crop removes completely, as objects with an empty
    # mask, as MaskFormer's official mappers do, or to "drop" them. "" is the method's default.
    cfg.INPUT.EMPTY_SEGMENTS = ""
    # What resizes images bilinearly: "pillow", as detectron2 does, which averages where an image
    # shrinks; or "cv2", as mmdetection and so SOLO's official code do, which does not.
    cfg.INPUT.RESIZE = "pillow"
    # In training, decode JPEG files at a half, a quarter or an eighth of their size where that is
    # at least the size they are resized to. It is faster, and the pixels are slightly others.
    cfg.INPUT.REDUCED_JPEG = False
    # How to sample the nearest pixel when semantic labels are resized: at the "center" of each new
    # pixel (Pillow), or at its upper left "corner" (torch), as MaskFormer's official mapper does.
    # "" is the method's default.
    cfg.INPUT.LABEL_SAMPLING = ""

    # Colour jitter: brightness, contrast and saturation are each scaled by a random factor between
    # 1 - value and 1 + value; 0 turns it off.
    cfg.INPUT.COLOR_AUG = CN()
    cfg.INPUT.COLOR_AUG.ENABLED = False
    cfg.INPUT.COLOR_AUG.BRIGHTNESS = 0.4
    cfg.INPUT.COLOR_AUG.CONTRAST = 0.4
    cfg.INPUT.COLOR_AUG.SATURATION = 0.4
