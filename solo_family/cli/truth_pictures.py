"""Draw a model's predictions beside the ground truth.

H W of a picture.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import Visualizer

from ..data.formats.own_records import dataset_records as read_records
from ..data.formats.register import check_datasets
from ..errors import ConfigError, DataError
from ..modeling.class_colours import with_class_colours
from ..predictor.drawing import beside, draw_predictions, write_picture
from ..predictor.labels import keep_labels_inside
from ..predictor.predictions import keep_confident
from ..predictor.sources import from_config
from ..progress import Progress
from .batches import read_picture
from .source import Source
from .writers import plan_outputs

logger = logging.getLogger(__name__)


def dataset_records(names: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return detectron2's records of datasets, each with the name of its dataset.

    Raises:
        ConfigError: no dataset is named.
        DataError: a dataset can't be read.
    """
    if not names:
        raise ConfigError(
            "DATASETS.TEST is empty: name a dataset, for instance "
            "\"('coco_json:ANNOTATIONS.json:IMAGE_DIR',)\", or give pictures with --input."
        )
    check_datasets(names)
    return [(name, record) for name in names for record in read_records(name)]


def draw_beside_truth(
    cfg: CfgNode, output: Path, threshold: float, most: int | None
) -> tuple[int, int]:
    """Write a picture for each image of DATASETS.TEST: the truth, and the predictions on its right.

    Args:
        cfg: of the model.
        output: a folder, or the file of a single picture.
        threshold: the lowest score of what is drawn.
        most: how many images are drawn; None for all.

    Returns:
        How many were drawn, and how many could not be read.

    Raises:
        SoloFamilyError: the model, a dataset or the output can't be used.
    """
    records = dataset_records(cfg.DATASETS.TEST)[:most]
    sources = [Source(Path(record["file_name"]), is_video=False) for _, record in records]
    outputs = plan_outputs(sources, output)
    model = from_config(cfg)
    skipped = 0
    for source, (name, record), file in zip(Progress(sources, unit="picture"), records, outputs):
        try:
            image = read_picture(source, model.reading)
            picture = model.reading.picture(image)
            truth = draw_truth(picture, record, MetadataCatalog.get(name))
        except DataError as error:
            logger.error("skipped %s", error)
            skipped += 1
            continue
        predictions = keep_confident(model.predict([image])[0], threshold)
        drawn = draw_predictions(VideoVisualizer(model.metadata), picture, predictions)
        write_picture(file, beside(truth, drawn))
    return len(sources) - skipped, skipped


def draw_truth(picture: np.ndarray, record: dict[str, Any], metadata: Metadata) -> np.ndarray:
    """Draw a record's objects, its segments, or else its class of every pixel.

    Args:
        picture: uint8 [H, W, 3], BGR.
        record: detectron2's.
        metadata: of its dataset.

    Returns:
        uint8 [H, W, 3], BGR.

    Raises:
        DataError: its file of segments or classes can't be read.
    """
    rgb = np.ascontiguousarray(picture[:, :, ::-1])
    visualizer = Visualizer(rgb, with_class_colours(metadata))  # those of the predictions
    if "pan_seg_file_name" in record:
        ids = _labels(record["pan_seg_file_name"]).astype(np.int64)
        record = {
            "pan_seg": ids[:, :, 2] + 256 * ids[:, :, 1] + 65536 * ids[:, :, 0],
            "segments_info": record["segments_info"],
        }
        drawn = visualizer.draw_dataset_dict(record)
    elif "sem_seg_file_name" in record:
        drawn = visualizer.draw_sem_seg(_labels(record["sem_seg_file_name"]), area_threshold=0)
    else:
        objects = [one for one in record.get("annotations", []) if one.get("segmentation")]
        names = metadata.get("thing_classes") or []
        labels = [one["category_id"] for one in objects]
        drawn = visualizer.overlay_instances(
            masks=[one["segmentation"] for one in objects],
            labels=[names[label] if label < len(names) else str(label) for label in labels],
        )
    keep_labels_inside(drawn)
    return cv2.cvtColor(drawn.get_image(), cv2.COLOR_RGB2BGR)


def _labels(path: str) -> np.ndarray:
    """Return the values of a label file, [H, W] or, blue first, [H, W, 3]."""
    values = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if values is None:
        raise DataError(f"{path} can't be read as an image")
    return values
