"""Build the backbone that a configuration names."""

from detectron2.config import CfgNode
from detectron2.modeling.backbone import FPN, Backbone, build_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool

from .layers import torchvision_deform_conv


def built_backbone(cfg: CfgNode) -> Backbone:
    """Return the backbone `MODEL.BACKBONE.NAME`.

    The coarsest level of a pyramid is pooled, whichever it is: detectron2 pools p5, which a pyramid
    without res5 (`MODEL.FPN.IN_FEATURES`) lacks, so that the first image would end with a
    traceback.
    """
    with torchvision_deform_conv():
        backbone = build_backbone(cfg)
    if isinstance(backbone, FPN) and isinstance(backbone.top_block, LastLevelMaxPool):
        levels = list(backbone.output_shape())
        backbone.top_block.in_feature = levels[len(backbone.in_features) - 1]
    return backbone
