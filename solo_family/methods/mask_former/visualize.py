"""Draw how many classes each query of MaskFormer predicts (arXiv 2107.06278, appendix).

N queries, K classes.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.engine import DefaultPredictor

from ...modeling.drawing import Drawing, DrawingOptions, Picture, network_input

_HEIGHT, _BAR = 240, 8  # pixels of the tallest bar, and of each bar's width
_MARGIN = 40
_COLOUR = (160, 90, 40)


def draw_classes_per_query(
    predictor: DefaultPredictor, pictures: Iterable[Picture], options: DrawingOptions
) -> Iterator[Drawing]:
    """Draw, as a bar for each query, how many classes it predicts in all pictures; see `Draw`.

    A query predicts its best class in a picture where that is not "no object" and has at least the
    confidence threshold. Queries are sorted by the number of their classes.
    """
    predicted: set[tuple[int, int]] = set()
    count = num_queries = 0
    for picture in pictures:
        classes, scores = query_classes(predictor, picture.image)
        num_queries, count = len(classes), count + 1
        sure = scores >= options.confidence_threshold
        predicted |= {(int(query), int(classes[query])) for query in np.flatnonzero(sure)}
    numbers = np.bincount([query for query, _ in predicted], minlength=num_queries)
    remark = (
        f"{count} pictures; {(numbers > 0).sum()} of {num_queries} queries predict a class, "
        f"{(numbers > 1).sum()} more than one"
    )
    yield Drawing("classes_per_query", draw_bars(np.sort(numbers)[::-1]), remark)


@torch.no_grad()
def query_classes(predictor: DefaultPredictor, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each query's best class, int64 [N], and its probability, float32 [N].

    The probability is 0 for a query whose best class is "no object".

    Args:
        predictor: has a MaskFormer.
        image: uint8 [H, W, 3], BGR.
    """
    model: Any = predictor.model
    padded = model.preprocess([network_input(predictor, image)]).tensor
    last = model.sem_seg_head(model.backbone(padded)).last_layer()
    probabilities = last.class_logits[0].float().softmax(-1)
    scores, classes = probabilities.max(-1)
    nothing = classes == probabilities.shape[-1] - 1
    return classes.cpu().numpy(), scores.masked_fill(nothing, 0).cpu().numpy()


def draw_bars(numbers: np.ndarray) -> np.ndarray:
    """Draw a bar for each number, int64 [N], with the scale at the left: uint8 [h, w, 3], BGR."""
    most = max(int(numbers.max(initial=0)), 1)
    width = _MARGIN + len(numbers) * _BAR + _MARGIN
    drawn = np.full((_HEIGHT + 2 * _MARGIN, width, 3), 255, np.uint8)
    bottom = _MARGIN + _HEIGHT
    for index, number in enumerate(numbers):
        left, top = _MARGIN + index * _BAR, bottom - round(int(number) / most * _HEIGHT)
        cv2.rectangle(drawn, (left, top), (left + _BAR - 2, bottom), _COLOUR, -1)
    for text, height in ((str(most), _MARGIN), ("0", bottom)):
        cv2.putText(drawn, text, (5, height + 5), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1)
    label = "classes of each query, sorted"
    cv2.putText(drawn, label, (_MARGIN, bottom + 25), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1)
    return drawn
