"""Compute the results of models that predict instances, in numpy: SOLO's family and SparseInst.

N instances, h w of the network's masks.
"""

from typing import Any

import numpy as np

from .panoptic import merge_panoptic
from .results import PredictedInstances, Prediction, Sizes, resized, threshold_masks


def instance_results(
    outputs: dict[str, np.ndarray],
    sizes: Sizes,
    thresholds: dict[str, float],
    settings: dict[str, Any],
) -> Prediction:
    """Turn the first image's outputs into results at the size of the picture.

    Args:
        outputs: `scores` float32 [B, N], `classes` int64 [B, N], `masks` float32 [B, N, h, w],
            probabilities.
        sizes: the sizes of the image.
        thresholds: `keep`, the lowest score of a result; `mask`, the probability above which a
            pixel is in a mask; and for panoptic results `object` and `overlap`, see
            `methods.sparse_inst.panoptic`.
        settings: with `stuff_classes`, panoptic segments are returned, too, and only things are
            instances.
    """
    scores = outputs["scores"][0]
    kept = np.flatnonzero((scores > 0) & (scores >= thresholds["keep"]))
    scores, classes, masks = (outputs[name][0, kept] for name in ("scores", "classes", "masks"))
    panoptic_seg = None
    if "stuff_classes" in settings:
        stuff_classes = settings["stuff_classes"]
        chosen = scores > np.float32(thresholds["object"])
        panoptic_seg = merge_panoptic(
            resized(masks[chosen], sizes),
            scores[chosen],
            classes[chosen],
            sizes.output,
            stuff_classes=stuff_classes,
            overlap_threshold=thresholds["overlap"],
        )
        things = ~np.isin(classes, stuff_classes)
        scores, classes, masks = scores[things], classes[things], masks[things]
    binary = threshold_masks(masks, sizes, thresholds["mask"])
    return Prediction(PredictedInstances(scores, classes, binary), panoptic_seg=panoptic_seg)
