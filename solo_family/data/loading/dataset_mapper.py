"""From a dataset's dict to the model's input: detectron2's mapper, always with bit masks."""

import copy
import logging
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.data.detection_utils import (
    SizeMismatchError,
    annotations_to_instances,
    check_image_size,
)

from ...errors import DataError
from .augmentation import build_train_augmentation, detectron2_augmentation
from .bad_images import BadImages
from .images import Reading, read_image
from .object_crop import crop_annotations, pixels_of, window_around_object
from .windows import open_windows

logger = logging.getLogger(__name__)


class MaskDatasetMapper(DatasetMapper):
    """detectron2's `DatasetMapper` for models that need masks and no boxes.

    Masks are loaded whatever `MODEL.MASK_ON` says, and as bit masks whatever `INPUT.MASK_FORMAT`:
    they can come from polygons and from RLE. Crowds are left out, as detectron2 does.

    Args:
        skip_bad_images: in training, go on without images that can't be read, and count them.
        num_images: of the dataset; when as many can't be read, there is nothing to go on with.
        reading: how image files are read.
        crop_around: in training, height and width of windows around objects that images are
            cropped to before everything else; None for whole images.
        options: detectron2's.
    """

    @configurable
    def __init__(
        self,
        *,
        skip_bad_images: bool = False,
        num_images: int = 0,
        reading: Reading | None = None,
        crop_around: tuple[int, int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._reading = reading or Reading()
        self._crop_around = crop_around
        self._bad_images = BadImages(skip_bad_images, num_images)
        self._has_told = False

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        options = super().from_config(cfg, is_train)
        options["use_instance_mask"] = True
        options["reading"] = Reading.from_config(cfg)
        options["instance_mask_format"] = "bitmask"
        if is_train:
            options["augmentations"] = build_train_augmentation(cfg)
            # Crops and jitter leave parts of masks; their boxes follow.
            around = tuple(cfg.INPUT.CROP.AROUND_OBJECTS) or None
            options["crop_around"] = around
            crops = bool(around) or cfg.INPUT.CROP.ENABLED or cfg.INPUT.LSJ.ENABLED
            options["recompute_boxes"] = crops
            options["skip_bad_images"] = cfg.DATALOADER.SKIP_BAD_IMAGES
        else:
            options["augmentations"] = detectron2_augmentation(cfg, is_train=False)
        return options

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any] | None:
        """Map one image.

        Returns:
            `image`, uint8 [3, h, w], and in training `instances`; None for a skipped image, which
            detectron2's loader then replaces by another. That has `num_skipped`, the number of
            images before it that were skipped, because the loader's worker processes can tell the
            trainer of them in no other way.

        Raises:
            DataError: the image, or none of the images that may be skipped, can be read; or it has
                another size than the dataset says.
        """
        dataset_dict = copy.deepcopy(dataset_dict)
        try:
            image = self._read(dataset_dict)
        except (DataError, SizeMismatchError) as error:
            self._bad_images.add(dataset_dict["file_name"], error)
            return None
        aug_input = T.AugInput(image)
        transforms = self.augmentations(aug_input)
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
            image = read_image(path, self.image_format, self._reading)
            check_image_size(dataset_dict, image)
            return image
        windows = open_windows(path, self.image_format, self._reading)
        check_image_size(dataset_dict, pixels_of(windows.size))
        annotations = dataset_dict.get("annotations", [])
        window = window_around_object(annotations, windows.size, self._crop_around)
        dataset_dict["annotations"] = crop_annotations(annotations, window, windows.size)
        dataset_dict["height"], dataset_dict["width"] = window.size
        return windows.read(window)

    def _transform_annotations(
        self, dataset_dict: dict[str, Any], transforms: Any, image_shape: tuple[int, int]
    ) -> None:
        annotations = dataset_dict.setdefault("annotations", [])
        objects = sum(not annotation.get("iscrowd", 0) for annotation in annotations)
        if objects:
            super()._transform_annotations(dataset_dict, transforms, image_shape)
            if not self.recompute_boxes:  # otherwise a crop has cut objects off
                lost = objects - len(dataset_dict["instances"])
                self._tell_lost(lost, objects, dataset_dict["file_name"], image_shape)
        else:
            # Without objects there is no mask whose box could be recomputed.
            dataset_dict.pop("annotations")
            dataset_dict["instances"] = annotations_to_instances([], image_shape, "bitmask")

    def _tell_lost(self, lost: int, objects: int, file: str, shape: tuple[int, int]) -> None:
        """Warn once, in each process that maps, of objects of which no pixel is left."""
        if lost and not self._has_told:
            self._has_told = True
            logger.warning(
                "%s: %d of its %d objects have no pixel left at %d x %d, and are not learnt. "
                "`check-data --config-file` counts all of them; INPUT.MIN_SIZE_TRAIN and "
                "MAX_SIZE_TRAIN make images larger.",
                file,
                lost,
                objects,
                *shape,
            )
