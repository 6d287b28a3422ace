"""From a dataset's dict to the model's input: detectron2's mapper, always with bit masks."""

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper

from .augmentation import build_train_augmentation


class MaskDatasetMapper(DatasetMapper):
    """detectron2's `DatasetMapper` for models that need masks and no boxes.

    Masks are loaded whatever `MODEL.MASK_ON` says, and as bit masks whatever `INPUT.MASK_FORMAT`:
    they can come from polygons and from RLE. Crowds are left out, as detectron2 does.
    """

    @configurable
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        options = super().from_config(cfg, is_train)
        options["use_instance_mask"] = True
        options["instance_mask_format"] = "bitmask"
        if is_train:
            options["augmentations"] = build_train_augmentation(cfg)
            # Crops and jitter leave parts of masks; their boxes follow.
            options["recompute_boxes"] = cfg.INPUT.CROP.ENABLED or cfg.INPUT.LSJ.ENABLED
        return options
