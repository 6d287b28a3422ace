"""The keys of copy-paste augmentation, and what they can't be."""

from detectron2.config import CfgNode

from ..errors import ConfigError
from .rules import get_key

# Said where the labels are known, too.
NO_OBJECTS = (
    "INPUT.COPY_PASTE.ENABLED is True, but semantic labels have no objects that could be pasted, "
    "only classes. Set INPUT.COPY_PASTE.ENABLED False, or name a dataset of instances or panoptic "
    "labels."
)


def add_copy_paste_config(cfg: CfgNode) -> None:
    """Add `INPUT.COPY_PASTE` to `cfg`, in place."""
    # Paste random objects of another training image, which is augmented too, on an image (Ghiasi et
    # al., arXiv 2012.07177). For masks of instances and for panoptic labels.
    cfg.INPUT.COPY_PASTE = CfgNode()
    cfg.INPUT.COPY_PASTE.ENABLED = False
    # The share of images that objects are pasted on; all of them in the paper.
    cfg.INPUT.COPY_PASTE.PROB = 1.0
    # The most objects that are pasted on an image; their number is drawn from 1 to this, or to as
    # many as the other image has.
    cfg.INPUT.COPY_PASTE.MAX_OBJECTS = 100
    # The other image is resized as INPUT.MIN_SIZE_TRAIN says, times a factor of this range: the
    # paper's "standard scale jittering". With INPUT.LSJ.ENABLED both images have that instead.
    cfg.INPUT.COPY_PASTE.SCALES = (0.8, 1.25)
    # Soften the borders of pasted objects by a Gaussian with this standard deviation, in pixels; 0
    # for none. The paper finds no difference.
    cfg.INPUT.COPY_PASTE.BLEND = 0.0
    # Drop objects of which less than this share of pixels is still visible, because others cover
    # them or, of pasted ones, because the border cuts them; 0 drops those without any, as in the
    # paper.
    cfg.INPUT.COPY_PASTE.MIN_VISIBLE = 0.0
    # Take objects more often from images of rare classes: those that fewer than this share of the
    # images have, as DATALOADER.REPEAT_THRESHOLD has it; 0 takes all images equally often.
    cfg.INPUT.COPY_PASTE.REPEAT_THRESHOLD = 0.0


def check_copy_paste(cfg: CfgNode) -> None:
    """Check `INPUT.COPY_PASTE`.

    Raises:
        ConfigError: names the key, its value, and what is allowed.
    """
    keys = cfg.INPUT.COPY_PASTE
    for name in ("PROB", "MIN_VISIBLE", "REPEAT_THRESHOLD"):
        if not 0 <= keys[name] <= 1:
            raise ConfigError(
                f"INPUT.COPY_PASTE.{name} is {keys[name]}; it must be from 0 to 1, a share."
            )
    if keys.MAX_OBJECTS < 1:
        raise ConfigError(
            f"INPUT.COPY_PASTE.MAX_OBJECTS is {keys.MAX_OBJECTS}; it must be at least 1. To paste "
            "nothing set INPUT.COPY_PASTE.ENABLED False."
        )
    if not 0 <= keys.BLEND < float("inf"):
        raise ConfigError(
            f"INPUT.COPY_PASTE.BLEND is {keys.BLEND}; it must be a number of pixels, or 0 for none."
        )
    scales = list(keys.SCALES)
    if len(scales) != 2 or not 0 < scales[0] <= scales[1] < float("inf"):
        raise ConfigError(
            f"INPUT.COPY_PASTE.SCALES is {scales}; it must be the smallest and the greatest factor "
            "of the other image's size, for instance (0.8, 1.25), or (1.0, 1.0) for none."
        )
    if keys.ENABLED and get_key(cfg, "INPUT.DATASET_MAPPER_NAME") == "mask_former_semantic":
        raise ConfigError(NO_OBJECTS)
