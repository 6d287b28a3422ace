"""Draw the images with the worst labels or segments, with their ground truth beside.

H W of a picture, K classes.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog

from ..data.loading.images import Reading, read_image
from ..errors import DataError
from ..modeling.class_colours import with_class_colours
from .label_images import LabelImage, class_names_of
from .sheet import Drawn, Row, fitted, shrunk, write_sheet

MOST_IMAGES = 6
_MOST_IN_LEGEND = 24
_OPACITY = 0.65


def write_worst_labels(
    path: Path,
    cfg: CfgNode,
    dataset: str,
    images: Callable[[], Iterator[LabelImage]],
    scores: np.ndarray,
    metric: str,
) -> list[str]:
    """Draw the images with the lowest scores on one sheet, and return what the report says of it.

    Args:
        path: of the sheet.
        cfg: of the run.
        dataset: the name that was evaluated.
        images: yields all images.
        scores: of each, 0 to 1; NaN where nothing counts.
        metric: its name.
    """
    order = [place for place in np.argsort(scores, kind="stable") if scores[place] < 1]
    chosen = {int(place): number for number, place in enumerate(order[:MOST_IMAGES])}
    if not chosen:
        return ["## Worst images", "No pixel of any image is wrong."]
    names, colours = class_names_of(dataset), _colours(dataset)
    reading = Reading.from_config(cfg)
    rows: dict[int, Row] = {}
    present: set[int] = set()
    unread: list[str] = []
    for place, image in enumerate(images()):
        if place not in chosen:
            continue
        try:
            picture = reading.picture(read_image(image.file_name, reading.image_format, reading))
        except DataError as error:
            unread.append(str(error))
            continue
        caption = f"{Path(image.file_name).name}: {metric} {100 * scores[place]:.0f}"
        rows[chosen[place]] = _row(caption, image, shrunk(picture), colours)
        present |= set(np.unique(image.truth).tolist()) | set(np.unique(image.predicted).tolist())
    text = ["## Worst images"]
    if rows:
        listed = sorted(label for label in present if label < len(names))[:_MOST_IN_LEGEND]
        legend = {names[label]: _hexadecimal(colours[label]) for label in listed}
        titles = ("image", "truth", "predicted")
        ordered = [rows[number] for number in sorted(rows)]
        write_sheet(path, ordered, titles, columns=1, legend=legend)
        text += [
            f"The images with the lowest {metric}; what is dark has no class.",
            f"![worst images]({path.name})",
        ]
    return text + [f"Not drawn: {reason}" for reason in unread]


def _row(caption: str, image: LabelImage, small: np.ndarray, colours: np.ndarray) -> Row:
    return Row(
        caption,
        (
            Drawn(small.copy()),
            Drawn(_painted(small, image.truth, image.truth_ids, colours)),
            Drawn(_painted(small, image.predicted, image.predicted_ids, colours)),
        ),
    )


def _painted(
    small: np.ndarray, labels: np.ndarray, ids: np.ndarray, colours: np.ndarray
) -> np.ndarray:
    """Return a picture, uint8 [H, W, 3], in the colours of classes, with white lines around ids."""
    size = small.shape[:2]
    own = colours[fitted(labels.astype(np.int32), size)]
    painted = (1 - _OPACITY) * small + _OPACITY * own
    parts = fitted(ids.astype(np.int32), size)
    edge = np.zeros(size, bool)
    edge[1:] |= parts[1:] != parts[:-1]
    edge[:, 1:] |= parts[:, 1:] != parts[:, :-1]
    painted[edge] = 255
    return painted.round().astype(np.uint8)


def _colours(dataset: str) -> np.ndarray:
    """Return the colours of K classes and, last, of no class: RGB, uint8 [K + 1, 3]."""
    names = class_names_of(dataset)
    given = MetadataCatalog.get(dataset).get("stuff_colors") or []
    coloured = with_class_colours(Metadata(stuff_classes=names, stuff_colors=given))
    colours = np.array(coloured.stuff_colors).reshape(-1, 3)[: len(names)]
    return np.vstack([colours, np.zeros((1, 3))]).round().astype(np.uint8)


def _hexadecimal(colour: np.ndarray) -> str:
    return "#" + "".join(f"{value:02x}" for value in colour.tolist())
