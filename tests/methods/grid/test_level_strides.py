"""Strides of a head's levels: every allowed one trains at any size, and others are refused."""

import pytest

from solo_family.errors import ConfigError

from ...conftest import assert_finite_gradients, picture, tiny_model

_SEPARATE = ["MODEL.SOLOV2.MASK_FEATURES", "separate"]
_MASKED = [("SOLO", "SOLO", []), ("DecoupledSOLO", "SOLO", []), ("SOLOv2", "SOLOV2", _SEPARATE)]


@pytest.mark.parametrize(("method", "node", "opts"), _MASKED)
@pytest.mark.parametrize("stride", [1, 5, 24, 64])
def test_a_stride_that_leaves_a_rest_is_refused(
    method: str, node: str, opts: list, stride: int
) -> None:
    """In training it ended with a traceback: masks of another size than the true ones."""
    strides = [f"MODEL.{node}.FPN_INSTANCE_STRIDES", [8, 8, 16, 32, stride]]
    said = rf"^MODEL\.{node}\.FPN_INSTANCE_STRIDES has {stride}, but .*allowed: 2, 4, 8, 16, 32\.$"
    with pytest.raises(ConfigError, match=said):
        tiny_model(method, opts=[*opts, *strides])


@pytest.mark.parametrize(("method", "node", "opts"), _MASKED)
def test_allowed_strides_train_at_an_odd_size(method: str, node: str, opts: list) -> None:
    strides = [f"MODEL.{node}.FPN_INSTANCE_STRIDES", [2, 4, 8, 16, 32]]
    model = tiny_model(method, opts=[*opts, *strides])
    assert_finite_gradients(model, model([picture(33, 95), picture(70, 40)]))


def test_unified_masks_allow_any_stride_up_to_the_padding() -> None:
    key = "MODEL.SOLOV2.FPN_INSTANCE_STRIDES"
    with pytest.raises(ConfigError, match=rf"^{key} has 64, but .* no pixel; allowed: 1 to 32\.$"):
        tiny_model(opts=[key, [8, 8, 16, 32, 64]])
    model = tiny_model(opts=[key, [7, 8, 16, 24, 32]])
    assert_finite_gradients(model, model([picture(30, 30), picture(30, 30)]))
