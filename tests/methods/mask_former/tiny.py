"""How MaskFormer is made tiny, and eager to find; see tests/conftest.py."""

TINY = {
    "MaskFormer": [
        *("MODEL.SEM_SEG_HEAD.NAME", "MaskFormerHead"),
        *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["p2", "p3", "p4", "p5"]),
        *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 16, "MODEL.SEM_SEG_HEAD.MASK_DIM", 16),
        *("MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE", "p5", "MODEL.MASK_FORMER.HIDDEN_DIM", 16),
        *("MODEL.MASK_FORMER.NHEADS", 2, "MODEL.MASK_FORMER.DIM_FEEDFORWARD", 32),
        *("MODEL.MASK_FORMER.DEC_LAYERS", 2, "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 8),
        *("MODEL.MASK_FORMER.TEST.INSTANCE_ON", True, "MODEL.MASK_FORMER.TEST.PANOPTIC_ON", True),
    ]
}
EAGER_STD = {"MaskFormer": {"class_embed.weight": 0.3}}
# Embeddings of masks and of pixels whose product is positive, or negative everywhere.
EAGER_BIAS = {
    "MaskFormer": {"mask_embed.layers.2.bias": (0.0, -9.0), "mask_features.bias": (0.0, 99.0)}
}
