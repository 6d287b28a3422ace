"""Read checkpoints of the official MaskFormer and its per-pixel baselines.

The code is that of github.com/facebookresearch/MaskFormer.
"""

from ...checkpoint.rules import Rule
from ...checkpoint.source import IMAGENET_RGB, Source
from .checkpoint_swin import official_swin

SOURCES = (
    Source(
        name="mask-former",
        title="the official MaskFormer code",
        recognised_by=(
            r"^sem_seg_head\.(pixel_decoder\.)?(adapter_1|layer_1)\.",
            r"^sem_seg_head\.predictor\.",
        ),
        rules=(
            # The heads have our names; those of the first version lack `pixel_decoder.`.
            Rule(r"(sem_seg_head\.(?:pixel_decoder|predictor)\..+)", r"\1"),
            Rule(
                r"sem_seg_head\.((?:adapter_\d|layer_\d|mask_features|input_proj|transformer)\..+)",
                r"sem_seg_head.pixel_decoder.\1",
            ),
            Rule(r"criterion\.empty_weight", reason="a constant of the loss"),
            Rule(r"pixel_(?:mean|std)", reason="MODEL.PIXEL_MEAN and PIXEL_STD have them"),
            Rule(r"(backbone\.(?:stem\.conv\d|res\d)\..+)", r"\1"),
            *official_swin(r"backbone\.", "backbone."),
        ),
        keys={
            **IMAGENET_RGB,
            "MODEL.BACKBONE.FREEZE_AT": 0,
            "MODEL.RESNETS.STRIDE_IN_1X1": False,
        },
    ),
)
