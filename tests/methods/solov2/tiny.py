"""How SOLOv2 is made tiny, and eager to find; see tests/conftest.py."""

TINY = {
    "SOLOv2": [
        *("MODEL.SOLOV2.INSTANCE_CHANNELS", 16, "MODEL.SOLOV2.NUM_INSTANCE_CONVS", 1),
        *("MODEL.SOLOV2.NUM_KERNELS", 8, "MODEL.SOLOV2.NUM_MASKS", 8),
        *("MODEL.SOLOV2.MASK_CHANNELS", 8, "MODEL.SOLOV2.NUM_GRIDS", [12, 10, 8, 6, 4]),
        *("MODEL.SOLOV2.FPN_SCALE_RANGES", ((1, 24), (12, 48), (24, 96), (48, 192), (96, 512))),
    ]
}
EAGER_STD = {"SOLOv2": {"kernel_predictor.weight": 0.3}}
EAGER_BIAS = {"SOLOv2": {"category_branch.logits.bias": (0.0, -20.0)}}
