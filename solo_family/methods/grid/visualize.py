"""Draw the mask of every cell of a grid (SOLO, arXiv 1912.04488, Fig. 4).

R rows and C columns of the grid, H W of a picture.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.engine import DefaultPredictor
from torch import Tensor

from ...modeling.drawing import Drawing, DrawingOptions, Picture, network_input

_TILE = 64  # pixels of a mask's longer side
_GAP = 2  # pixels between masks
_FRAME = (0, 0, 255)  # of cells that an object has, in BGR


def draw_cells(
    predictor: DefaultPredictor, pictures: Iterable[Picture], options: DrawingOptions
) -> Iterator[Drawing]:
    """Draw the masks of all cells of the coarsest grid, each at its cell's place; see `Draw`.

    A cell whose best category scores at least the confidence threshold has a red frame.
    """
    for picture in pictures:
        masks, scores = cell_masks(predictor, picture.image)
        drawn = draw_grid(masks, scores >= options.confidence_threshold)
        (rows, columns), kept = scores.shape, int((scores >= options.confidence_threshold).sum())
        remark = f"{rows} x {columns} cells, {kept} score {options.confidence_threshold} or more"
        yield Drawing(picture.name, drawn, remark)


@torch.no_grad()
def cell_masks(predictor: DefaultPredictor, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the masks and the scores of all cells of the coarsest level's grid.

    Args:
        predictor: has a model with grids.
        image: uint8 [H, W, 3], BGR.

    Returns:
        Probabilities, float32 [R, C, h, w], without the padding; and scores before NMS, the
        greatest of all categories, float32 [R, C].
    """
    model: Any = predictor.model
    shown = network_input(predictor, image)
    padded = model.preprocess([shown]).tensor
    size = (padded.shape[-2], padded.shape[-1])
    (outputs,) = model.run_head(model.backbone(padded), size).images()
    rows, columns = outputs.category_logits[-1].shape[-2:]
    first = sum(logits[0].numel() for logits in outputs.category_logits[:-1])
    cells = torch.arange(first, first + rows * columns, device=padded.device)
    masks = model.selection(size).decoder.soft(outputs, model.mask_size(size), cells)
    scores = outputs.category_logits[-1].sigmoid().amax(0)
    inside = [-(-side // model.mask_stride) for side in shown.shape[-2:]]
    cropped: Tensor = masks[:, : inside[0], : inside[1]]
    return cropped.view(rows, columns, *inside).cpu().numpy(), scores.cpu().numpy()


def draw_grid(masks: np.ndarray, framed: np.ndarray) -> np.ndarray:
    """Draw masks in rows and columns.

    Args:
        masks: probabilities, float32 [R, C, h, w].
        framed: bool [R, C], which of them have a frame.

    Returns:
        uint8 [R (th + gap) + gap, C (tw + gap) + gap, 3], BGR; th tw is the size of a tile, the
        longer side 64 pixels.
    """
    rows, columns, height, width = masks.shape
    scale = _TILE / max(height, width)
    tile = (max(1, round(height * scale)), max(1, round(width * scale)))
    steps = (tile[0] + _GAP, tile[1] + _GAP)
    drawn = np.full((rows * steps[0] + _GAP, columns * steps[1] + _GAP, 3), 255, np.uint8)
    for row, column in np.ndindex(rows, columns):
        top, left = row * steps[0] + _GAP, column * steps[1] + _GAP
        small = cv2.resize(masks[row, column], tile[::-1], interpolation=cv2.INTER_AREA)
        drawn[top : top + tile[0], left : left + tile[1]] = (small * 255)[..., None]
        if framed[row, column]:
            end = (left + tile[1], top + tile[0])
            cv2.rectangle(drawn, (left - 1, top - 1), end, _FRAME, _GAP)
    return drawn
