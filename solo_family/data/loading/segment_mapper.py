"""The mapper of images with semantic or panoptic labels: one mask per class, or per segment.

Shape letters: G masks, H W height and width of the model's input.
"""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Instances

from ...config.rules import get_key
from ...errors import ConfigError, DataError
from ...registry import METHODS, Method
from ..formats.classes import dataset_classes
from ..formats.label_maps import (
    VOID_ID,
    check_label_size,
    decode_ids,
    encode_ids,
    read_labels,
    read_panoptic_ids,
)
from .augmentation import build_detr_augmentation, build_segment_augmentation
from .bad_images import BadImages
from .image_cache import ImageCache
from .images import Reading, check_size, read_image
from .object_crop import pixels_of, window_around_segment
from .windows import open_windows

# The value of padded pixels: the middle of 0 to 255, as in MaskFormer's official code.
_PAD_VALUE = 128
_FLOAT_VOID = 255


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What the labels of images are, and what becomes of them.

    Attributes:
        num_classes: number of classes, K.
        panoptic: whether to make a mask per panoptic segment, rather than per semantic class.
        ignored: the label that pixels without a class have in the files.
        ignore_value: the label that pixels without a class have in the model's input.
        keep_empty: whether to keep segments that the crop removes completely, with empty masks.
        sampling: "center" or "corner"; see `INPUT.LABEL_SAMPLING`.
    """

    num_classes: int
    panoptic: bool
    ignored: int = 255
    ignore_value: int = 255
    keep_empty: bool = False
    sampling: str = "center"


class SegmentDatasetMapper:
    """Map images with semantic or panoptic labels to the model's training input.

    Labels are resized with the image, by the nearest pixel.

    Args:
        augmentations: sequences of augmentations, of which one is drawn per image.
        image_format: channel order, "RGB" or "BGR".
        labels: what the labels are, and what becomes of them.
        size_divisibility: pad inputs to multiples of it; no padding if it is below 1.
        bad_images: counts or refuses images that can't be read.
        reading: how image files are read.
        crop_around: height and width of windows around segments that images are cropped to before
            everything else; None for whole images.
        cache: reads whole images, in the same way; None decodes each time.
    """

    @configurable
    def __init__(
        self,
        *,
        augmentations: list[T.AugmentationList],
        image_format: str,
        labels: Labels,
        size_divisibility: int = -1,
        bad_images: BadImages,
        reading: Reading | None = None,
        crop_around: tuple[int, int] | None = None,
        cache: ImageCache | None = None,
    ) -> None:
        self._crop_around = crop_around
        self._reading = reading or Reading()
        self._cache = None if cache is None else cache.of(self._reading)
        self.augmentations = augmentations
        self.image_format = image_format
        self.labels = labels
        self.size_divisibility = size_divisibility
        self.bad_images = bad_images

    @classmethod
    def from_config(
        cls, cfg: CfgNode, *, panoptic: bool, detr: bool = False, num_images: int = 0
    ) -> dict[str, Any]:
        """Return the arguments of `__init__` that the configuration stands for.

        Args:
            cfg: the configuration; the classes are those of the first of `DATASETS.TRAIN`.
            panoptic: see `Labels`.
            detr: whether to augment as DETR does, as the official COCO panoptic configs do.
            num_images: size of the dataset.

        Raises:
            ConfigError: `MODEL.SEM_SEG_HEAD.IGNORE_VALUE` is the label of a class.
        """
        name = cfg.DATASETS.TRAIN[0]
        num_classes = len(dataset_classes(name) or [])
        key = "MODEL.SEM_SEG_HEAD.IGNORE_VALUE"
        if 0 <= get_key(cfg, key) < num_classes:
            raise ConfigError(
                f"{key} is {get_key(cfg, key)}, which is the label of one of the {num_classes} "
                f"classes, 0 to {num_classes - 1}. Set {key} 65535."
            )
        method = METHODS.get(cfg.MODEL.META_ARCHITECTURE, Method)  # or its defaults
        empty = cfg.INPUT.EMPTY_SEGMENTS or method.empty_segments
        build = build_detr_augmentation if detr else build_segment_augmentation
        return {
            "augmentations": build(cfg, ignored=num_classes),
            "image_format": cfg.INPUT.FORMAT,
            "labels": Labels(
                num_classes=num_classes,
                panoptic=panoptic,
                ignored=MetadataCatalog.get(name).get("ignore_label", 255),
                ignore_value=get_key(cfg, key),
                # Semantic labels have no list of segments: which were cut off is unknown.
                keep_empty=panoptic and empty == "keep",
                sampling=cfg.INPUT.LABEL_SAMPLING or method.label_sampling,
            ),
            "size_divisibility": cfg.INPUT.SIZE_DIVISIBILITY,
            "reading": Reading.from_config(cfg),
            "crop_around": tuple(cfg.INPUT.CROP.AROUND_OBJECTS) or None,
            "bad_images": BadImages(cfg.DATALOADER.SKIP_BAD_IMAGES, num_images),
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any] | None:
        """Map one image.

        Returns:
            The dict with `image`, uint8 [3, H, W]; `sem_seg`, int64 [H, W]; and `instances`, with
            `gt_classes`, int64 [G], and `gt_masks`, BitMasks, some of them empty with
            `keep_empty`. None for a skipped image; see `MaskDatasetMapper`.

        Raises:
            DataError: the image or its labels can't be read, or differ in size from each other or
                from what the dataset says, and the image may not be skipped; or every image of the
                dataset was skipped.
        """
        dataset_dict = copy.deepcopy(dataset_dict)
        try:
            image, segments, classes = self._read(dataset_dict)
        except DataError as error:
            self.bad_images.add(dataset_dict["file_name"], error)
            return None
        image, segments = self._augment(image, segments, classes)
        height, width = segments.shape
        dataset_dict["image"] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        ids = np.arange(len(classes)) if self.labels.keep_empty else np.unique(segments)
        ids = ids[ids != VOID_ID]
        instances = Instances((height, width))
        instances.gt_classes = torch.from_numpy(classes[ids])
        masks = segments == ids[:, None, None]
        instances.gt_masks = BitMasks(torch.from_numpy(masks))
        dataset_dict["instances"] = instances
        labels = np.full((height, width), self.labels.ignore_value, np.int64)
        known = segments != VOID_ID
        labels[known] = classes[segments[known]]
        dataset_dict["sem_seg"] = torch.from_numpy(labels)
        if self.bad_images.skip:
            dataset_dict["num_skipped"] = self.bad_images.take_count()
        return dataset_dict

    def _read(self, record: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return an image, or a window of it, and what `_read_segments` gives of the same."""
        path = record["file_name"]
        if self._crop_around is None:
            if self._cache is None:
                image = read_image(path, self.image_format, self._reading)
            else:
                image = self._cache.read(path)
            check_size(record, image.shape[:2])
            return image, *self._read_segments(record, image)
        windows = open_windows(path, self.image_format, self._reading)
        check_size(record, windows.size)
        segments, classes = self._read_segments(record, pixels_of(windows.size))
        window = window_around_segment(segments, self._crop_around)
        part = segments[window.top : window.bottom, window.left : window.right]
        # What lies outside the window is not of this image, and so no segment that a crop empties.
        present = np.unique(part[part != VOID_ID])
        part = np.where(part == VOID_ID, VOID_ID, np.searchsorted(present, part))
        return windows.read(window), part.astype(segments.dtype), classes[present]

    def _read_segments(
        self, record: dict[str, Any], image: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the segment index of each pixel, int32 [H, W], and each segment's class, int64."""
        if not self.labels.panoptic:
            path = record["sem_seg_file_name"]
            labels = read_labels(path, self.labels.num_classes, self.labels.ignored)
            check_label_size(labels, image, path, record["file_name"])
            segments = np.where(labels == self.labels.num_classes, VOID_ID, labels)
            return segments, np.arange(self.labels.num_classes, dtype=np.int64)
        path = record["pan_seg_file_name"]
        ids = read_panoptic_ids(path)
        check_label_size(ids, image, path, record["file_name"])
        listed = [info for info in record["segments_info"] if not info.get("iscrowd", 0)]
        segments = np.full(ids.shape, VOID_ID, np.int32)
        for index, info in enumerate(listed):
            segments[ids == info["id"]] = index
        return segments, np.array([info["category_id"] for info in listed], dtype=np.int64)

    def _augment(
        self, image: np.ndarray, segments: np.ndarray, classes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        # The crop's area limit counts classes, so the augmentation sees classes, and the segment
        # ids are transformed after it. Both pad with 255 in all bytes, which is VOID_ID.
        known = segments != VOID_ID
        labels = np.full(segments.shape, self.labels.num_classes, np.float32)
        labels[known] = classes[segments[known]]
        chosen = self.augmentations[np.random.randint(len(self.augmentations))]
        augmented = T.AugInput(image, sem_seg=labels)
        transforms = chosen(augmented)
        segments = self._transform_labels(transforms, segments)
        image = augmented.image
        if self.size_divisibility > 0:
            missing = [(0, -side % self.size_divisibility) for side in segments.shape]
            image = np.pad(image, [*missing, (0, 0)], constant_values=_PAD_VALUE)
            segments = np.pad(segments, missing, constant_values=VOID_ID)
        return image, segments

    def _transform_labels(self, transforms: T.TransformList, segments: np.ndarray) -> np.ndarray:
        if self.labels.panoptic or self.labels.sampling == "center":
            return decode_ids(transforms.apply_segmentation(encode_ids(segments)))
        # detectron2 resizes float labels with torch, and pads with 255. All labels are shifted
        # above 255, so that none equals the padding.
        shifted = np.where(segments == VOID_ID, _FLOAT_VOID, segments + _FLOAT_VOID + 1)
        shifted = transforms.apply_segmentation(shifted.astype(np.float32)).astype(np.int32)
        return np.where(shifted <= _FLOAT_VOID, VOID_ID, shifted - _FLOAT_VOID - 1)
