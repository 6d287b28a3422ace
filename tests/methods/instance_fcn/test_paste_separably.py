"""Pasting by matrices of rows and columns against detectron2's sampling."""

import torch
from detectron2.layers import paste_masks_in_image

from solo_family.methods.instance_fcn.paste_separably import paste_separably
from solo_family.ops import mask_boxes


def test_equals_detectron2() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand((40, 7, 7), generator=generator)
    masks[3] = 0
    # Each reaches into the image, which is what detectron2 needs.
    corners = torch.rand((40, 2), generator=generator) * torch.tensor([118.0, 78.0]) - 20
    sides = 22 + torch.rand((40, 2), generator=generator) * 90
    boxes = torch.cat([corners, corners + sides], dim=1)
    pasted, tight = paste_separably(masks, boxes, (60, 100), 0.5)
    assert isinstance(pasted, torch.Tensor)
    expected = paste_masks_in_image(masks, boxes, (60, 100), 0.5)
    assert expected.flatten(1).any(1).sum() > 30
    assert (pasted != expected).sum() <= 2
    assert torch.equal(tight, mask_boxes(pasted))
    assert not pasted[3].any()
    assert not tight[3].any()


def test_the_threshold_belongs_to_the_mask() -> None:
    pasted, _ = paste_separably(
        torch.full((1, 4, 4), 0.5), torch.tensor([[2.0, 2, 6, 6]]), (8, 8), 0.5
    )
    assert pasted[0, 2:6, 2:6].all()


def test_a_window_beside_the_image_has_no_pixels() -> None:
    box = torch.tensor([[300.0, 10.0, 340.0, 50.0]])
    pasted, tight = paste_separably(torch.ones(1, 4, 4), box, (60, 100), 0.5)
    assert isinstance(pasted, torch.Tensor)
    assert not pasted.any()
    assert not tight.any()
