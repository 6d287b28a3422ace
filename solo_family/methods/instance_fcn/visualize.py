"""Draw InstanceFCN's score maps and the mask assembled from them (arXiv 1603.08678, Fig. 1 and 3).

k relative positions per axis, m side of a window.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise

import cv2
import numpy as np
import torch
from detectron2.engine import DefaultPredictor
from torch import Tensor

from ...errors import SoloFamilyError
from ...modeling.drawing import Drawing, DrawingOptions, Picture, network_input
from ...ops.sliding import bins_of_cells
from .assemble import soft_masks
from .model import InstanceFCN
from .proposals import DenseMaps

_HEIGHT = 600  # of each of the three panels, in pixels
_GAP = 4
_YELLOW = (0, 255, 255)


def draw_best_window(
    predictor: DefaultPredictor, pictures: Iterable[Picture], options: DrawingOptions
) -> Iterator[Drawing]:
    """Draw for every picture the score maps and the mask of one window; see `Draw`.

    The window is the best proposal's, or the most probable one that is centred at `options.window`.
    """
    model = predictor.model
    for picture in pictures:
        name, image = picture.name, picture.image
        height, width = image.shape[:2]
        if options.window and not _is_inside(options.window, width, height):
            raise SoloFamilyError(
                f"--window is {options.window[0]:g} {options.window[1]:g}; {name} has {width} x "
                f"{height} pixels. Give a point in it."
            )
        with torch.no_grad():
            given = network_input(predictor, picture.model_input)
            maps = model.multi_scale_maps(given, (height, width))
            scale, center = _choose(model, maps, (height, width), options.window)
        selector = model.selector
        drawn = draw_score_maps(image, scale, center, selector.window_size, selector.mask_threshold)
        objectness = float(scale.objectness_logits[center[0], center[1]].sigmoid())
        yield Drawing(name, drawn, f"a window with objectness {objectness:.3f}")


def _is_inside(point: tuple[float, float], width: int, height: int) -> bool:
    return 0 <= point[0] < width and 0 <= point[1] < height


def _choose(
    model: InstanceFCN,
    maps: list[DenseMaps],
    size: tuple[int, int],
    point: tuple[float, float] | None,
) -> tuple[DenseMaps, tuple[int, int]]:
    """Return the scale and centre of the best proposal, or of the best window at a point."""
    if point is None:
        windows = model.selector(maps, size)
        if not len(windows.scores):
            raise SoloFamilyError("No window has a mask: choose one with --window X Y.")
        row, column = windows.centers[0].tolist()
        return maps[int(windows.scales[0])], (row, column)
    candidates = []
    for scale in maps:
        row, column = (int(at / cell) for at, cell in zip(reversed(point), scale.cell_size))
        candidates.append((float(scale.objectness_logits[row, column]), scale, (row, column)))
    _, scale, center = max(candidates, key=lambda item: item[0])
    return scale, center


def draw_score_maps(
    image: np.ndarray,
    maps: DenseMaps,
    center: tuple[int, int],
    window_size: int,
    threshold: float = 0.5,
) -> np.ndarray:
    """Draw the picture with a window, the k^2 score maps, and the window's assembled mask.

    In each map the part that the mask copies from it is framed. The mask's cells above the
    threshold are framed, too.

    Args:
        image: uint8 [H, W, 3], BGR.
        maps: the maps of one scale; `cell_size` in pixels of the image.
        center: row and column of the window's central cell.
        window_size: m.
        threshold: the threshold of the mask's probabilities.

    Returns:
        uint8 [h, w, 3], BGR.
    """
    panel = (max(1, round(_HEIGHT * image.shape[1] / image.shape[0])), _HEIGHT)
    whole = cv2.resize(image, panel)
    everything = slice(0, window_size)
    _frame(whole, _place(maps, center, window_size, everything, everything))
    gap = np.full((_HEIGHT, _GAP, 3), 255, np.uint8)
    grid = cv2.resize(_draw_grid(maps, center, window_size, panel), panel)
    mask = _draw_mask(maps, center, window_size, threshold)
    return np.concatenate([whole, gap, grid, gap, mask], axis=1)


def _draw_grid(
    maps: DenseMaps, center: tuple[int, int], window_size: int, panel: tuple[int, int]
) -> np.ndarray:
    """Draw map i k + j in row i and column j, each with its sub-window framed."""
    k = math.isqrt(len(maps.score_maps))
    counts = bins_of_cells(k, window_size).bincount(minlength=k)
    edges = [0, *counts.cumsum(0).tolist()]
    bins = [slice(start, stop) for start, stop in pairwise(edges)]
    rows = []
    for i in range(k):
        tiles = []
        for j in range(k):
            tile = _heat(maps.score_maps[i * k + j].sigmoid(), (panel[0] // k, panel[1] // k))
            _frame(tile, _place(maps, center, window_size, bins[i], bins[j]))
            tiles.append(tile)
        rows.append(np.concatenate(tiles, axis=1))
    return np.concatenate(rows)


def _draw_mask(
    maps: DenseMaps, center: tuple[int, int], window_size: int, threshold: float
) -> np.ndarray:
    where = torch.tensor([center], device=maps.score_maps.device)
    probabilities = soft_masks(maps.score_maps, where, window_size)[0]
    size = (_HEIGHT, _HEIGHT)
    drawn = _heat(probabilities, size)
    cells = (probabilities > threshold).byte().cpu().numpy()
    pixels = cv2.resize(cells, size, interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(pixels, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, outlines, -1, _YELLOW, 2)
    return drawn


def _place(
    maps: DenseMaps, center: tuple[int, int], window_size: int, rows: slice, columns: slice
) -> np.ndarray:
    """Return the place of a window's cells: x0 y0 x1 y1 as shares of the map's width and height."""
    height, width = maps.objectness_logits.shape
    top, left = (at - window_size // 2 for at in center)
    corners = (left + columns.start, top + rows.start, left + columns.stop, top + rows.stop)
    return np.array(corners) / (width, height, width, height)


def _frame(picture: np.ndarray, place: np.ndarray) -> None:
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = (place * (width, height, width, height)).round().astype(int).tolist()
    cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), _YELLOW, 2)


def _heat(probabilities: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Return a map of probabilities [h, w] in false colours, upsampled to (width, height)."""
    levels = (255 * probabilities).round().byte().cpu().numpy()
    upsampled = cv2.resize(levels, size, interpolation=cv2.INTER_NEAREST)
    return cv2.applyColorMap(upsampled, cv2.COLORMAP_VIRIDIS)
