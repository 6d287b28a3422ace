"""A check of a sample of a dataset's label images, before a run."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from ...errors import DataError
from ...progress import Progress
from .label_maps import check_size_in, read_labels, read_panoptic_ids

_WHITE = 255


def check_labels(name: str, sample: int) -> list[str]:
    """Read label images that are spread evenly over a semantic or panoptic dataset.

    Args:
        name: of a registered dataset; without label images there is nothing to check.
        sample: number of label images to read, at most.

    Returns:
        What contradicts itself but can be used, a sentence each; see `_contradictions`.

    Raises:
        DataError: a label image can't be read, has another size than its image, or has a value that
            is not a class; or there are two classes and all label images are black-and-white masks,
            of 0 and the ignored 255.
    """
    records = DatasetCatalog.get(name)
    metadata = MetadataCatalog.get(name)
    classes = list(metadata.get("stuff_classes") or [])
    ignored = metadata.get("ignore_label", _WHITE)
    values: set[int] = set()
    read: list[tuple[dict[str, Any], np.ndarray]] = []
    step = max(1, -(-len(records) // sample))
    for record in Progress(records[::step], "labels", unit=" images", delay=1, leave=False):
        if "sem_seg_file_name" in record:
            labels = read_labels(record["sem_seg_file_name"], len(classes), ignored)
            check_size_in(record, labels, record["sem_seg_file_name"])
            values |= set(map(int, set(labels.ravel().tolist())))
        elif "pan_seg_file_name" in record:
            ids = read_panoptic_ids(record["pan_seg_file_name"])
            check_size_in(record, ids, record["pan_seg_file_name"])
            read.append((record, np.unique(ids)))
    if len(classes) == 2 and values == {0, 2} and ignored == _WHITE:
        raise DataError(
            f"Dataset {name!r}: its label images have only the values 0 and 255, and 255 is "
            f"ignored, so no pixel is {classes[1]}. Replace 255 by 1; or, if each label image is "
            "the mask of one object, name the dataset masks:IMAGE_DIR:MASK_DIR."
        )
    return _contradictions(records, read) if read else []


def _contradictions(
    records: Sequence[dict[str, Any]], read: Sequence[tuple[dict[str, Any], np.ndarray]]
) -> list[str]:
    """Compare what a panoptic json lists with the PNGs; the official code takes both as they are.

    Args:
        records: all of the dataset.
        read: some of them, each with the ids in its PNG.
    """
    empty, unlisted = [], []
    for record, found in read:
        png = record["pan_seg_file_name"]
        listed = {segment.get("id") for segment in record["segments_info"]}
        there = set(found.tolist()) - {0}  # of pixels without a label
        empty += [f"{segment} of {png}" for segment in sorted(listed - there, key=str)]
        unlisted += [f"{segment} of {png}" for segment in sorted(there - listed)]
    images = [record["file_name"] for record in records]
    twice = sorted(name for name, count in Counter(images).items() if count > 1)
    return [
        *_sentence(
            empty,
            "segments of the json have no pixel in their PNG, and are learnt as empty masks "
            "(INPUT.EMPTY_SEGMENTS drop leaves them out), and missed by every result. Remove them "
            "from the json",
        ),
        *_sentence(
            unlisted,
            "segments of the PNGs are not in the json, so their pixels are neither learnt nor "
            "evaluated. Add them to the json, or set these pixels to 0",
        ),
        *_sentence(
            twice,
            "images have more than one entry in 'annotations', and are learnt and evaluated as "
            "often. Keep one entry",
        ),
    ]


def _sentence(found: Sequence[str], what: str) -> Iterable[str]:
    return [f"{len(found)} {what}. The first is {found[0]}."] if found else []
