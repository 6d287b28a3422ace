"""What can be wrong with a dataset: what each kind of mistake does to a run, and how to fix it."""

from dataclasses import dataclass, field


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


@dataclass
class Findings:
    """What was found.

    Attributes:
        found: by kind, what: ids or files, in the order of the json.
    """

    found: dict[Kind, list[str]] = field(default_factory=dict)

    def add(self, kind: Kind, *what: str) -> None:
        """Take note of what is of a kind."""
        if what:
            self.found.setdefault(kind, []).extend(what)

    @property
    def problems(self) -> list[Kind]:
        """The kinds that need fixing, of those that were found."""
        return [kind for kind in KINDS if kind.remedy and kind in self.found]

    @property
    def remarks(self) -> list[Kind]:
        """The kinds that may be as they are meant, of those that were found."""
        return [kind for kind in KINDS if not kind.remedy and kind in self.found]


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
UNREADABLE_FILE = Kind("files that can't be read as an image", _UNREADABLE, "Fix or remove them.")
OTHER_CHANNELS = Kind(
    "images of another number of channels than INPUT.FORMAT",
    _UNREADABLE,
    "Set INPUT.FORMAT to that number if all images have it, in a config that --config-file names; "
    "otherwise leave the others out.",
)
OTHER_SIZE = Kind(
    "images of another size than the json says",
    _UNREADABLE,
    "Correct 'height' and 'width' to the file's, turned upright by its EXIF tag; if the image was "
    "resized or turned, so must its masks be.",
)
TOO_LARGE = Kind(
    "images of more pixels than INPUT.MAX_PIXELS",
    _UNREADABLE,
    "Set INPUT.MAX_PIXELS to the largest of these numbers, if the memory suffices, or cut the "
    "images into tiles.",
)
UNTOLD_RANGE = Kind(
    "images of more than 8 bits whose values may be of any range",
    _UNREADABLE,
    "Say with INPUT.RANGE which values are black and white, for instance (0, 4095) for 12 bits.",
)
TURNED_SIZE = Kind(
    "images whose height and width the json has exchanged",
    _UNREADABLE,
    "Exchange 'height' and 'width' if the masks fit the image as it is shown; if they were drawn "
    "on it as it lies in the file, remove its EXIF orientation.",
)
SAME_PICTURE = Kind(
    "pictures that stand more than once, under other ids or names",
    "An object that one entry lacks is learnt as background there.",
    "Give all objects of a picture to one of its entries, and remove the others.",
)
SAME_OBJECT = Kind(
    "objects that stand twice: the same class, masks that overlap by more than 0.95",
    "The model learns to find each twice; evaluation counts the second as missed.",
    "Remove one of each; --write-fixed does it.",
)
SHARES = Kind(
    "masks whose coordinates are all from 0 to 1",
    "Training leaves these objects out, or learns one pixel in the corner.",
    "Multiply x by the image's width and y by its height; --write-fixed does it.",
)
PERCENT = Kind(
    "masks whose coordinates are all from 0 to 100, in images that are much larger",
    "The objects are learnt in the image's upper left corner.",
    "If they are percent, multiply x by the image's width / 100 and y by its height / 100.",
)
BOX_OF_CORNERS = Kind(
    "boxes that are left, top, right, bottom",
    "A grid learns these objects in levels and cells that are not theirs.",
    "Write [left, top, width, height]; --write-fixed does it.",
)
OTHER_AREA = Kind(
    "areas that are more than ten times too large or too small for their mask",
    "APs, APm and APl count these objects among others of another size.",
    "Write the mask's number of pixels; --write-fixed does it.",
)
VANISHES = Kind(
    "objects of which no pixel is left at a size that training makes of their image",
    "Training leaves them out there, and learns them as background.",
    "Raise INPUT.MIN_SIZE_TRAIN and MAX_SIZE_TRAIN, or cut the images into tiles.",
)
IMAGE_ID = Kind("image ids that stand more than once", STOPS, "Number the images anew.")
ANNOTATION_ID = Kind(
    "annotation ids that stand more than once",
    STOPS,
    "Number the annotations anew; --write-fixed does it.",
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
    "Make them anew from the masks; --write-fixed does it.",
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
WHOLE_IMAGE = Kind(
    "objects that are the whole image",
    "Is it the background, exported as an object? It is learnt like any other.",
)
EMPTY_IMAGE = Kind(
    "images without objects, or with crowds alone",
    "Training leaves them out, unless DATALOADER.FILTER_EMPTY_ANNOTATIONS False.",
)
EMPTY_CATEGORY = Kind(
    "categories without objects", "The model has them among its classes, and finds none of them."
)

SHARED_PICTURE = Kind(
    "pictures that are both in training and in validation",
    "Validation then says how well training is remembered.",
    "Take them out of one of the two.",
)
UNLEARNT_CLASS = Kind(
    "classes that have objects in validation and none in training",
    "The model can't learn to find them: their AP is 0.",
    "Share the images out otherwise, or take these classes out of validation.",
)

KINDS = tuple(value for value in list(globals().values()) if isinstance(value, Kind))
