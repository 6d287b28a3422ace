"""Decide whether bfloat16 is fast on a device, and whether it finds what float32 finds.

N instances, M others, H W of the image, K classes.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import torch
from detectron2.structures import Instances
from torch import Tensor

from ..class_maps import Read, class_maps_read, with_class_maps
from ..errors import first_line
from ..ops.run_masks import are_empty, iou_of_any
from .base import MaskSegmentor

# Instances that score at least this share of the best one are compared; the others hardly count in
# any measure, and their order is that of noise.
_SHARE_OF_BEST = 0.5
# Two instances are the same if their masks have at least this IoU, and their scores differ by at
# most this share of the best.
_MIN_IOU, _MAX_GAP = 0.9, 0.1
# The least share of the instances, of pixels, that have to agree.
_MIN_AGREEMENT = 0.95

logger = logging.getLogger(__name__)


def why_not_bfloat16(device: torch.device) -> str:
    """Return why bfloat16 is not faster than float32 on a device, "" if it is."""
    if device.type == "cuda":
        # The first NVIDIA GPUs whose tensor cores multiply bfloat16 are those of sm_80.
        fast = torch.version.hip or torch.cuda.get_device_capability(device) >= (8, 0)
        return (
            "" if fast else f"{torch.cuda.get_device_name(device)} has no tensor cores for bfloat16"
        )
    if device.type == "cpu":
        flags = _cpu_flags()
        has = {"amx_bf16", "avx512_bf16"} & flags
        return "" if has else "this CPU has neither AMX nor AVX512-BF16"
    return f"bfloat16 was not tried on {device.type}"


def _cpu_flags() -> set[str]:
    """Return the names of the CPU's abilities, as Linux writes them; without /proc, none."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            line = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return set()
    return set(line.partition(":")[2].split())


class PrecisionCheck:
    """Choose between a model and its copy of half precision, on the first image with objects.

    If the copy fails, because an operator has no such precision or memory is short, the model is
    chosen.

    As long as the model finds nothing, nothing can be compared: both run, and the model's results
    count.

    Args:
        half: the copy.
    """

    def __init__(self, half: MaskSegmentor) -> None:
        self._half: MaskSegmentor | None = half
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._half,)

    def __call__(
        self, model: MaskSegmentor, batched_inputs: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return the model's results; once decided, those of the choice. See `forward`."""
        with self._lock:
            # Another thread may have decided meanwhile.
            if model.first_inference is not self or self._half is None or not batched_inputs:
                return model.inference(batched_inputs)
            # All results are compared, read or not: who reads less must not get another precision.
            with with_class_maps():
                first = model.inference(batched_inputs[:1])
                if not is_empty(first[0]):
                    first = self._decide(model, self._half, first, batched_inputs[:1])
            if class_maps_read() is Read.NEVER and "panoptic_seg" in first[0]:
                first[0].pop("sem_seg", None)
            return first + model.inference(batched_inputs[1:])

    def _decide(
        self,
        model: MaskSegmentor,
        half: MaskSegmentor,
        results: list[Any],
        batched_inputs: list[dict[str, Any]],
    ) -> list[Any]:
        halved: list[Any] = []
        try:
            if half.device != model.device:  # the model was moved; the copy is no module of its
                half.to(model.device)
            halved = half.inference(batched_inputs)
            difference = differs(results[0], halved[0])
        except RuntimeError as error:  # no operator for bfloat16, or no memory for both copies
            difference = f"it ends in {type(error).__name__} ({first_line(error)})"
        model.first_inference = self._half = None
        if difference:
            logger.info(
                "MODEL.INFERENCE.PRECISION auto is float32: with bfloat16 %s on the first image.",
                difference,
            )
            return results
        logger.info("MODEL.INFERENCE.PRECISION auto is bfloat16: the first image agrees.")
        model.take_network(half)
        return halved


def is_empty(result: dict[str, Any]) -> bool:
    """Return whether a result has neither instances, segments nor semantic scores."""
    found = [len(result["instances"]) > 0] if "instances" in result else []
    found += [bool(result["panoptic_seg"][1])] if "panoptic_seg" in result else []
    return not any([*found, "sem_seg" in result])


def differs(expected: dict[str, Any], found: dict[str, Any]) -> str:
    """Return in what a result differs from the expected one, in words; "" if they agree.

    Args:
        expected: `instances`, `sem_seg`, `panoptic_seg` of one image, as detectron2 has them.
        found: the same.
    """
    if "instances" in expected:
        share = shared_instances(expected["instances"], found["instances"])
        if share < _MIN_AGREEMENT:
            return f"only {share:.0%} of the instances are the same"
    if "sem_seg" in expected:
        share = _share(expected["sem_seg"].argmax(0) == found["sem_seg"].argmax(0))
        if share < _MIN_AGREEMENT:
            return f"only {share:.0%} of the pixels have the same class"
    if "panoptic_seg" in expected:
        share = _share(_classes(*expected["panoptic_seg"]) == _classes(*found["panoptic_seg"]))
        if share < _MIN_AGREEMENT:
            return f"only {share:.0%} of the pixels have a segment of the same class"
    return ""


def shared_instances(expected: Instances, found: Instances) -> float:
    """Return the share of both results' better instances that are in the other result, too."""
    best = max((float(its.scores.max()) for its in (expected, found) if len(its)), default=0.0)
    shared = total = 0
    for some, others in ((expected, found), (found, expected)):
        better = some[some.scores >= _SHARE_OF_BEST * best]
        total += len(better)
        if len(better) and len(others):
            same = iou_of_any(better.pred_masks, others.pred_masks) >= _MIN_IOU
            # Empty masks have no IoU.
            same |= are_empty(better.pred_masks)[:, None] & are_empty(others.pred_masks)
            same &= better.pred_classes[:, None] == others.pred_classes
            same &= (better.scores[:, None] - others.scores).abs() <= _MAX_GAP * best
            shared += int(same.any(1).sum())
    return shared / total if total else 1.0


def _classes(segments: Tensor, infos: list[dict[str, Any]]) -> Tensor:
    """Return the class of each pixel, int64 [H, W]; -1 for no segment."""
    table = segments.new_full((max((info["id"] for info in infos), default=0) + 1,), -1).long()
    for info in infos:
        table[info["id"]] = info["category_id"]
    return table[segments.long().clamp(min=0)]


def _share(flags: Tensor) -> float:
    return float(flags.float().mean())
