"""Draw InstanceFCN's score maps and the mask assembled from them (arXiv 1603.08678, Fig. 1 and 3).

k relative positions per axis, m side of a window.
"""

import argparse
import math
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

from ...cli.inputs import find_sources
from ...cli.writers import plan_outputs, write_picture
from ...config import setup_cfg
from ...data.loading.dataset_mapper import MaskDatasetMapper
from ...data.loading.images import Reading, read_image
from ...errors import SoloFamilyError
from ...predictor import load_predictor
from .. import InstanceFCN
from .assemble import bins_of_cells, soft_masks
from .proposals import DenseMaps

_HEIGHT = 600  # of each of the three panels, in pixels
_GAP = 4
_YELLOW = (0, 255, 255)


def run(args: argparse.Namespace) -> int:
    """Writes the picture, and returns the exit status.

    Raises:
        SoloFamilyError: a flag, a file or a config key can't work.
    """
    cfg = setup_cfg(args.config_file, args.opts)
    if cfg.MODEL.META_ARCHITECTURE != "InstanceFCN":
        raise SoloFamilyError(
            f"--score-maps is for InstanceFCN, but MODEL.META_ARCHITECTURE is "
            f"{cfg.MODEL.META_ARCHITECTURE}: give the config of an InstanceFCN."
        )
    if len(args.input) != 1:
        raise SoloFamilyError(f"--score-maps draws one picture; --input has {len(args.input)}.")
    (path,) = args.input
    image = read_image(path, "BGR", Reading.from_config(cfg))
    height, width = image.shape[:2]
    if args.window and not (0 <= args.window[0] < width and 0 <= args.window[1] < height):
        raise SoloFamilyError(
            f"--window is {args.window[0]:g} {args.window[1]:g}; {path} has {width} x "
            f"{height} pixels. Give a point in it."
        )
    model = load_predictor(cfg).model
    item = MaskDatasetMapper(cfg, is_train=False)({"file_name": path})
    assert item is not None
    with torch.no_grad():
        maps = model.multi_scale_maps(item["image"], (height, width))
        scale, center = _choose(model, maps, (height, width), args.window)
    drawn = draw_score_maps(
        image, scale, center, model.selector.window_size, model.selector.mask_threshold
    )
    (output,) = plan_outputs(find_sources(args.input)[0], args.output)
    write_picture(output, drawn)
    objectness = float(scale.objectness_logits[center[0], center[1]].sigmoid())
    print(f"{output}: a window with objectness {objectness:.3f}")
    return 0


def _choose(
    model: InstanceFCN,
    maps: list[DenseMaps],
    size: tuple[int, int],
    point: list[float] | None,
) -> tuple[DenseMaps, tuple[int, int]]:
    """Returns a window's scale and centre: the best proposal's, or the likeliest at a point."""
    if point is None:
        windows = model.selector(maps, size)
        if not len(windows.scores):
            raise SoloFamilyError("No window has a mask: choose one with --window X Y.")
        row, column = windows.centers[0].tolist()
        return maps[int(windows.scales[0])], (row, column)
    found = []
    for scale in maps:
        row, column = (int(at / cell) for at, cell in zip(reversed(point), scale.cell_size))
        found.append((float(scale.objectness_logits[row, column]), scale, (row, column)))
    _, scale, center = max(found, key=lambda item: item[0])
    return scale, center


def draw_score_maps(
    image: np.ndarray,
    maps: DenseMaps,
    center: tuple[int, int],
    window_size: int,
    threshold: float = 0.5,
) -> np.ndarray:
    """Draws the picture with a window, the k^2 score maps, and the window's assembled mask.

    In each map the part that the mask takes from it is framed. The mask's cells above the threshold
    are framed, too.

    Args:
        image: uint8 [H, W, 3], BGR.
        maps: of one scale; `cell_size` in pixels of the image.
        center: row and column of the window's central cell.
        window_size: m.
        threshold: of the mask's probabilities.

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
    """Draws map i k + j in row i and column j, each with its sub-window framed."""
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
    """Returns where cells of a window are: x0 y0 x1 y1 as shares of the map's width and height."""
    height, width = maps.objectness_logits.shape
    top, left = (at - window_size // 2 for at in center)
    corners = (left + columns.start, top + rows.start, left + columns.stop, top + rows.stop)
    return np.array(corners) / (width, height, width, height)


def _frame(picture: np.ndarray, place: np.ndarray) -> None:
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = (place * (width, height, width, height)).round().astype(int).tolist()
    cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), _YELLOW, 2)


def _heat(probabilities: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Returns a map of probabilities [h, w] in false colours, enlarged to (width, height)."""
    levels = (255 * probabilities).round().byte().cpu().numpy()
    enlarged = cv2.resize(levels, size, interpolation=cv2.INTER_NEAREST)
    return cv2.applyColorMap(enlarged, cv2.COLORMAP_VIRIDIS)
