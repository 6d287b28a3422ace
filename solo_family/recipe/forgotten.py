"""Leave out of a recipe what a trained model's run had for its own data, batch and evaluations."""

from detectron2.config import CfgNode

from ..config import get_cfg
from ..config.rules import as_lists, get_key
from .choice import Choice

# What a recipe chooses itself where the new data ask for it, or never sets. All else of a run is
# kept: the model, how it reads images, colours, the optimizer's decays, what its owner likes.
_FORGOTTEN = (
    "MODEL.STUFF_IDS",
    *("DATASETS.TRAIN_REPEAT_FACTOR", "DATASETS.CLASS_UNION"),
    *("DATALOADER.SAMPLER_TRAIN", "DATALOADER.REPEAT_THRESHOLD", "DATALOADER.RANDOM_SUBSET_RATIO"),
    *("DATALOADER.FILTER_EMPTY_ANNOTATIONS", "DATALOADER.CACHE_BYTES"),
    *("INPUT.LSJ.ENABLED", "INPUT.CROP.ENABLED", "INPUT.CROP.AROUND_OBJECTS"),
    *("INPUT.COPY_PASTE.ENABLED", "INPUT.REDUCED_JPEG"),
    # A recipe has its own batch, AdamW, and a cosine down to 0.
    *("SOLVER.REFERENCE_BATCH_SIZE", "SOLVER.REFERENCE_WORLD_SIZE", "SOLVER.ACCUMULATE"),
    *("SOLVER.NESTEROV", "SOLVER.MOMENTUM", "SOLVER.BASE_LR_END"),
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE",
    *("TEST.TILE.SIZE", "TEST.TILE.OVERLAP", "TEST.AUG.ENABLED", "TEST.PRECISE_BN.ENABLED"),
    *("TEST.EARLY_STOP_PATIENCE", "TEST.EVAL_LOSS", "TEST.EXPECTED_RESULTS"),
)


def forgotten_choices(cfg: CfgNode) -> list[Choice]:
    """Return the lines that give such keys their defaults, where a trained model has others.

    Args:
        cfg: of the trained model.
    """
    defaults = get_cfg()
    values = {key: as_lists(get_key(defaults, key)) for key in _FORGOTTEN}
    return [
        Choice(key, value, "the source's was for its own data and training")
        for key, value in values.items()
        if as_lists(get_key(cfg, key)) != value
    ]
