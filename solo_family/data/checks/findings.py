"""What can be wrong with a dataset: what each kind of mistake does to a run, and how to mend it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        title: what it is, of which there are several.
        effect: what a run makes of it.
        remedy: what to do; "" where nothing is wrong.
    """

    title: str
    effect: str
    remedy: str = ""


STOPS = "Training and evaluation stop before they begin."
_UNREADABLE = "Training stops at the first; with --skip-bad-images it goes on without them."

MISSING_FILE = Kind(
    "images that are not there",
    STOPS,
    "Name the folder that 'file_name' is relative to, or take them out of 'images'.",
)
OUTSIDE_FILE = Kind(
    "images outside of their folder",
    STOPS,
    "Name the folder that all images are in, or, if you trust the json, set the environment "
    "variable SOLO_FAMILY_ALLOW_OUTSIDE=1.",
)
UNREADABLE_FILE = Kind("files that can't be read as an image", _UNREADABLE, "Mend or remove them.")
OTHER_SIZE = Kind(
    "images of another size than the json says",
    _UNREADABLE,
    "Correct 'height' and 'width' to the file's, turned upright by its EXIF tag; if the image was "
    "resized or turned, so must its masks be.",
)
IMAGE_ID = Kind("image ids that stand more than once", STOPS, "Number the images anew.")
ANNOTATION_ID = Kind(
    "annotation ids that stand more than once", STOPS, "Number the annotations anew."
)
CATEGORY_ID = Kind("category ids that stand more than once", STOPS, "Give each its own.")
ODD_ID = Kind("ids that are neither whole numbers nor text", STOPS, "Number them.")
UNKNOWN_IMAGE = Kind(
    "annotations of unknown images", STOPS, "Add the image to 'images', or remove them."
)
UNKNOWN_CATEGORY = Kind(
    "annotations of unknown categories", STOPS, "Add the category to 'categories', or remove them."
)
ODD_BOX = Kind("boxes that are not four numbers", STOPS, "Write [left, top, width, height].")
EMPTY_BOX = Kind(
    "boxes of no area, or outside of their image",
    "Training leaves these objects out, unless it crops; evaluation expects them to be found.",
    "Write [left, top, width, height] in pixels of the image, not as shares of it.",
)
BOX_OUTSIDE = Kind(
    "boxes that reach out of their image",
    "Training cuts them off at the border, and with them what a grid level is chosen by.",
    "Write [left, top, width, height]; is it [left, top, right, bottom] here?",
)
BOX_ELSEWHERE = Kind(
    "boxes that are not around their mask",
    "A grid learns these objects in levels and cells that are not theirs.",
    "Make them anew from the masks; is it [left, top, right, bottom] here?",
)
NO_MASK = Kind(
    "objects without a mask: no segmentation, or polygons of fewer than 3 points",
    "Training and evaluation leave these objects out.",
    "Draw their outline: a box is not enough.",
)
MASK_OF_OTHER_SIZE = Kind(
    "RLE masks of another size than their image",
    "Training and evaluation leave these objects out.",
    "Encode them anew, from masks of the image's [height, width].",
)
BROKEN_MASK = Kind(
    "masks that can't be decoded",
    "Training and evaluation leave these objects out, or stop before they begin.",
    "Export them anew: polygons are numbers in or near the image, RLE counts all of its pixels.",
)
EMPTY_MASK = Kind(
    "masks without pixels",
    "Training leaves these objects out; evaluation counts them as never found.",
    "Draw them anew, or remove them.",
)
CROWDS_OF_A_TOOL = Kind(
    "masks with 'iscrowd' 1, which are all masks, or most of those that are RLE",
    "Training leaves them out; in evaluation they are neither hit nor miss. CVAT, datumaro, "
    "supervision and other tools write it for masks of single objects.",
    "Unless they are crowds, write ?crowd=objects after the image folder, wherever it is named: "
    "coco_json:ANNOTATIONS.json:IMAGE_DIR?crowd=objects.",
)
REFUSED = Kind("value that is refused, the first", STOPS, "Correct it, and check again.")

OTHERWISE = Kind(
    "kinds of value that are not as COCO has them",
    "All of this package reads them as they are meant.",
)
NAMED_OTHERWISE = Kind(
    "'file_name's that are no file in the folder",
    "The only file in the folder whose name they end in is taken.",
)
CROWD = Kind(
    "crowds ('iscrowd' 1)", "Training leaves them out; in evaluation they are neither hit nor miss."
)
EMPTY_IMAGE = Kind(
    "images without objects, or with crowds alone",
    "Training leaves them out, unless DATALOADER.FILTER_EMPTY_ANNOTATIONS False.",
)
EMPTY_CATEGORY = Kind(
    "categories without objects", "The model has them among its classes, and finds none of them."
)

KINDS = tuple(value for value in list(globals().values()) if isinstance(value, Kind))
