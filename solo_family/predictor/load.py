"""Load a trained model and the names of its classes, for the tools that examine its predictions."""

import logging

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from detectron2.engine import DefaultPredictor

from ..checkpoint.load import check_weights_file, load_weights
from ..data.formats.classes import class_names, is_class_agnostic
from ..data.loading.augmentation import AtLeastOnePixel
from ..modeling.inference import inference_model

logger = logging.getLogger(__name__)


def load_predictor(cfg: CfgNode, *, as_trained: bool = False) -> DefaultPredictor:
    """Return detectron2's predictor, but refuse weights that do not fit the model.

    Args:
        cfg: the configuration, whose `MODEL.INFERENCE` is applied.
        as_trained: keep the weights as they were trained, whatever `MODEL.INFERENCE` asks for.

    Raises:
        DataError: `MODEL.WEIGHTS` is missing, can't be read, or belongs to another model.
    """
    check_weights_file(cfg.MODEL.WEIGHTS)
    if not cfg.MODEL.WEIGHTS:
        logger.warning("MODEL.WEIGHTS is empty: the model has random weights")
    bare = cfg.clone()
    bare.merge_from_list(["MODEL.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", ""])
    predictor = DefaultPredictor(bare)
    predictor.aug = AtLeastOnePixel(predictor.aug)
    load_weights(DetectionCheckpointer(predictor.model), cfg.MODEL.WEIGHTS, complete=True)
    if not as_trained:
        predictor.model = inference_model(predictor.model, cfg)
    return predictor


def class_metadata(cfg: CfgNode) -> Metadata:
    """Return the metadata of `DATASETS.TEST`, or the class names that training stored."""
    metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0]) if cfg.DATASETS.TEST else Metadata()
    named = metadata.get("thing_classes") or metadata.get("stuff_classes")
    if named is None or is_class_agnostic(cfg):
        # The dataset is not on this machine, or its classes are not the model's.
        names = class_names(cfg)
        metadata = Metadata(thing_classes=names, stuff_classes=names)
    return metadata
