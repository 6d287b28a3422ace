import pytest
import torch

from solo_family.ops.host_copy import HostCopy, to_device

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(), (0, 3), (4, 5)])
def test_there_and_back(device: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    values = torch.ones(shape).to(dtype)
    (there,) = to_device([values], torch.device(device))
    assert there.device.type == device
    copy = HostCopy(there.mT if len(shape) > 1 else there)
    assert copy.device == there.device
    back = copy.wait()
    assert back.device.type == "cpu"
    assert torch.equal(back, values.mT if len(shape) > 1 else values)
    assert torch.equal(copy.wait(), back)


def test_a_copy_has_no_gradient() -> None:
    assert not HostCopy(torch.ones(3, requires_grad=True) * 2).wait().requires_grad
