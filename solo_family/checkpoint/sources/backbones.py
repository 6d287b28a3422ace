"""ImageNet backbones alone: torchvision's and timm's ResNets, Swin, VGG-16."""

from ..rules import Rule
from ..source import IMAGENET_RGB, Source
from .resnet import torchvision_resnet
from .swin import official_swin

_CLASSIFIER = "the ImageNet classifier, which no method uses"
# Of the features that a dense task takes; ImageNet's classifier has none.
_OUTPUT_NORMS = r"norm\d\.(?:weight|bias)"
_RESNET_KEYS = {**IMAGENET_RGB, "MODEL.RESNETS.STRIDE_IN_1X1": False}

SOURCES = (
    Source(
        name="resnet",
        title="a ResNet of torchvision or timm",
        recognised_by=(r"^conv1\.weight$", r"^layer4\.0\.conv1\.weight$"),
        rules=torchvision_resnet("", ""),
        keys=_RESNET_KEYS,
        backbone_only=True,
    ),
    Source(
        name="resnet-vd",
        title="a ResNet-D (vd) of timm",
        recognised_by=(
            r"^conv1\.0\.weight$",
            r"^conv1\.6\.weight$",
            r"^layer4\.0\.downsample\.1\.",
        ),
        rules=(
            Rule(r"fc\..+", reason=_CLASSIFIER),
            Rule(r"((?:conv1|bn1|layer\d)\..+)", r"model.\1"),
        ),
        keys=dict(IMAGENET_RGB),
        backbone_only=True,
    ),
    Source(
        name="official-swin",
        title="the official Swin Transformer",
        recognised_by=(r"^layers\.0\.blocks\.0\.attn\.qkv\.", r"^layers\.0\.downsample\."),
        rules=(
            Rule(r"(?:norm|head)\..+", reason=_CLASSIFIER),
            *official_swin("", ""),
        ),
        backbone_only=True,
        fresh=_OUTPUT_NORMS,
    ),
    Source(
        name="timm-swin",
        title="timm's Swin Transformer",
        recognised_by=(r"^layers\.0\.blocks\.0\.attn\.qkv\.", r"^layers\.3\.downsample\."),
        rules=(
            Rule(r"(?:norm|head)\..+", reason=_CLASSIFIER),
            Rule(r".+\.(?:relative_position_index|attn_mask)", reason="computed"),
            Rule(r"((?:patch_embed|layers)\..+)", r"model.\1"),
        ),
        backbone_only=True,
        fresh=_OUTPUT_NORMS,
    ),
    Source(
        name="vgg16",
        title="torchvision's VGG-16",
        recognised_by=(r"^features\.28\.weight$",),
        rules=(
            Rule(r"classifier\..+", reason=_CLASSIFIER),
            Rule(r"(features\.\d+\.(?:weight|bias))", r"\1"),
        ),
        backbone_only=True,
    ),
)
