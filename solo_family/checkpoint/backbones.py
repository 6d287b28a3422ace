"""ImageNet backbones that any method can use: the ResNets of torchvision and timm."""

from .resnet import CLASSIFIER, torchvision_resnet
from .rules import Rule
from .source import IMAGENET_RGB, Source

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
            Rule(r"fc\..+", reason=CLASSIFIER),
            Rule(r"((?:conv1|bn1|layer\d)\..+)", r"model.\1"),
        ),
        keys=dict(IMAGENET_RGB),
        backbone_only=True,
    ),
)
