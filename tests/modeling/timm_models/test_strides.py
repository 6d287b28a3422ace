from math import floor

import pytest
import torch

from solo_family.modeling.timm_models.strides import at_stride, promised_stride


@pytest.mark.parametrize(
    ("stride", "promised"), [(4, 4), (7, 8), (12, 16), (14, 16), (28, 32), (16, 16)]
)
def test_the_nearest_power_of_two_is_promised(stride: int, promised: int) -> None:
    assert promised_stride(stride) == promised


@pytest.mark.parametrize("stride", [14, 7, 20])
def test_a_map_is_sampled_where_the_promised_pixels_are(stride: int) -> None:
    """Each promised pixel, at its centre in the image, between the four pixels around it."""
    torch.manual_seed(0)
    height, width, step = 96, 160, promised_stride(stride)
    feature = torch.rand(1, 2, -(-height // stride), -(-width // stride))
    result = at_stride(feature, stride, (height, width))
    assert result.shape == (1, 2, height // step, width // step)

    def places(index: int, length: int) -> list[tuple[int, float]]:
        centre = max(0.0, (index + 0.5) * step / stride - 0.5)
        low, part = floor(centre), centre - floor(centre)
        return [(min(low, length - 1), 1 - part), (min(low + 1, length - 1), part)]

    for i in range(result.shape[2]):
        for j in range(result.shape[3]):
            expected = sum(
                feature[0, :, y, x] * wy * wx
                for y, wy in places(i, feature.shape[2])
                for x, wx in places(j, feature.shape[3])
            )
            torch.testing.assert_close(result[0, :, i, j], expected)


def test_a_border_that_a_network_drops_is_repeated_on_both_sides() -> None:
    feature = torch.arange(6.0).reshape(1, 1, 2, 3)
    result = at_stride(feature, 8, (32, 40))
    rows = [[0, 0, 1, 2, 2], [0, 0, 1, 2, 2], [3, 3, 4, 5, 5], [3, 3, 4, 5, 5]]
    assert result.tolist() == [[rows]]


def test_what_was_padded_is_dropped() -> None:
    feature = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert at_stride(feature, 8, (16, 24)).tolist() == [[[[0, 1, 2], [4, 5, 6]]]]
