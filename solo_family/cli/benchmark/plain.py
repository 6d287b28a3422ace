"""Post-process in plain torch: the reference of every ratio in the benchmark.

The operations have the published order, on all candidates at once, without chunks or kernels of our
own. Matrix NMS is `matrix_nms_plain`.

N candidates, E mask features, h w of the masks, H W of the requested output.
"""

import math

import torch
import torch.nn.functional as F
from detectron2.layers import paste_masks_in_image
from torch import Tensor

from ...ops.matrix_nms_torch import matrix_nms_plain

Size = tuple[int, int]


def plain_decode(
    kernels: Tensor, features: Tensor, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return soft masks [N, h, w], their areas and their maskness.

    Args:
        kernels: [N, E].
        features: [E, h, w].
        threshold: probability above which a pixel is in a mask.
    """
    soft = F.conv2d(features[None], kernels[:, :, None, None])[0].sigmoid()
    inside = soft > threshold
    area = inside.sum((1, 2))
    return soft, area, (soft * inside.float()).sum((1, 2)) / area.clamp(min=1)


def plain_resize(
    soft: Tensor, padded_size: Size, image_size: Size, output_size: Size, threshold: float
) -> tuple[Tensor, Tensor]:
    """Return masks, bool [N, H, W], and their boxes [N, 4]."""
    full = F.interpolate(soft[None], size=padded_size, mode="bilinear", align_corners=False)
    full = full[:, :, : image_size[0], : image_size[1]]
    masks = F.interpolate(full, size=output_size, mode="bilinear", align_corners=False)[0]
    masks = masks > threshold
    boxes = torch.zeros((len(masks), 4), device=masks.device)
    for box, mask in zip(boxes, masks):
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        if len(rows):
            box[:] = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return masks, boxes


def plain_post_process(
    kernels: Tensor,
    features: Tensor,
    labels: Tensor,
    scores: Tensor,
    strides: Tensor,
    sizes: tuple[Size, Size, Size],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run SOLOv2's post-processing, with the published thresholds and limits.

    Args:
        kernels: [N, E], of the candidates.
        features: [E, h, w].
        labels: int64 [N].
        scores: [N].
        strides: int64 [N], of the candidates' levels.
        sizes: the sizes of the network's input, of the image in it and of the output.

    Returns:
        masks: bool [n, H, W].
        boxes: [n, 4].
        labels: int64 [n].
        scores: [n].
    """
    soft, area, maskness = plain_decode(kernels, features, 0.5)
    large = area > strides
    soft, labels, scores = soft[large], labels[large], scores[large] * maskness[large]
    order, scores = matrix_nms_plain(
        soft > 0.5, labels, scores, "gaussian", 2.0, False, pre_nms=500
    )
    kept = scores >= 0.05
    order, scores = order[kept][:100], scores[kept][:100]
    return (*plain_resize(soft[order], *sizes, 0.5), labels[order], scores)


def plain_assemble(score_maps: Tensor, window_size: int) -> Tensor:
    """Assemble every cell's window, one bin after another, as probabilities: [H, W, m, m].

    Args:
        score_maps: [k^2, H, W].
        window_size: m.
    """
    k = math.isqrt(len(score_maps))
    before, after = window_size // 2, (window_size - 1) // 2
    padded = F.pad(score_maps, (before, after, before, after), value=-math.inf)
    windows = padded.unfold(1, window_size, 1).unfold(2, window_size, 1)
    edges = [(2 * window_size * i + k) // (2 * k) for i in range(k + 1)]
    result = torch.empty_like(windows[0], memory_format=torch.contiguous_format)
    for i in range(k):
        for j in range(k):
            rows, columns = slice(edges[i], edges[i + 1]), slice(edges[j], edges[j + 1])
            result[:, :, rows, columns] = windows[i * k + j, :, :, rows, columns]
    return result.sigmoid()


def plain_window_boxes(score_maps: Tensor, window_size: int, threshold: float) -> Tensor:
    """Box the masks of all windows, assembled at once: [H W, 4], in cells of the window.

    Args:
        score_maps: [k^2, H, W].
        window_size: m.
        threshold: probability above which a cell is in a mask.
    """
    return _boxes(plain_assemble(score_maps, window_size).flatten(0, 1) > threshold)


def plain_paste(
    masks: Tensor, boxes: Tensor, size: Size, threshold: float
) -> tuple[Tensor, Tensor]:
    """Return masks pasted by detectron2, bool [N, H, W], and the boxes around them, [N, 4]."""
    pasted = paste_masks_in_image(masks, boxes, size, threshold)
    return pasted, _boxes(pasted)


def _boxes(masks: Tensor) -> Tensor:
    """Return x0, y0, x1, y1 of masks, bool [N, h, w]: [N, 4], zeros for one without pixels."""
    sides = []
    for axis in (1, 2):
        occupied = masks.any(axis).byte()
        stop = occupied.shape[1] - occupied.flip(1).argmax(1)
        sides.append((occupied.argmax(1), stop * occupied.amax(1)))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], dim=1).float()
