"""How InstanceFCN is made tiny, and eager to find; see tests/conftest.py."""

TINY = {
    "InstanceFCN": [
        *("MODEL.INSTANCE_FCN.IN_FEATURE", "p2", "MODEL.INSTANCE_FCN.NUM_POSITIONS", 3),
        *("MODEL.INSTANCE_FCN.WINDOW_SIZE", 11, "MODEL.INSTANCE_FCN.CHANNELS", 16),
        *("MODEL.INSTANCE_FCN.TEST_SCALES", (48, 72), "MODEL.INSTANCE_FCN.MAX_PER_IMG", 50),
    ]
}
EAGER_STD = {"InstanceFCN": {"score_maps.weight": 0.3, "objectness.weight": 0.3}}
EAGER_BIAS = {"InstanceFCN": {"score_maps.bias": (0.0, -20.0)}}
