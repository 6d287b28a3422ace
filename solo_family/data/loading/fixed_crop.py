"""The crop or the padding of large-scale jitter (Ghiasi et al., arXiv 2012.07177)."""

from collections.abc import Sequence

import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import PadTransform


class FixedCrop(T.FixedSizeCrop):
    """Crop a random part of a fixed size, and pad what is smaller at the right and at the bottom.

    Args:
        size: (height, width) in pixels.
        fill: value of padded pixels of images, one for all channels or one for each.
        label: value of padded pixels of labels and masks.
    """

    def __init__(self, size: tuple[int, int], *, fill: float | Sequence[float], label: int) -> None:
        # detectron2 declares the size as a tuple of one number.
        super().__init__(crop_size=size)  # type: ignore[arg-type]
        self.fill = fill
        self.label = label

    def _get_pad(self, image: np.ndarray) -> T.Transform:
        pad = super()._get_pad(image)
        assert isinstance(pad, PadTransform)
        return _FilledPad(pad, self.fill, self.label)


class _FilledPad(PadTransform):
    """detectron2's padding, with a value for each channel."""

    def __init__(self, pad: PadTransform, fill: float | Sequence[float], label: int) -> None:
        place = (pad.x0, pad.y0, pad.x1, pad.y1, pad.orig_w, pad.orig_h)
        super().__init__(*place, pad_value=0, seg_pad_value=label)
        self.fill = np.round(np.asarray(fill))

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Pad an image, [H, W, C]."""
        height, width = img.shape[:2]
        size = (height + self.y0 + self.y1, width + self.x0 + self.x1)
        padded = np.empty((*size, *img.shape[2:]), img.dtype)
        padded[...] = self.fill
        padded[self.y0 : self.y0 + height, self.x0 : self.x0 + width] = img
        return padded
