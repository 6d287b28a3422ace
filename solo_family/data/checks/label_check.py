"""Opens a sample of a dataset's label images, as training does."""

from detectron2.data import DatasetCatalog, MetadataCatalog
from tqdm import tqdm

from ..formats.dataset_classes import dataset_classes
from ..formats.label_maps import read_labels, read_panoptic_ids

_SAMPLE = 100


def check_labels(name: str) -> None:
    """Reads up to 100 label images, spread evenly over a semantic or panoptic dataset.

    Args:
        name: of a registered dataset; one without label images is left alone.

    Raises:
        DataError: one can't be read, or has a value that is no class.
    """
    records = DatasetCatalog.get(name)
    step = max(1, -(-len(records) // _SAMPLE))
    num_classes = len(dataset_classes(name) or [])
    ignored = MetadataCatalog.get(name).get("ignore_label", 255)
    for record in tqdm(records[::step], "labels", unit=" images", delay=1, leave=False):
        if "sem_seg_file_name" in record:
            read_labels(record["sem_seg_file_name"], num_classes, ignored)
        elif "pan_seg_file_name" in record:
            read_panoptic_ids(record["pan_seg_file_name"])
