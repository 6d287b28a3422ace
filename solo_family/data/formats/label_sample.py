"""A check of a sample of a dataset's label images, before a run."""

from detectron2.data import DatasetCatalog, MetadataCatalog
from tqdm import tqdm

from ...errors import DataError
from .label_maps import read_labels, read_panoptic_ids

_WHITE = 255


def check_labels(name: str, sample: int) -> None:
    """Read label images that are spread evenly over a semantic or panoptic dataset.

    Args:
        name: of a registered dataset; without label images there is nothing to check.
        sample: number of label images to read, at most.

    Raises:
        DataError: a label image can't be read or has a value that is not a class; or there are two
            classes and all label images are black-and-white masks, of 0 and the ignored 255.
    """
    records = DatasetCatalog.get(name)
    metadata = MetadataCatalog.get(name)
    classes = list(metadata.get("stuff_classes") or [])
    ignored = metadata.get("ignore_label", _WHITE)
    values: set[int] = set()
    step = max(1, -(-len(records) // sample))
    for record in tqdm(records[::step], "labels", unit=" images", delay=1, leave=False):
        if "sem_seg_file_name" in record:
            labels = read_labels(record["sem_seg_file_name"], len(classes), ignored)
            values |= set(map(int, set(labels.ravel().tolist())))
        elif "pan_seg_file_name" in record:
            read_panoptic_ids(record["pan_seg_file_name"])
    if len(classes) == 2 and values == {0, 2} and ignored == _WHITE:
        raise DataError(
            f"Dataset {name!r}: its label images have only the values 0 and 255, and 255 is "
            f"ignored, so no pixel is {classes[1]}. Replace 255 by 1; or, if each label image is "
            "the mask of one object, name the dataset masks:IMAGE_DIR:MASK_DIR."
        )
