"""Load a trained model and the names of its classes, for the tools that examine its predictions."""

import logging
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from detectron2.engine import DefaultPredictor

from ..checkpoint.load import check_weights_file, load_weights
from ..checkpoint.published import with_implied_keys
from ..console import logging_from
from ..data.formats.classes import class_ids, class_names, is_class_agnostic, stuff_ids
from ..data.loading.augmentation import AtLeastOnePixel
from ..errors import DataError
from ..modeling.inference import inference_model

logger = logging.getLogger(__name__)

# `KEY VALUE` pairs with which building a model loads no weights.
WITHOUT_WEIGHTS = ["MODEL.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", "", "MODEL.VGG.WEIGHTS", ""]


def load_predictor(cfg: CfgNode, *, as_trained: bool = False) -> DefaultPredictor:
    """Return detectron2's predictor, but refuse weights that do not fit the model.

    Args:
        cfg: the configuration, whose `MODEL.INFERENCE` is applied. Keys that published weights
            imply override it.
        as_trained: keep the weights as they were trained, whatever `MODEL.INFERENCE` asks for.

    Raises:
        DataError: `MODEL.WEIGHTS` is missing, can't be read, or belongs to another model.
    """
    check_weights_file(cfg.MODEL.WEIGHTS)
    cfg = with_implied_keys(cfg)
    if not cfg.MODEL.WEIGHTS:
        logger.warning(
            "MODEL.WEIGHTS is empty: the model has random weights, and its predictions mean "
            "nothing. Set it to a checkpoint, or name the folder of a training run as the model."
        )
    bare = cfg.clone()
    bare.merge_from_list(WITHOUT_WEIGHTS)
    bare.INPUT.FORMAT = "BGR"  # the class takes no others; it changes the order of RGB alone
    # It would say that there is no checkpoint: the weights come afterwards.
    with logging_from(logging.WARNING, "fvcore.common.checkpoint"):
        predictor = DefaultPredictor(bare)
    predictor.input_format = predictor.cfg.INPUT.FORMAT = cfg.INPUT.FORMAT
    predictor.aug = AtLeastOnePixel(predictor.aug, cfg.INPUT.RESIZE)  # type: ignore[assignment]
    load_weights(DetectionCheckpointer(predictor.model), cfg.MODEL.WEIGHTS, complete=True)
    if not as_trained:
        predictor.model = inference_model(predictor.model, cfg)
    return predictor


def class_metadata(cfg: CfgNode) -> Metadata:
    """Return the names and ids of the model's classes, and their colours if a dataset has them."""
    metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0]) if cfg.DATASETS.TEST else Metadata()
    names, ids = class_names(cfg), class_ids(cfg)
    named = metadata.get("thing_classes") or metadata.get("stuff_classes")
    content: dict[str, Any] = {"thing_classes": names, "stuff_classes": names}
    if not names or (named is not None and list(named) == names and not is_class_agnostic(cfg)):
        content = metadata.as_dict()
        content.pop("name", None)
    if ids:
        content["thing_dataset_id_to_contiguous_id"] = {i: place for place, i in enumerate(ids)}
    stuff = _stuff_labels(cfg, len(names))
    if stuff:
        content["stuff_labels"] = stuff
    return Metadata(**content)


def _stuff_labels(cfg: CfgNode, count: int) -> list[int]:
    """Return the model's classes that are stuff, of which the configuration need not tell."""
    if is_class_agnostic(cfg):
        return []
    try:
        return list(stuff_ids(cfg, count))
    except DataError:  # a dataset that is not here; models of stuff can't be built without it
        return []
