"""ResNets: the names of torchvision, which mmdetection and timm share, in detectron2's."""

import re

from .rules import Rule, Template

CLASSIFIER = "the ImageNet classifier, which no method uses"


def torchvision_resnet(source: str, target: str) -> tuple[Rule, ...]:
    """Return the rules of a ResNet.

    Args:
        source: a regular expression before its names in the source, for instance `backbone\\.`.
        target: what stands before ours, for instance "backbone.bottom_up.".
    """

    def in_block(name: str) -> Template:
        # layer1 is res2.
        def place(match: re.Match[str]) -> str:
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
