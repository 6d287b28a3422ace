"""Tensors that travel together arrive as they were."""

import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints

from solo_family.modeling.transfer import instances_to_device
from solo_family.ops.host_copy import HostCopy, pack, to_device, unpack

from ..waits import count_waits

CPU = torch.device("cpu")


def tensors() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 7, 11), generator=generator, dtype=torch.uint8)
    return [
        image,
        image.permute(2, 0, 1)[::2],
        torch.randn(5, generator=generator, dtype=torch.float64),
        torch.zeros((0, 4)),
        image[:1] > 99,
        image.to(torch.uint16) * 200,
        torch.tensor(3),
        torch.randn(1, 3, generator=generator).half().expand(4, 3),
    ]


def test_one_buffer_holds_any_dtypes_sizes_and_strides() -> None:
    given = tensors()
    arrived = unpack(pack(given), given)
    assert len({tensor.untyped_storage().data_ptr() for tensor in arrived}) == 1
    for tensor, expected in zip(arrived, given, strict=True):
        assert tensor.dtype == expected.dtype
        assert tensor.is_contiguous()
        assert torch.equal(tensor.float(), expected.float())
    assert all(tensor.data_ptr() % 64 == arrived[0].data_ptr() % 64 for tensor in arrived)


def test_what_is_there_is_not_copied() -> None:
    given = tensors()
    assert all(one is other for one, other in zip(to_device(given, CPU), given, strict=True))


def image_of(objects: int) -> Instances:
    image = Instances((6, 8))
    image.gt_boxes = Boxes(torch.arange(4.0 * objects).view(objects, 4))
    image.gt_classes = torch.arange(objects)
    image.gt_masks = BitMasks(torch.arange(48 * objects).view(objects, 6, 8) % 3 == 0)
    image.gt_keypoints = Keypoints(torch.ones(objects, 2, 3))
    image.names = [str(index) for index in range(objects)]
    return image


def test_instances_keep_their_fields() -> None:
    given = [image_of(2), image_of(0), image_of(3)]
    for moved, image in zip(instances_to_device(given, CPU), given, strict=True):
        assert moved.image_size == image.image_size
        assert list(moved.get_fields()) == list(image.get_fields())
        assert type(moved.gt_boxes) is Boxes
        assert type(moved.gt_masks) is BitMasks
        assert torch.equal(moved.gt_boxes.tensor, image.gt_boxes.tensor)
        assert torch.equal(moved.gt_masks.tensor, image.gt_masks.tensor)
        assert torch.equal(moved.gt_classes, image.gt_classes)
        assert torch.equal(moved.gt_keypoints.tensor, image.gt_keypoints.tensor)
        assert moved.names == image.names


def test_values_come_to_the_host_with_one_wait() -> None:
    with count_waits() as waits:
        coming = HostCopy(torch.tensor([[1, 2], [3, 4]]))
        assert waits.total == 0
        assert coming.wait().tolist() == [[1, 2], [3, 4]]
    assert waits.total == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gets_all_without_a_wait() -> None:
    device = torch.device("cuda")
    given = [*tensors(), torch.ones(2, device=device)]
    to_device(given, device)
    with count_waits(device) as waits:
        arrived = to_device(given, device)
        for tensor in given[:3]:
            tensor.zero_()
        coming = HostCopy(arrived[2] * 2)
    assert waits.total == 0
    for tensor, expected in zip(arrived, [*tensors(), given[-1]], strict=True):
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor.cpu().float(), expected.cpu().float())
    assert coming.wait().tolist() == (2 * tensors()[2]).tolist()
