"""Draw training images as the model sees them, and the grid cells assigned to their objects."""

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import BitMasks
from detectron2.utils.visualizer import Visualizer
from torch import Tensor

from ..config import setup_cfg
from ..data.formats.classes import class_names, num_classes
from ..data.formats.register import check_datasets
from ..data.loading.loader import build_train_loader
from ..data.loading.sampler import Draw
from ..data.loading.watchdog import watched
from ..errors import ConfigError
from ..methods.grid.assigner import GridAssigner
from ..methods.grid.config import grid_keys
from ..methods.grid.layout import GridLayout
from ..methods.grid.targets import GridTargets
from ..modeling.base import MaskSegmentor
from ..pictures.formats import parse_format, to_picture
from ..predictor.drawing import write_picture
from ..predictor.labels import keep_labels_inside
from ..progress import Progress
from ..registry import METHODS
from ..saving.names import Names
from .opts import add_opts_argument
from .writers import make_folder

_WHITE, _SHADE = (255, 255, 255), 0.55


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `visualize-data`."""
    parser.add_argument("--config-file", required=True, help="config whose DATASETS.TRAIN is drawn")
    parser.add_argument("--output", type=Path, default=Path("output/visualize_data"))
    parser.add_argument(
        "--num-images", type=int, default=8, help="number of images, from the first on (default: 8)"
    )
    parser.add_argument(
        "--targets",
        action="store_true",
        help="draw the grid cells of each object, level by level (SOLO, DecoupledSOLO, SOLOv2)",
    )
    add_opts_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Write a picture per image, and return the exit status.

    Raises:
        ConfigError: the configuration can't work.
        DataError: its data can't be used.
    """
    cfg = setup_cfg(args.config_file, args.opts)
    if args.targets and grid_keys(cfg, cfg.MODEL.META_ARCHITECTURE) is None:
        with_grid = [name for name in METHODS if grid_keys(cfg, name) is not None]
        raise ConfigError(
            f"--targets: {cfg.MODEL.META_ARCHITECTURE} has no grid. "
            f"It works with MODEL.META_ARCHITECTURE {', '.join(with_grid)}; leave it out."
        )
    check_datasets(cfg.DATASETS.TRAIN)
    cfg.SEED = max(cfg.SEED, 0)
    loader, sampler = build_train_loader(cfg)
    images = loader.dataset
    names = class_names(cfg)
    pad = _size_divisibility(cfg) if args.targets else 1
    make_folder(args.output)
    files = Names()
    places = Progress(range(min(args.num_images, len(images))), unit="image")
    for index in watched(places, "An image", cfg.DATALOADER.TIMEOUT):
        example = images[Draw(index, index, sampler.seed)]
        drawn = (
            _draw_targets(cfg, example, pad)
            if args.targets
            else _draw_instances(cfg, example, names)
        )
        file = args.output / f"{files.new(Path(example['file_name']).stem)}.png"
        write_picture(file, np.ascontiguousarray(drawn[:, :, ::-1]))
    print(f"pictures: {args.output}")
    return 0


def _draw_instances(cfg: CfgNode, example: dict[str, Any], names: list[str]) -> np.ndarray:
    """Return the augmented image and its masks: uint8 [h, w, 3], RGB.

    Of labels that are pictures it is every segment, or every class, which has one colour in all
    images.
    """
    instances = example["instances"]
    classes = instances.gt_classes.tolist()
    labels = [names[c] if names else str(c) for c in classes]
    masks = instances.gt_masks.tensor.numpy() if len(instances) else None
    visualizer = Visualizer(_picture(cfg, example["image"]))
    if "sem_seg" not in example:
        drawn = visualizer.overlay_instances(masks=masks, labels=labels)
        keep_labels_inside(drawn)
        return drawn.get_image()
    is_panoptic = "pan_seg_file_name" in example
    for index, (label, category) in enumerate(zip(labels, classes)):
        assert masks is not None
        # Segments have holes, where others are, which outlines would fill.
        colour = np.array(_colour(index if is_panoptic else category)) / 255
        visualizer.draw_binary_mask(masks[index], color=colour, text=label)
    keep_labels_inside(visualizer.output)
    return visualizer.output.get_image()


def _size_divisibility(cfg: CfgNode) -> int:
    """Return the number that the padded sides of the model's input are multiples of."""
    bare = cfg.clone()
    bare.merge_from_list(["MODEL.TIMM.WEIGHTS", "", "MODEL.VGG.WEIGHTS", ""])
    return MaskSegmentor.base_config(bare)["size_divisibility"]


def _draw_targets(cfg: CfgNode, example: dict[str, Any], pad: int) -> np.ndarray:
    """Return one picture per level, side by side: its grid, its objects and their cells.

    Objects that the level does not learn are not coloured. Where two objects share a cell, the
    later one, whose category the cell has, colours it.
    """
    method = grid_keys(cfg, cfg.MODEL.META_ARCHITECTURE)
    assert method is not None
    key = METHODS[cfg.MODEL.META_ARCHITECTURE].num_classes_key
    assigner = GridAssigner.from_config(method, num_classes(cfg, key))
    image, instances = example["image"], example["instances"]
    height, width = image.shape[-2:]
    padded = (-(-height // pad) * pad, -(-width // pad) * pad)
    masks = torch.zeros((0, height, width), dtype=torch.bool)
    if len(instances):
        masks = instances.gt_masks.tensor
    # Pictures of labels give no boxes.
    boxes = (
        instances.gt_boxes if instances.has("gt_boxes") else BitMasks(masks).get_bounding_boxes()
    )
    targets = assigner(boxes.tensor, instances.gt_classes, masks, padded)
    canvas = np.zeros((*padded, 3), np.uint8)
    canvas[:height, :width] = _picture(cfg, image)
    panels = [
        _draw_level(canvas, masks, level, lines, f"{name}: S = {side}, {low:g} to {high:g} px")
        for level, lines, side, (low, high), name in zip(
            targets,
            _cell_borders(assigner.layout, padded),
            method.NUM_GRIDS,
            method.FPN_SCALE_RANGES,
            method.INSTANCE_IN_FEATURES,
        )
    ]
    return np.concatenate(panels, axis=1)


def _cell_borders(layout: GridLayout, padded: tuple[int, int]) -> list[list[np.ndarray]]:
    """Return the borders of each level's rows and of its columns, in pixels."""
    spans = layout.extent(padded)
    return [
        [
            np.minimum((np.arange(count + 1) * (span / side)).round().astype(int), end)
            for count, span, end in zip(shape, spans, padded)
        ]
        for shape, side in zip(layout.shapes(padded), layout.sides)
    ]


def _draw_level(
    canvas: np.ndarray,
    masks: Tensor,
    targets: GridTargets,
    borders: list[np.ndarray],
    title: str,
) -> np.ndarray:
    height, width = canvas.shape[:2]
    panel = canvas.astype(np.float32) * _SHADE
    cells = np.zeros_like(canvas)
    for index in targets.objects.unique().tolist():
        inside = np.zeros((height, width), bool)
        inside[: masks.shape[1], : masks.shape[2]] = masks[index].numpy()
        panel[inside] = 0.6 * panel[inside] + 0.4 * np.array(_colour(index))
    rows, columns = borders
    for index, cell in zip(targets.objects.tolist(), targets.cells.tolist()):
        row, column = divmod(cell, len(columns) - 1)
        top_left = (int(columns[column]), int(rows[row]))
        bottom_right = (int(columns[column + 1]) - 1, int(rows[row + 1]) - 1)
        cv2.rectangle(cells, top_left, bottom_right, _colour(index), cv2.FILLED)
    drawn = np.where(cells.any(2, keepdims=True), cells, panel).astype(np.uint8)
    grid = drawn.copy()
    for y in rows[1:-1]:
        cv2.line(grid, (0, int(y)), (width, int(y)), _WHITE, 1)
    for x in columns[1:-1]:
        cv2.line(grid, (int(x), 0), (int(x), height), _WHITE, 1)
    drawn = cv2.addWeighted(drawn, 0.75, grid, 0.25, 0)
    header = np.zeros((24, width, 3), np.uint8)
    cv2.putText(header, title, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _WHITE, 1, cv2.LINE_AA)
    panel = np.concatenate([header, drawn])
    return cv2.copyMakeBorder(panel, 0, 0, 0, 6, cv2.BORDER_CONSTANT, value=(0, 0, 0))


def _colour(index: int) -> tuple[int, int, int]:
    """Return a bright colour; objects next to each other in order are far apart in hue."""
    hsv = np.array([[[index * 67 % 180, 200, 255]]], np.uint8)
    red, green, blue = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def _picture(cfg: CfgNode, image: Tensor) -> np.ndarray:
    """Return the model's input [C, h, w] as a picture, uint8 [h, w, 3], RGB."""
    given = parse_format(cfg.INPUT.FORMAT)
    picture = to_picture(image.permute(1, 2, 0).numpy(), given, cfg.INPUT.BANDS)
    return np.ascontiguousarray(picture[:, :, ::-1])
