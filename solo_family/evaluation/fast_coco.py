"""COCO's metrics by faster-coco-eval (the extra `[eval]`), where it is installed."""

import importlib.util

from detectron2.evaluation import coco_evaluation


def use_faster_coco_eval() -> bool:
    """Lets detectron2's `COCOEvaluator` compute AP in C++, and returns whether it does.

    detectron2 has a place for a fast implementation: its own, which its compiled ops bring. Where
    that is missing, this puts faster-coco-eval there, whose numbers are pycocotools' own.
    """
    if coco_evaluation.COCOeval_opt is not coco_evaluation.COCOeval:
        return True
    if importlib.util.find_spec("faster_coco_eval") is None:
        return False
    from faster_coco_eval import COCOeval_faster

    coco_evaluation.COCOeval_opt = COCOeval_faster
    return True
