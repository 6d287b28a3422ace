import math

import torch

from solo_family.methods.mask_former.transformer import sine_position_encoding


def reference(height: int, width: int, channels: int) -> torch.Tensor:
    """DETR's appendix A.4, value by value."""
    result = torch.zeros(channels, height, width, dtype=torch.float64)
    half = channels // 2
    for index in range(half):
        wavelength = 10000 ** (2 * (index // 2) / half)
        function = math.sin if index % 2 == 0 else math.cos
        for y in range(height):
            for x in range(width):
                result[index, y, x] = function((y + 1) / height * 2 * math.pi / wavelength)
                result[half + index, y, x] = function((x + 1) / width * 2 * math.pi / wavelength)
    return result


def test_sines_and_cosines_of_the_normalised_position() -> None:
    encoding = sine_position_encoding(torch.zeros(2, 7, 5, 9), 12)
    assert encoding.shape == (1, 12, 5, 9)
    torch.testing.assert_close(encoding[0].double(), reference(5, 9, 12), atol=1e-5, rtol=0)


def test_it_has_the_dtype_of_the_features() -> None:
    features = torch.zeros(1, 4, 3, 3, dtype=torch.bfloat16)
    assert sine_position_encoding(features, 8).dtype == torch.bfloat16
