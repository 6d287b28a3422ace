"""detectron2's dataset mapper, always with bit masks: dataset dict to model input."""

import copy
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.data.detection_utils import (
    annotations_to_instances,
    filter_empty_instances,
    transform_instance_annotations,
)
from detectron2.structures import Boxes, Instances

from ...errors import DataError
from .augmentation import build_train_augmentation, detectron2_augmentation
from .bad_images import BadImages
from .image_cache import ImageCache
from .images import Reading, check_size, read_image
from .masks import boxes_of, drawn, moved_parts
from .object_crop import crop_annotations, window_around_object
from .reduced import Target, from_original, is_reduced
from .windows import open_windows

logger = logging.getLogger(__name__)

# detectron2's: an object whose box has a side of so many pixels or less is none.
_LEAST_SIDE = 1e-5


class MaskDatasetMapper(DatasetMapper):
    """Map images with detectron2's `DatasetMapper`, for models that need masks and no boxes.

    Masks are always loaded, as bit masks, whatever `MODEL.MASK_ON` and `INPUT.MASK_FORMAT` say,
    because annotations may be polygons or RLE. Crowds are dropped, as in detectron2.

    Args:
        skip_bad_images: skip and count training images that can't be read, instead of stopping.
        num_images: size of the dataset; mapping stops when this many files can't be read.
        reading: how image files are read.
        crop_around: in training, height and width of windows around objects that images are
            cropped to before everything else; None for whole images.
        cache: reads whole images, in the same way; None decodes each time.
        options: the arguments of detectron2's `DatasetMapper`.
    """

    @configurable
    def __init__(
        self,
        *,
        skip_bad_images: bool = False,
        num_images: int = 0,
        reading: Reading | None = None,
        crop_around: tuple[int, int] | None = None,
        cache: ImageCache | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._reading = reading or Reading()
        self._crop_around = crop_around
        self._cache = None if cache is None else cache.of(self._reading)
        self._bad_images = BadImages(skip_bad_images, num_images)
        self._has_warned = False

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Return the arguments of `__init__` that the configuration stands for."""
        options = super().from_config(cfg, is_train)
        options["use_instance_mask"] = True
        options["reading"] = Reading.from_config(cfg)
        options["instance_mask_format"] = "bitmask"
        if is_train:
            options["augmentations"] = build_train_augmentation(cfg)
            # Crops and jitter cut masks off, so boxes are recomputed from what is left.
            around = tuple(cfg.INPUT.CROP.AROUND_OBJECTS) or None
            options["crop_around"] = around
            crops = bool(around) or cfg.INPUT.CROP.ENABLED or cfg.INPUT.LSJ.ENABLED
            options["recompute_boxes"] = crops
            options["skip_bad_images"] = cfg.DATALOADER.SKIP_BAD_IMAGES
            target = Target.from_config(cfg)
            options["reading"] = replace(options["reading"], target=target)
        else:
            options["augmentations"] = detectron2_augmentation(cfg, is_train=False)
        return options

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any] | None:
        """Map one image.

        Returns:
            The dict with `image`, uint8 [3, h, w], and for training `instances`. None for a skipped
            image; the loader then maps another image in its place. With `skip_bad_images` the dict
            also has `num_skipped`, the number of images skipped since the last one that was mapped,
            because a worker process can report them to the trainer in no other way.

        Raises:
            DataError: the image can't be read or has another size than the dataset says, and may
                not be skipped; or every image of the dataset was skipped.
        """
        dataset_dict = copy.deepcopy(dataset_dict)
        try:
            image = self._read(dataset_dict)
        except DataError as error:
            self._bad_images.add(dataset_dict["file_name"], error)
            return None
        aug_input = T.AugInput(image)
        transforms = self.augmentations(aug_input)
        if self._reading.target is not None:
            size = dataset_dict["height"], dataset_dict["width"]
            transforms = from_original(transforms, size, image.shape[:2])
        image = np.ascontiguousarray(aug_input.image.transpose(2, 0, 1))
        dataset_dict["image"] = torch.as_tensor(image)
        if not self.is_train:
            dataset_dict.pop("annotations", None)
        else:
            self._transform_annotations(dataset_dict, transforms, image.shape[1:])
        if self._bad_images.skip:
            dataset_dict["num_skipped"] = self._bad_images.take_count()
        return dataset_dict

    def _read(self, dataset_dict: dict[str, Any]) -> np.ndarray:
        """Return an image, or a window of it, to which the annotations are then cropped, too."""
        path = dataset_dict["file_name"]
        if self._crop_around is None:
            if self._cache is None:
                image = read_image(path, self.image_format, self._reading)
            else:
                image = self._cache.read(path)
            size = dataset_dict.get("height", 0), dataset_dict.get("width", 0)
            if self._reading.target is None or not is_reduced(size, image.shape[:2]):
                check_size(dataset_dict, image.shape[:2])
            return image
        windows = open_windows(path, self.image_format, self._reading)
        check_size(dataset_dict, windows.size)
        annotations = dataset_dict.get("annotations", [])
        window = window_around_object(annotations, windows.size, self._crop_around)
        dataset_dict["annotations"] = crop_annotations(annotations, window, windows.size)
        dataset_dict["height"], dataset_dict["width"] = window.size
        return windows.read(window)

    def _transform_annotations(
        self, dataset_dict: dict[str, Any], transforms: Any, image_shape: tuple[int, int]
    ) -> None:
        annotations = [
            one for one in dataset_dict.pop("annotations", []) if not one.get("iscrowd", 0)
        ]
        instances = self._instances(annotations, transforms, image_shape)
        dataset_dict["instances"] = instances
        if not self.recompute_boxes:  # with a crop, losing objects is normal
            lost = len(annotations) - len(instances)
            file = dataset_dict["file_name"]
            self._warn_of_lost_objects(lost, len(annotations), file, image_shape)

    def _instances(
        self, annotations: list[dict[str, Any]], transforms: Any, size: tuple[int, int]
    ) -> Instances:
        """Return what detectron2's `annotations_to_instances` and `filter_empty_instances` would.

        Args:
            annotations: of objects, which are changed.
            transforms: the augmentation of the image.
            size: height and width of the augmented image.
        """
        has_masks = bool(annotations) and "segmentation" in annotations[0]
        segmentations = [one.pop("segmentation") for one in annotations if has_masks]
        moved = [self._without_masks(one, transforms, size) for one in annotations]
        instances = annotations_to_instances(moved, size, "bitmask")
        if not has_masks:
            return filter_empty_instances(instances) if moved else instances
        parts = moved_parts(segmentations, transforms, size)
        if self.recompute_boxes:
            instances.gt_boxes = Boxes(boxes_of(parts))
        kept = instances.gt_boxes.nonempty(threshold=_LEAST_SIDE)
        kept &= torch.tensor([bool(part.mask.any()) for part in parts])
        instances = instances[kept]
        instances.gt_masks = drawn([part for part, keep in zip(parts, kept) if keep], size)
        return instances

    def _without_masks(
        self, annotation: dict[str, Any], transforms: Any, size: tuple[int, int]
    ) -> dict[str, Any]:
        if not self.use_keypoint:
            annotation.pop("keypoints", None)
        return transform_instance_annotations(
            annotation, transforms, size, keypoint_hflip_indices=self.keypoint_hflip_indices
        )

    def _warn_of_lost_objects(
        self, lost: int, objects: int, file: str, shape: tuple[int, int]
    ) -> None:
        """Warn, once per process, that the resize has left objects without a pixel."""
        if lost and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%s: %d of its %d objects have no pixel left at %d x %d, and are not learnt. "
                "`check-data --config-file` counts such objects in all images; raise "
                "INPUT.MIN_SIZE_TRAIN and INPUT.MAX_SIZE_TRAIN to keep them.",
                file,
                lost,
                objects,
                *shape,
            )
