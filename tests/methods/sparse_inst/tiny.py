"""How SparseInst is made tiny, and eager to find; see tests/conftest.py."""

TINY = {
    "SparseInst": [
        *("MODEL.BACKBONE.NAME", "build_resnet_backbone"),
        *("MODEL.RESNETS.OUT_FEATURES", ["res3", "res4", "res5"]),
        *("MODEL.SPARSE_INST.DECODER.NAME", "GroupIAMDecoder"),
        *("MODEL.SPARSE_INST.ENCODER.NUM_CHANNELS", 16, "MODEL.SPARSE_INST.DECODER.NUM_MASKS", 10),
        *("MODEL.SPARSE_INST.DECODER.INST.DIM", 16, "MODEL.SPARSE_INST.DECODER.INST.CONVS", 1),
        *("MODEL.SPARSE_INST.DECODER.MASK.DIM", 16, "MODEL.SPARSE_INST.DECODER.MASK.CONVS", 1),
        *("MODEL.SPARSE_INST.DECODER.KERNEL_DIM", 8, "MODEL.SPARSE_INST.DECODER.GROUPS", 2),
    ]
}
EAGER_STD = {
    "SparseInst": {
        "mask_kernel.weight": 0.3,
        "iam_conv.weight": 0.3,
        "class_logits.weight": 0.3,
    }
}
EAGER_BIAS = {"SparseInst": {"class_logits.bias": (0.0, -40.0)}}
