"""Select instances in an exported graph, where no size may depend on the content of the image.

B images, C cells of all levels, K classes, N candidates, h w size of the masks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ConfigError
from ...modeling.fixed_instances import FixedInstances, measure_fixed
from ...ops.matrix_nms_torch import matrix_nms_plain
from ...ops.take import take_rows
from .decoded_masks import Size
from .mask_decoder import GridOutputs
from .selection import Selection


def select_traceable(
    selection: Selection,
    outputs: GridOutputs,
    cell_scores: Tensor,
    size: Size,
    score_threshold: float | Tensor | None = None,
) -> FixedInstances:
    """Select a batch's instances as `select_in_chunks` does, from a fixed number of candidates.

    The candidates are the N = `pre_nms` with the best scores before maskness, while the other ways
    of selecting apply maskness to all candidates first. If at most N candidates exceed the
    threshold, the results are the same except for two things: ONNX does not define the order of
    equal scores, and the runtime, not the graph, drops the instances that score less than
    `update_threshold` after NMS.

    Args:
        selection: the rules, the decoder and the grid.
        outputs: the head's predictions for the batch.
        cell_scores: float32 [B, C, K], probabilities after point NMS.
        size: (h, w).
        score_threshold: replaces the selector's threshold, unless it is None.

    Raises:
        ConfigError: the NMS is not matrix NMS, the only one that is not sequential.
    """
    selector = selection.selector
    if selector.nms_type != "matrix":
        raise ConfigError(
            f"NMS_TYPE is {selector.nms_type!r}; only 'matrix' can be exported. Set it so."
        )
    num_classes = cell_scores.shape[2]
    candidates = selector.are_candidates(cell_scores, score_threshold)
    above = torch.where(candidates, cell_scores, 0).flatten(1)
    # Of a grid that grows, some image may have fewer cells than the one that is traced with.
    padded = F.pad(above, (0, selector.pre_nms)) if selection.grid.grows else above
    scores, best = padded.topk(min(selector.pre_nms, padded.shape[1]))
    cells, classes = best // num_classes, best % num_classes
    if selection.grid.grows:
        cells = torch.where(scores > 0, cells, 0)
    masks = selection.decoder.traceable(outputs, size, cells)
    areas, maskness = measure_fixed(masks, selector.mask_threshold)
    large = selector.are_large(areas, selection.grid.strides[cells])
    scores = torch.where(large, scores * maskness, 0)
    inside = masks > selector.mask_threshold
    order, scores = selector.matrix_nms(inside, classes, scores, matrix_nms_plain)
    classes, masks = classes.gather(1, order), take_rows(masks, order)
    return FixedInstances(scores, classes, masks, (above > 0).sum(1))
