"""Label images, whose values are classes or segments: semantic labels and panoptic PNGs.

Shape letters: H W height and width of the image, K classes.
"""

from typing import Any

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image

from ...errors import DataError
from ...pictures import netpbm
from ..loading.images import read_image_size

VOID_16_BIT = 65535
# The segment id of pixels without a segment: three bytes of 255, which no panoptic PNG uses.
VOID_ID = 2**24 - 1
# Pillow's names of JPEG; JPEG 2000 has another, and may be lossless.
_LOSSY = ("JPEG", "MPO")
# The TIFF tag of a page that is a smaller copy of another (1) or its mask (4).
_SUBFILE, _COPY_OR_MASK = 254, 1 | 4


def read_labels(path: str, num_classes: int, ignore_label: int = 255) -> np.ndarray:
    """Read a label image with one channel of 8 or 16 bits, or with a palette.

    Args:
        path: of a file that Pillow can read.
        num_classes: number of classes, K.
        ignore_label: the value of pixels without a class. Unless they are classes, 255 and 65535
            mean the same.

    Returns:
        int32 [H, W], 0 to K - 1, and K for pixels without a class.

    Raises:
        DataError: the file can't be read, has several channels, or has a value that is neither a
            class nor ignored.
    """
    labels = _values(path)
    if labels.ndim != 2:
        raise DataError(
            f"{path} has {labels.shape[2]} channels, but a label image has one, whose values are "
            "class indices. Convert the colours to class indices."
        )
    labels = _whole(path, labels)
    ignored = [ignore_label, VOID_16_BIT, *([255] if num_classes <= 255 else [])]
    void = np.isin(labels, ignored)
    wrong = labels[~void & (labels >= num_classes)]
    if wrong.size:
        remedy = "Name all classes, or name the label to ignore."
        if wrong.max() == num_classes:
            remedy = (
                "If the labels count from 1, add a name for label 0 before the others, and ignore "
                "label 0: semantic:IMAGE_DIR:LABEL_DIR:unlabelled,CLASSES:0."
            )
            if ignore_label != 0:  # it does not ignore the label that one would add a name for
                remedy = (
                    f"If label {num_classes} is of pixels without a class, ignore it: "
                    f"semantic:IMAGE_DIR:LABEL_DIR:CLASSES:{num_classes}. {remedy}"
                )
        raise DataError(
            f"{path} has label {wrong.max()}, but there are {num_classes} classes, 0 to "
            f"{num_classes - 1}, and label {ignore_label} is ignored. {remedy}"
        )
    return np.where(void, num_classes, labels)


def _whole(path: str, labels: np.ndarray) -> np.ndarray:
    """Return labels as int32.

    Raises:
        DataError: one is no whole number from 0, as fractions, NaN or -1 of a TIFF.
    """
    if labels.dtype.kind == "f":
        odd = labels[~(np.isfinite(labels) & (labels == np.floor(labels)))]
        odd = odd if odd.size else labels[labels < 0]
    else:
        odd = labels[labels < 0] if labels.dtype.kind == "i" else labels[:0]
    if odd.size:
        raise DataError(
            f"{path} has label {odd.flat[0]}, but labels are whole numbers from 0. Write the index "
            "of its class, or, for pixels without a class, the label that is ignored, such as 255."
        )
    return labels.astype(np.int32)


def read_panoptic_ids(path: str) -> np.ndarray:
    """Read a panoptic PNG of COCO's format.

    Args:
        path: of the PNG.

    Returns:
        Segment ids, int32 [H, W]: R + 256 G + 256^2 B.

    Raises:
        DataError: the file can't be read, or is not a colour image.
    """
    colours = _values(path)
    if colours.ndim != 3 or colours.shape[2] < 3:
        raise DataError(
            f"{path} is not a colour image, but a panoptic PNG has segment ids as "
            "R + 256 G + 256^2 B. Name the folder of the panoptic PNGs."
        )
    return decode_ids(colours)


def encode_ids(ids: np.ndarray) -> np.ndarray:
    """Convert segment ids, integers [H, W], 0 to 2^24 - 1, to RGB colours, uint8 [H, W, 3]."""
    return np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=2).astype(np.uint8)


def decode_ids(colours: np.ndarray) -> np.ndarray:
    """Convert RGB colours, uint8 [H, W, 3 or more], to segment ids, int32 [H, W]."""
    red, green, blue = (colours[:, :, channel].astype(np.int32) for channel in range(3))
    return red + (green << 8) + (blue << 16)


def check_label_size(
    labels: np.ndarray, image: np.ndarray, label_path: str, image_path: str
) -> None:
    """Check that a label image has the size of its image.

    Args:
        labels: [H, W], or with channels.
        image: likewise.
        label_path: of the label image, for the message.
        image_path: of the image, for the message.

    Raises:
        DataError: the sizes differ; the message names both files and sizes.
    """
    if labels.shape[:2] != image.shape[:2]:
        sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (labels, image)]
        raise DataError(
            f"{label_path} is {sizes[0]} pixels, but its image {image_path} is {sizes[1]}. "
            "Export the labels in the size of the image"
        )


def check_size_in(record: dict[str, Any], labels: np.ndarray, path: str) -> None:
    """Check that a label image has the size of a record's image.

    Args:
        record: detectron2's dict. If it says another size, the image is asked, because the record
            may be wrong.
        labels: [H, W], or with channels.
        path: of the label image, for the message.

    Raises:
        DataError: the sizes differ; the message names both files and sizes.
    """
    size = (record.get("height"), record.get("width"))
    if labels.shape[:2] == size:
        return
    try:
        image = np.broadcast_to(np.uint8(0), read_image_size(record["file_name"]))
        check_label_size(labels, image, path, record["file_name"])
    except DataError as error:
        raise DataError(f"{str(error).rstrip('.')}.") from error


def refuse_jpeg(path: Any, image: Image.Image) -> None:
    """Refuse a JPEG, also under another suffix: what it stores are not the labels.

    Raises:
        DataError: it is one.
    """
    if image.format in _LOSSY:
        raise jpeg_error(path)


def pages_of(picture: Image.Image) -> list[int]:
    """Return the pages of a TIFF, from 0, that are no smaller copies or masks of others.

    A picture of another format, such as an animation, has its first page alone.
    """
    count = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
    if count == 1:
        return [0]
    pages = []
    for index in range(count):
        picture.seek(index)
        if not int(getattr(picture, "tag_v2", {}).get(_SUBFILE, 0)) & _COPY_OR_MASK:
            pages.append(index)
    picture.seek(0)
    return pages


def refuse_pages(path: Any, picture: Image.Image) -> None:
    """Refuse labels in several pages: which of them are the image's, nothing tells.

    Raises:
        DataError: it has several pages.
    """
    pages = len(pages_of(picture))
    if pages > 1:
        raise DataError(
            f"{path} has {pages} pages, but labels are one picture, with a value for each class or "
            "object. Save them in a file of one page."
        )


def jpeg_error(path: Any) -> DataError:
    """Return the error of labels in a JPEG."""
    return DataError(
        f"{path} is a JPEG, whose compression changes labels, most at their borders. Save the "
        "labels as they were drawn in a PNG."
    )


def _values(path: str) -> np.ndarray:
    """Return the numbers in a file, [H, W] or [H, W, C]."""
    try:
        with PathManager.open(path, "rb") as file:
            if file.read(1) == b"P":
                content = b"P" + file.read()
                header = netpbm.read_header(content)
                if header is not None:  # Pillow would scale the numbers
                    values = netpbm.numbers(content, header)
                    return values[:, :, 0] if header.channels == 1 else values
            file.seek(0)
            image = Image.open(file)
            refuse_jpeg(path, image)
            refuse_pages(path, image)
            return np.asarray(image)
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders can raise any error for a broken file
        reason = str(error) or type(error).__name__
        raise DataError(f"{path} can't be read as a label image: {reason}") from error
