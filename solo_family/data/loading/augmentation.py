"""Training augmentations, built from detectron2's transforms."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.data.detection_utils import build_augmentation
from detectron2.projects.point_rend import ColorAugSSDTransform
from PIL import Image

from ...errors import ConfigError
from ...pictures.opencv import resize_by_opencv
from ...registry import METHODS
from .fixed_crop import FixedCrop

_Augmentations = list[T.Augmentation | T.Transform]

# Short edges, in pixels, to which DETR resizes an image before the crop.
_DETR_SIZES = (400, 500, 600)
# Values of padded pixels: of images, as in detectron2, and of labels, where all bytes are 255.
_GRAY, _VOID = 128, 255


class ChannelwiseResize(T.ResizeTransform):
    """detectron2's resizing of images with any number of channels, each by itself.

    Pillow takes a fourth channel for transparency, by which it would multiply the others, and has
    no pictures of five.
    """

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """Return an image [H, W, C] at the new size."""
        if img.ndim != 3 or img.shape[2] in (1, 3):
            return super().apply_image(img, interp)
        channels = [super(ChannelwiseResize, self).apply_image(one, interp) for one in _split(img)]
        return np.stack(channels, axis=2)


class OpenCVResize(ChannelwiseResize):
    """Resizing of images by OpenCV; that of labels stays detectron2's."""

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """Return an image [H, W, C] at the new size."""
        bilinear = self.interp if interp is None else interp
        if bilinear != Image.Resampling.BILINEAR or img.dtype != np.uint8:
            return super().apply_image(img, interp)
        return resize_by_opencv(img, (self.new_h, self.new_w))


def _split(image: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(image[:, :, channel]) for channel in range(image.shape[2])]


class AtLeastOnePixel(T.Augmentation):
    """Resize images of any number of channels, keeping every side at least one pixel long.

    Without this, the short side of a very narrow image is rounded to 0.

    Args:
        resize: the detectron2 augmentation that chooses the size.
        by: "pillow" or "cv2"; see `INPUT.RESIZE`.
    """

    def __init__(self, resize: T.Augmentation, by: str = "pillow") -> None:
        super().__init__()
        self.resize = resize
        self.by = by

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Return the resize transform of an image, uint8 [H, W, C]."""
        transform = self.resize.get_transform(image)
        if isinstance(transform, T.ResizeTransform):
            height, width = max(1, transform.new_h), max(1, transform.new_w)
            kind = OpenCVResize if self.by == "cv2" else ChannelwiseResize
            return kind(transform.h, transform.w, height, width, transform.interp)
        return transform


def detectron2_augmentation(cfg: CfgNode, is_train: bool) -> _Augmentations:
    """Return detectron2's resize and, for training, its random flip."""
    resize, *flip = build_augmentation(cfg, is_train)
    return [AtLeastOnePixel(resize, cfg.INPUT.RESIZE), *flip]


def resized_input(image: np.ndarray, resize: T.Augmentation) -> dict[str, Any]:
    """Return an image as the input of detectron2's models in inference.

    Args:
        image: uint8 [H, W, 3], in the order of `INPUT.FORMAT`.
        resize: that of `detectron2_augmentation`.
    """
    resized = resize.get_transform(image).apply_image(image)
    tensor = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
    return {"image": tensor, "height": image.shape[0], "width": image.shape[1]}


def build_train_augmentation(cfg: CfgNode) -> _Augmentations:
    """Return the training augmentations of images with instance masks.

    Colour augmentations come first. Then follows large-scale jitter if `INPUT.LSJ.ENABLED`;
    otherwise the crop (if `INPUT.CROP.ENABLED`) and detectron2's resize and flip.
    """
    colours = _all_colours(cfg)
    if cfg.INPUT.LSJ.ENABLED:
        # What is beyond the image belongs to no mask.
        return [*colours, *_large_scale_jitter(cfg, padded_label=0)]
    crop = [_crop(cfg)] if cfg.INPUT.CROP.ENABLED else []
    return [*colours, *crop, *detectron2_augmentation(cfg, is_train=True)]


def _crop(cfg: CfgNode) -> T.Augmentation:
    """Return the random crop: of every image, or DETR's if short edges are set.

    DETR (arXiv 2005.12872, section 4) resizes and then crops an image with probability 0.5.
    """
    crop = T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE)
    method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)
    edges = cfg.INPUT.CROP.SHORT_EDGES or (method.crop_short_edges if method else ())
    if not edges:
        return crop
    resize = _resize_choice(edges, cfg)
    return T.RandomApply(T.AugmentationList([resize, crop]), prob=0.5)


def _resize_choice(edges: Sequence[int], cfg: CfgNode) -> AtLeastOnePixel:
    """Return the resize of the short edge to one of some lengths."""
    return AtLeastOnePixel(
        T.ResizeShortestEdge(list(edges), sample_style="choice"), cfg.INPUT.RESIZE
    )


def build_segment_augmentation(cfg: CfgNode, ignored: int) -> list[T.AugmentationList]:
    """Return the training augmentations of images with semantic or panoptic labels.

    They resize, crop so that no class covers more than `INPUT.CROP.SINGLE_CATEGORY_MAX_AREA` of the
    crop, change the colours and flip (MaskFormer, arXiv 2107.06278, section 4.1). With short edges
    of the crop (`INPUT.CROP.SHORT_EDGES`) half of the images are resized to one of these, cropped
    and resized again, as in DETR, and the others are not cropped. If `INPUT.LSJ.ENABLED`, they
    change the colours and apply large-scale jitter instead.

    Args:
        cfg: the configuration.
        ignored: the label that the crop's area limit does not count.

    Returns:
        One sequence of augmentations or, with short edges, two, of which the mapper draws one per
        image.
    """
    if cfg.INPUT.LSJ.ENABLED:
        return [
            T.AugmentationList([*_all_colours(cfg), *_large_scale_jitter(cfg, padded_label=_VOID)])
        ]
    resize, *flip = detectron2_augmentation(cfg, is_train=True)
    crop = cfg.INPUT.CROP
    cropped = [
        T.RandomCrop_CategoryAreaConstraint(
            crop.TYPE, crop.SIZE, crop.SINGLE_CATEGORY_MAX_AREA, ignored
        )
    ]
    last = [*_all_colours(cfg), *flip]
    if not crop.ENABLED:
        return [T.AugmentationList([resize, *last])]
    if not crop.SHORT_EDGES:
        return [T.AugmentationList([resize, *cropped, *last])]
    to_be_cropped = _resize_choice(crop.SHORT_EDGES, cfg)
    return [
        T.AugmentationList([resize, *last]),
        T.AugmentationList([to_be_cropped, *cropped, resize, *last]),
    ]


def build_detr_augmentation(cfg: CfgNode, ignored: int) -> list[T.AugmentationList]:
    """Return the augmentations of DETR (arXiv 2005.12872, section 4) for panoptic labels.

    Args:
        cfg: the configuration; `INPUT.CROP` is the crop below.
        ignored: the label that the area limit of other crops does not count; DETR's has none.

    Returns:
        Two sequences, of which the mapper draws one per image: resize; or resize, crop and resize.
        Only the first if `INPUT.CROP.ENABLED` is False. If `INPUT.LSJ.ENABLED`, those of
        `build_segment_augmentation`.
    """
    if cfg.INPUT.LSJ.ENABLED:
        return build_segment_augmentation(cfg, ignored)
    resize, *flip = detectron2_augmentation(cfg, is_train=True)
    plain = [*_all_colours(cfg), *flip, resize]
    if not cfg.INPUT.CROP.ENABLED:
        return [T.AugmentationList(plain)]
    crop = T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE)
    to_be_cropped = _resize_choice(cfg.INPUT.CROP.SHORT_EDGES or _DETR_SIZES, cfg)
    cropped = [*_all_colours(cfg), *flip, to_be_cropped, crop, resize]
    return [T.AugmentationList(plain), T.AugmentationList(cropped)]


def _all_colours(cfg: CfgNode) -> _Augmentations:
    colours = _colours(cfg) if cfg.INPUT.COLOR_AUG.ENABLED else []
    if cfg.INPUT.COLOR_AUG_SSD:
        colours.append(ColorAugSSDTransform(img_format=cfg.INPUT.FORMAT))
    return colours


def _colours(cfg: CfgNode) -> _Augmentations:
    colour = cfg.INPUT.COLOR_AUG
    return [
        augmentation(1 - half_width, 1 + half_width)
        for augmentation, half_width in (
            (T.RandomBrightness, colour.BRIGHTNESS),
            (T.RandomContrast, colour.CONTRAST),
            (T.RandomSaturation, colour.SATURATION),
        )
        if half_width
    ]


def _large_scale_jitter(cfg: CfgNode, padded_label: int) -> _Augmentations:
    if cfg.INPUT.CROP.ENABLED:
        raise ConfigError(
            "INPUT.CROP.ENABLED is True with INPUT.LSJ.ENABLED, which crops to "
            "INPUT.LSJ.IMAGE_SIZE and leaves no other crop. Set INPUT.CROP.ENABLED False, or "
            "INPUT.LSJ.ENABLED False. INPUT.CROP.AROUND_OBJECTS goes with both."
        )
    lsj = cfg.INPUT.LSJ
    fill = list(cfg.MODEL.PIXEL_MEAN) if lsj.PAD == "mean" else _GRAY
    size = (lsj.IMAGE_SIZE, lsj.IMAGE_SIZE)
    jitter: _Augmentations = [
        AtLeastOnePixel(T.ResizeScale(lsj.MIN_SCALE, lsj.MAX_SCALE, *size), cfg.INPUT.RESIZE),
        FixedCrop(size, fill=fill, label=padded_label),
    ]
    if cfg.INPUT.RANDOM_FLIP != "none":
        jitter.append(
            T.RandomFlip(
                horizontal=cfg.INPUT.RANDOM_FLIP == "horizontal",
                vertical=cfg.INPUT.RANDOM_FLIP == "vertical",
            )
        )
    return jitter
