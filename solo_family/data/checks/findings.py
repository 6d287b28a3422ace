"""The kinds of problem that a dataset can have: what each does to a run, and how to fix it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        title: names the items concerned, in the plural.
        effect: what it does to training and evaluation.
        remedy: how to fix it; "" if it may be intended.
    """

    title: str
    effect: str
    remedy: str = ""


@dataclass
class Findings:
    """The findings of a check.

    Attributes:
        found: maps a kind to the items concerned (ids or files), in the order of the json.
    """

    found: dict[Kind, list[str]] = field(default_factory=dict)

    def add(self, kind: Kind, *what: str) -> None:
        """Record items under a kind of finding."""
        if what:
            self.found.setdefault(kind, []).extend(what)

    @property
    def problems(self) -> list[Kind]:
        """The recorded kinds that need fixing."""
        return [kind for kind in KINDS if kind.remedy and kind in self.found]

    @property
    def remarks(self) -> list[Kind]:
        """The recorded kinds that may be intended."""
        return [kind for kind in KINDS if not kind.remedy and kind in self.found]


STOPS = "Training and evaluation stop before they begin."
_UNREADABLE = "Training stops at the first one; with --skip-bad-images it skips them."

MISSING_FILE = Kind(
    "image files that do not exist",
    STOPS,
    "Name the folder that 'file_name' is relative to, or remove them from 'images'.",
)
OUTSIDE_FILE = Kind(
    "images outside the image folder",
    STOPS,
    "Name the folder that all images are in or, if you trust the json, set the environment "
    "variable SOLO_FAMILY_ALLOW_OUTSIDE=1.",
)
SHARED_FILE = Kind(
    "'file_name's of different images for which the folder has one file",
    STOPS,
    "Put each image into the folder under the name that the json gives it.",
)
UNREADABLE_FILE = Kind("files that can't be read as an image", _UNREADABLE, "Fix or remove them.")
OTHER_CHANNELS = Kind(
    "images of another number of channels than INPUT.FORMAT",
    _UNREADABLE,
    "If all images have it, set INPUT.FORMAT: L for one channel, RGB for 3, 5ch for 5 and so on, "
    "for instance with --opts INPUT.FORMAT 5ch; otherwise leave the others out.",
)
OTHER_SIZE = Kind(
    "images of another size than the json says",
    _UNREADABLE,
    "Set 'height' and 'width' to those of the file, turned upright by its EXIF tag. If the image "
    "was resized or turned after its masks were drawn, change the masks in the same way.",
)
TOO_LARGE = Kind(
    "images of more pixels than INPUT.MAX_PIXELS",
    _UNREADABLE,
    "If the memory suffices, set INPUT.MAX_PIXELS to the largest of these numbers (--opts "
    "INPUT.MAX_PIXELS N); otherwise cut the images into tiles.",
)
UNTOLD_RANGE = Kind(
    "images of more than 8 bits whose range of values can't be inferred",
    _UNREADABLE,
    "Set INPUT.RANGE to the values that are black and white, for instance for 12 bits with --opts "
    'INPUT.RANGE "(0, 4095)".',
)
TURNED_SIZE = Kind(
    "images whose height and width are exchanged in the json",
    _UNREADABLE,
    "If the masks fit the image as viewers show it, exchange 'height' and 'width'. If the masks "
    "were drawn on the image as it is stored, remove the file's EXIF orientation.",
)
SAME_PICTURE = Kind(
    "duplicate images, under different ids or names",
    "An object that only one of the entries has is learnt as background in the others.",
    "Move all objects of an image to one of its entries, and remove the other entries.",
)
SAME_OBJECT = Kind(
    "duplicate objects: the same class, and masks with an IoU above 0.95",
    "The model learns to predict each object twice; evaluation counts the second one as missed.",
    "Remove one of each pair; --write-fixed does it.",
)
SHARES = Kind(
    "masks whose coordinates are all from 0 to 1",
    "Training drops these objects, or learns a single pixel in the corner.",
    "Multiply x by the image's width and y by its height; --write-fixed does it.",
)
PERCENT = Kind(
    "masks whose coordinates are all from 0 to 100, in images that are much larger",
    "Training learns these objects in the upper left corner of the image.",
    "If the coordinates are percentages, multiply x by the image's width / 100 and y by its "
    "height / 100.",
)
BOX_OF_CORNERS = Kind(
    "boxes written as [left, top, right, bottom]",
    "Grid methods (SOLO, SOLOv2) assign these objects to wrong levels and cells.",
    "Write [left, top, width, height]; --write-fixed does it.",
)
OTHER_AREA = Kind(
    "areas that differ from their mask's by more than a factor of ten",
    "APs, APm and APl count these objects in the wrong size range.",
    "Write the mask's number of pixels; --write-fixed does it.",
)
VANISHES = Kind(
    "objects that have no pixel left when training resizes their image",
    "Training drops them at these sizes, and learns them as background.",
    "Raise INPUT.MIN_SIZE_TRAIN and INPUT.MAX_SIZE_TRAIN, or cut the images into tiles.",
)
IMAGE_ID = Kind("duplicate image ids", STOPS, "Renumber the images and their annotations.")
ANNOTATION_ID = Kind(
    "duplicate annotation ids",
    STOPS,
    "Renumber the annotations; --write-fixed does it.",
)
CATEGORY_ID = Kind("duplicate category ids", STOPS, "Give each category its own id.")
ODD_ID = Kind("ids that are neither whole numbers nor text", STOPS, "Write whole numbers.")
UNKNOWN_IMAGE = Kind(
    "annotations of unknown images", STOPS, "Add the images to 'images', or remove the annotations."
)
UNKNOWN_CATEGORY = Kind(
    "annotations of unknown categories",
    STOPS,
    "Add the categories to 'categories', or remove the annotations.",
)
ODD_BOX = Kind("boxes that are not four numbers", STOPS, "Write [left, top, width, height].")
EMPTY_BOX = Kind(
    "boxes without area, or outside their image",
    "Training drops these objects unless INPUT.CROP is on; evaluation counts them as missed.",
    "Write [left, top, width, height] in pixels of the image, not as fractions of its size.",
)
BOX_OUTSIDE = Kind(
    "boxes that extend beyond their image",
    "Training clips them at the border, and grid methods assign levels by the clipped size.",
    "Write [left, top, width, height]; check whether they are [left, top, right, bottom].",
)
BOX_ELSEWHERE = Kind(
    "boxes that do not enclose their mask",
    "Grid methods (SOLO, SOLOv2) assign these objects to wrong levels and cells.",
    "Compute the boxes from the masks; --write-fixed does it.",
)
NO_MASK = Kind(
    "objects without a mask: no segmentation, or polygons of fewer than 3 points",
    "Training and evaluation drop these objects.",
    "Draw their outlines: a box is not enough.",
)
MASK_OF_OTHER_SIZE = Kind(
    "RLE masks of another size than their image",
    "Training and evaluation drop these objects.",
    "Encode them again, from masks of the image's [height, width].",
)
BROKEN_MASK = Kind(
    "masks that can't be decoded",
    "Training and evaluation drop these objects, or stop before they begin.",
    "Export them again: polygons need coordinates in or near the image, and the counts of an RLE "
    "must add up to the image's pixels.",
)
EMPTY_MASK = Kind(
    "masks without pixels",
    "Training drops these objects; evaluation counts them as missed.",
    "Draw them again, or remove them.",
)
CROWDS_OF_A_TOOL = Kind(
    "masks with 'iscrowd' 1, which are all masks of the file, or most of its RLE masks",
    "Training drops them; in evaluation they count neither as hits nor as misses. CVAT, datumaro, "
    "supervision and other tools write 'iscrowd' 1 for masks of single objects.",
    "Unless they are crowds, write ?crowd=objects after the image folder, wherever it is named: "
    "coco_json:ANNOTATIONS.json:IMAGE_DIR?crowd=objects.",
)
REFUSED = Kind("invalid value, the first one", STOPS, "Correct it, and check again.")

OTHERWISE = Kind(
    "kinds of value in another form than COCO's",
    "This package converts them to COCO's form wherever it reads the file.",
)
NAMED_OTHERWISE = Kind(
    "'file_name's that do not exist in the folder as written",
    "The only file in the folder with the same name is used, whatever its folder and capitals.",
)
TURNED_UNSEEN = Kind(
    "images that their EXIF tag turns or mirrors, and whose size stays the same",
    "Training turns them upright, as viewers do. If their masks were drawn on the pixels as they "
    "are stored, these don't fit: visualize-data --config-file FILE draws them.",
)
SPECKS = Kind(
    "images of many objects, most of which have fewer than 5 pixels or are scattered pixels",
    "If there should be fewer, the pictures of the masks were perhaps resized with smoothing, or "
    "saved as JPEG: each mixed value is an object then. Export them again, without either.",
)
REGIONS = Kind(
    "images with a single object of each class, one with three or more separate regions",
    "If each region is an object, as in pictures that are white where any object is, give each a "
    "mask of its own: they are learnt as one object.",
)
CROWD = Kind(
    "crowds ('iscrowd' 1)",
    "Training drops them; in evaluation they count neither as hits nor as misses.",
)
WHOLE_IMAGE = Kind(
    "objects that cover the whole image",
    "They are learnt like any other object; check whether they are the background.",
)
EMPTY_IMAGE = Kind(
    "images without objects, or with crowds only",
    "Training drops them, unless DATALOADER.FILTER_EMPTY_ANNOTATIONS is False.",
)
EMPTY_CATEGORY = Kind(
    "categories without objects", "The model has them among its classes, but can't learn them."
)

SHARED_PICTURE = Kind(
    "images that are both in training and in validation",
    "Validation then measures how well the model remembers its training images.",
    "Remove them from one of the two.",
)
OTHER_CLASSES = Kind(
    "validation sets whose list of classes is not that of training",
    STOPS,
    "Give all of them the same names in 'categories'; a class may be without objects.",
)
NOTHING_TO_LEARN = Kind(
    "training sets, which have no object together", STOPS, "Draw some, or name other files."
)
UNLEARNT_CLASS = Kind(
    "classes that have objects in validation and none in training",
    "The model can't learn them: their AP or IoU is 0.",
    "Split the images differently, or remove these classes from validation.",
)

KINDS = tuple(value for value in list(globals().values()) if isinstance(value, Kind))
