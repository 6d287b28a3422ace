"""Read checkpoints of InstanceFCN's backbone; no code of the method itself is published."""

from ...checkpoint.resnet import CLASSIFIER
from ...checkpoint.rules import Rule
from ...checkpoint.source import Source

SOURCES = (
    Source(
        name="vgg16",
        title="torchvision's VGG-16",
        recognised_by=(r"^features\.28\.weight$",),
        rules=(
            Rule(r"classifier\..+", reason=CLASSIFIER),
            Rule(r"(features\.\d+\.(?:weight|bias))", r"\1"),
        ),
        backbone_only=True,
    ),
)
