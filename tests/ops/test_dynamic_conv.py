import pytest
import torch
import torch.nn.functional as F

from solo_family.ops import dynamic_conv


@pytest.mark.parametrize(
    ("count", "channels", "size"), [(5, 8, (6, 7)), (1, 1, (1, 1)), (0, 4, (3, 2))]
)
def test_is_a_1x1_convolution(count: int, channels: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    kernels, features = torch.randn(count, channels), torch.randn(channels, *size)
    masks = dynamic_conv(kernels, features)
    assert masks.shape == (count, *size)
    for kernel, mask in zip(kernels, masks):
        expected = F.conv2d(features[None], kernel.reshape(1, channels, 1, 1))
        torch.testing.assert_close(mask, expected[0, 0])


def test_a_batch_is_its_images() -> None:
    kernels, features = torch.randn(2, 5, 8), torch.randn(2, 8, 6, 7)
    alone = [dynamic_conv(*image) for image in zip(kernels, features)]
    torch.testing.assert_close(dynamic_conv(kernels, features), torch.stack(alone))


def test_gradients_reach_kernels_and_features() -> None:
    kernels = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    features = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(dynamic_conv, (kernels, features))
