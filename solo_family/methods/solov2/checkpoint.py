"""Read checkpoints of AdelaiDet's SOLOv2 (github.com/aim-uofa/AdelaiDet)."""

from ...checkpoint.rules import Rule
from ...checkpoint.source import Source


def _tower(name: str, ours: str) -> Rule:
    """Return the rule of a tower, where AdelaiDet numbers convolution, norm and ReLU in turn."""
    layers = ("conv", "norm")
    return Rule(
        rf"ins_head\.{name}_tower\.(\d+)\.(.+)",
        lambda match: f"{ours}.{int(match[1]) // 3}.{layers[int(match[1]) % 3]}.{match[2]}",
    )


def _mask_layer(index: str) -> str:
    return ("conv", "norm")[int(index)]


SOURCES = (
    Source(
        name="adelaidet",
        title="AdelaiDet's SOLOv2",
        recognised_by=(r"^ins_head\.cate_tower\.", r"^mask_head\.convs_all_levels\."),
        rules=(
            Rule(r"(backbone\.(?:bottom_up|fpn_lateral\d|fpn_output\d)\..+)", r"\1"),
            _tower("cate", "head.category_branch.tower"),
            _tower("kernel", "head.kernel_tower"),
            Rule(r"ins_head\.cate_pred\.(.+)", r"head.category_branch.logits.\1"),
            Rule(r"ins_head\.kernel_pred\.(.+)", r"head.kernel_predictor.\1"),
            Rule(
                r"mask_head\.convs_all_levels\.(\d)\.conv(\d)\.([01])\.(.+)",
                lambda m: f"mask_branch.levels.{m[1]}.{m[2]}.{_mask_layer(m[3])}.{m[4]}",
            ),
            Rule(
                r"mask_head\.conv_pred\.([01])\.(.+)",
                lambda m: f"mask_branch.projection.{_mask_layer(m[1])}.{m[2]}",
            ),
            Rule(r"pixel_(?:mean|std)", reason="MODEL.PIXEL_MEAN and PIXEL_STD have them"),
        ),
        # detectron2's defaults, with which MSRA's ResNets were trained.
        keys={
            "INPUT.FORMAT": "BGR",
            "MODEL.PIXEL_MEAN": [103.53, 116.28, 123.675],
            "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
            "MODEL.RESNETS.STRIDE_IN_1X1": True,
        },
    ),
)
