"""How SOLO and Decoupled SOLO are made tiny, and eager to find; see tests/conftest.py."""

_SOLO = [
    *("MODEL.SOLO.INSTANCE_CHANNELS", 16, "MODEL.SOLO.NUM_INSTANCE_CONVS", 1),
    *("MODEL.SOLO.NUM_GRIDS", [12, 10, 8, 6, 4]),
    *("MODEL.SOLO.FPN_SCALE_RANGES", ((1, 24), (12, 48), (24, 96), (48, 192), (96, 512))),
]
_PREDICTORS = [f"{kind}_predictors.{level}" for kind in ("mask", "x", "y") for level in range(5)]
_STD = {f"{name}.weight": 0.3 for name in _PREDICTORS}
_BIAS = {
    "category_branch.logits.bias": (0.0, -20.0),
    **{f"{name}.bias": (1.0, 1.0) for name in _PREDICTORS},
}

TINY = {"SOLO": _SOLO, "DecoupledSOLO": _SOLO}
EAGER_STD = {"SOLO": _STD, "DecoupledSOLO": _STD}
EAGER_BIAS = {"SOLO": _BIAS, "DecoupledSOLO": _BIAS}
