"""COCO's metrics by faster-coco-eval (the extra `[eval]`), where it is installed."""

import importlib.util

from detectron2.evaluation import COCOEvaluator, coco_evaluation


def use_faster_coco_eval(evaluator: COCOEvaluator) -> bool:
    """Lets detectron2's evaluator compute AP in C++, and returns whether it does.

    detectron2 has a place for a fast implementation: its own, which its compiled ops bring. Where
    that is missing, this puts faster-coco-eval there, whose numbers are pycocotools' own. It knows
    images by numbers only; names are left to pycocotools.
    """
    if coco_evaluation.COCOeval_opt is not coco_evaluation.COCOeval:
        own = coco_evaluation.COCOeval_opt.__module__.startswith("detectron2")
    elif importlib.util.find_spec("faster_coco_eval") is None:
        return False
    else:
        from faster_coco_eval import COCOeval_faster

        coco_evaluation.COCOeval_opt = COCOeval_faster
        own = False
    numbered = all(isinstance(image_id, int) for image_id in evaluator._coco_api.imgs)
    evaluator._use_fast_impl = own or numbered
    return evaluator._use_fast_impl
