"""Count on which level of a model's grid a dataset's objects are learnt, by their size.

G objects, L levels.
"""

import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from pycocotools.cocoeval import Params
from torch import Tensor

from ..data.checks.dataset_check import DatasetCheck
from ..methods.grid.assigner import GridAssigner
from ..methods.grid.config import grid_keys

_Rows = list[tuple[str, ...]]


def table_of_levels(cfg: CfgNode, check: DatasetCheck) -> tuple[tuple[str, ...], _Rows]:
    """Count the objects on each level, at the smallest and the largest size of training images.

    Returns:
        The header, and a row for each level, and for objects on several levels and on none.
    """
    keys = grid_keys(cfg, cfg.MODEL.META_ARCHITECTURE)
    assert keys is not None
    assigner = GridAssigner.from_config(keys, num_classes=0)
    sizes = torch.tensor(check.image_sizes, dtype=torch.float32).reshape(-1, 2)
    boxes = torch.tensor(check.boxes, dtype=torch.float32).reshape(-1, 4)
    columns = {}
    for title, resized in training_sizes(cfg, check.image_sizes).items():
        factors = (resized / sizes).flip(1).repeat(1, 2)  # for x, y, x, y
        columns[title] = assigner.in_scale_range(boxes * factors)

    def row(name: str, side: str, span: str, counted: list[Tensor]) -> tuple[str, ...]:
        """Return a row of the table, with the number of objects in each column."""
        return (name, side, span, *(str(int(which.sum())) for which in counted))

    rows = [
        row(name, str(side), f"{low:g} to {high:g}", [held[level] for held in columns.values()])
        for level, (name, side, (low, high)) in enumerate(
            zip(keys.INSTANCE_IN_FEATURES, keys.NUM_GRIDS, keys.FPN_SCALE_RANGES)
        )
    ]
    levels = [held.sum(0) for held in columns.values()]
    rows.append(row("on several levels", "", "", [count > 1 for count in levels]))
    rows.append(row("on no level", "", "", [count == 0 for count in levels]))
    return ("level", "S", "object size, px", *columns), rows


def training_sizes(cfg: CfgNode, sizes: list[tuple[int, int]]) -> dict[str, Tensor]:
    """Return the sizes to which training resizes images, without crops.

    Of images that are cut to windows before they are resized (`INPUT.CROP.AROUND_OBJECTS`), it is
    the size that the whole image would have if it were enlarged as much as its windows are.

    Args:
        cfg: `INPUT.MIN_SIZE_TRAIN` and `MAX_SIZE_TRAIN`, or `INPUT.LSJ`.
        sizes: (height, width) of each image.

    Returns:
        float32 [G, 2], by name: the smallest size, and the largest if it differs.
    """
    window = cfg.INPUT.CROP.AROUND_OBJECTS
    if not window:
        return _resized(cfg, sizes)
    seen = [(min(size[0], window[0]), min(size[1], window[1])) for size in sizes]
    whole, part = (torch.tensor(s, dtype=torch.float32).reshape(-1, 2) for s in (sizes, seen))
    resized = _resized(cfg, seen)
    return {f"windows {title}": whole * (given / part) for title, given in resized.items()}


def _resized(cfg: CfgNode, sizes: list[tuple[int, int]]) -> dict[str, Tensor]:
    if cfg.INPUT.LSJ.ENABLED:
        side = cfg.INPUT.LSJ.IMAGE_SIZE
        given = torch.tensor(sizes, dtype=torch.float32).reshape(-1, 2)
        fitted = given * (side / given.amax(1, keepdim=True))
        scales = (cfg.INPUT.LSJ.MIN_SCALE, cfg.INPUT.LSJ.MAX_SCALE)
        return {f"at {side} px x {scale:g}": fitted * scale for scale in scales}
    edges = cfg.INPUT.MIN_SIZE_TRAIN
    ends = sorted({min(edges), max(edges)})
    return {
        f"at {edge} px": torch.tensor(
            [
                ResizeShortestEdge.get_output_shape(*size, edge, cfg.INPUT.MAX_SIZE_TRAIN)
                if edge
                else size
                for size in sizes
            ],
            dtype=torch.float32,
        ).reshape(-1, 2)
        for edge in ends
    }


def table_of_areas(check: DatasetCheck) -> tuple[tuple[str, ...], _Rows]:
    """Count small, medium and large objects, as COCO's metrics do."""
    params = Params(iouType="segm")
    areas = torch.tensor(check.areas, dtype=torch.int64)
    rows: _Rows = []
    for name, (low, high) in zip(params.areaRngLbl, params.areaRng):
        if name != "all":
            count = int(((areas >= low) & (areas < high)).sum())
            side = f"{low**0.5:g} to {high**0.5:g}" if name != "large" else f"from {low**0.5:g}"
            rows.append((name, side, str(count)))
    return ("objects", "square root of the mask's pixels", ""), rows
