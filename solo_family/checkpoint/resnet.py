"""Rename ResNets from torchvision's names, which mmdetection and timm share, to detectron2's."""

import re

from .rules import Rule, Template

CLASSIFIER = "the ImageNet classifier, which no method uses"


def torchvision_resnet(source: str, target: str) -> tuple[Rule, ...]:
    r"""Return the renaming rules of a ResNet.

    Args:
        source: a regular expression of the prefix in the source, for instance `backbone\.`.
        target: our prefix, for instance "backbone.bottom_up.".
    """

    def in_block(name: str) -> Template:
        # torchvision's layer1 is detectron2's res2.
        # layer1 is res2.
        def place(match: re.Match[str]) -> str:
            """Return our name, whose stage number is one higher than torchvision's."""
            return f"{target}res{int(match[1]) + 1}.{match[2]}." + match.expand(name)

        return place

    block = source + r"layer(\d)\.(\d+)\."
    return (
        Rule(source + r"conv1\.(.+)", target + r"stem.conv1.\1"),
        Rule(source + r"bn1\.(.+)", target + r"stem.conv1.norm.\1"),
        Rule(block + r"conv2(?:\.conv)?_offset\.(.+)", in_block(r"conv2_offset.\3")),
        Rule(block + r"conv(\d)\.(weight|bias)", in_block(r"conv\3.\4")),
        Rule(block + r"bn(\d)\.(.+)", in_block(r"conv\3.norm.\4")),
        Rule(block + r"downsample\.0\.(.+)", in_block(r"shortcut.\3")),
        Rule(block + r"downsample\.1\.(.+)", in_block(r"shortcut.norm.\3")),
        Rule(source + r"fc\..+", reason=CLASSIFIER),
    )
