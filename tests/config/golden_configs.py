"""The values of the official configs, as keys of ours: see tests/config/golden/README.md."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).with_name("golden")
# An epoch of COCO train2017 in iterations of 16 images: 117,266 images with annotations.
_EPOCH = 7330
# The configs of SOLO's repository under our names.
_SOLO = {
    "solo/decoupled_solo_light_dcn_r50_fpn_8gpu_3x.py": "decoupled_solo_Light_DCN_R50_3x",
    "solo/decoupled_solo_light_r50_fpn_8gpu_3x.py": "decoupled_solo_Light_R50_3x",
    "solo/decoupled_solo_r101_fpn_8gpu_3x.py": "decoupled_solo_R101_3x",
    "solo/decoupled_solo_r50_fpn_8gpu_1x.py": "decoupled_solo_R50_1x",
    "solo/decoupled_solo_r50_fpn_8gpu_3x.py": "decoupled_solo_R50_3x",
    "solo/solo_r101_fpn_8gpu_3x.py": "solo_R101_3x",
    "solo/solo_r50_fpn_8gpu_1x.py": "solo_R50_1x",
    "solo/solo_r50_fpn_8gpu_3x.py": "solo_R50_3x",
    "solov2/solov2_light_448_r18_fpn_8gpu_3x.py": "solov2_Light_448_R18_3x",
    "solov2/solov2_light_448_r34_fpn_8gpu_3x.py": "solov2_Light_448_R34_3x",
    "solov2/solov2_light_448_r50_fpn_8gpu_3x.py": "solov2_Light_448_R50_3x",
    "solov2/solov2_light_512_dcn_r50_fpn_8gpu_3x.py": "solov2_Light_512_DCN_R50_3x",
    "solov2/solov2_r101_dcn_fpn_8gpu_3x.py": "solov2_R101_DCN_3x",
    "solov2/solov2_r101_fpn_8gpu_3x.py": "solov2_R101_3x",
    "solov2/solov2_r50_fpn_8gpu_1x.py": "solov2_R50_1x",
    "solov2/solov2_r50_fpn_8gpu_3x.py": "solov2_R50_3x",
    "solov2/solov2_x101_dcn_fpn_8gpu_3x.py": "solov2_X101_DCN_3x",
}
_FOLDER = {"solo": "SOLO", "decoupled": "DecoupledSOLO", "solov2": "SOLOv2"}


def official_configs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of our config and the official one's values under our keys."""
    for name, values in read_golden("mask_former"):
        yield f"MaskFormer/{name}", values
    for name, values in read_golden("sparse_inst"):
        yield f"SparseInst/{name}", values
    for name, values in read_golden("adelaidet"):
        yield f"SOLOv2/AdelaiDet/solov2_adelaidet_{name}", values
    for name, values in read_golden("solo"):
        ours = _SOLO[name]
        yield f"{_FOLDER[ours.split('_')[0]]}/{ours}.yaml", _of_mmdetection(values)


def read_golden(repository: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the names and the values of a repository's configs, as that repository has them."""
    table = json.loads((GOLDEN / f"{repository}.json").read_text(encoding="utf-8"))
    for name, values in table["configs"].items():
        yield name, table["all"] | values


def _of_mmdetection(official: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a config of mmdetection 1.x under our keys; each must be known."""
    left = dict(official)
    ours: dict[str, Any] = {}
    v2 = left.pop("model.type") == "SOLOv2"
    method = "MODEL.SOLOV2" if v2 else "MODEL.SOLO"

    def take(key: str, *names: str, convert: Any = lambda value: value) -> None:
        if key in left:
            value = convert(left.pop(key))
            ours.update({name: value for name in names})

    # mmdetection's batch norms train their weights and keep their statistics.
    ours |= {"MODEL.RESNETS.NORM": "BN", "MODEL.BACKBONE.NORM_EVAL": True}
    ours["MODEL.META_ARCHITECTURE"] = _take_head(left, ours)
    take("model.pretrained", "MODEL.WEIGHTS")
    take("model.backbone.depth", "MODEL.RESNETS.DEPTH")
    take("model.backbone.groups", "MODEL.RESNETS.NUM_GROUPS")
    take("model.backbone.base_width", "MODEL.RESNETS.WIDTH_PER_GROUP")
    # These two follow from the depth and the groups.
    del left["model.backbone.type"], left["model.neck.in_channels"]
    # detectron2 counts the stem.
    take("model.backbone.frozen_stages", "MODEL.BACKBONE.FREEZE_AT", convert=lambda n: n + 1)
    take("model.backbone.style", "MODEL.RESNETS.STRIDE_IN_1X1", convert=lambda s: s == "caffe")
    take("model.backbone.stage_with_dcn", "MODEL.RESNETS.DEFORM_ON_PER_STAGE")
    take("model.backbone.dcn.deformable_groups", "MODEL.RESNETS.DEFORM_NUM_GROUPS")
    take(
        "model.backbone.dcn.type",
        "MODEL.RESNETS.DEFORM_MODULATED",
        convert=lambda kind: kind == "DCNv2",
    )
    take("model.neck.out_channels", "MODEL.FPN.OUT_CHANNELS", f"{method}.INSTANCE_IN_CHANNELS")
    for name, key in {
        "stacked_convs": "NUM_INSTANCE_CONVS",
        "seg_feat_channels": "INSTANCE_CHANNELS",
        "strides": "FPN_INSTANCE_STRIDES",
        "scale_ranges": "FPN_SCALE_RANGES",
        "sigma": "SIGMA",
        "num_grids": "NUM_GRIDS",
        "ins_out_channels": "NUM_KERNELS",
        "use_dcn_in_tower": "USE_DCN_IN_INSTANCE",
        "type_dcn": "TYPE_DCN",
        "loss_ins.loss_weight": "LOSS.DICE_WEIGHT",
        "loss_cate.loss_weight": "LOSS.FOCAL_WEIGHT",
        "loss_cate.alpha": "LOSS.FOCAL_ALPHA",
        "loss_cate.gamma": "LOSS.FOCAL_GAMMA",
        "loss_cate.use_sigmoid": "LOSS.FOCAL_USE_SIGMOID",
    }.items():
        take(f"model.bbox_head.{name}", f"{method}.{key}")
    # The background is a class of its own there.
    take("model.bbox_head.num_classes", f"{method}.NUM_CLASSES", convert=lambda n: n - 1)
    take("model.mask_feat_head.in_channels", f"{method}.MASK_IN_CHANNELS")
    take("model.mask_feat_head.out_channels", f"{method}.MASK_CHANNELS")
    take("model.mask_feat_head.num_classes", f"{method}.NUM_MASKS")
    take(
        "model.mask_feat_head.conv_cfg.type",
        f"{method}.USE_DCN_IN_MASK",
        convert=lambda kind: kind == "DCNv2",
    )
    for name, key in {
        "kernel": "NMS_KERNEL",
        "mask_thr": "MASK_THR",
        "nms_pre": "NMS_PRE",
        "score_thr": "SCORE_THR",
        "sigma": "NMS_SIGMA",
        "update_thr": "UPDATE_THR",
    }.items():
        take(f"test_cfg.{name}", f"{method}.{key}")
    take("test_cfg.max_per_img", "TEST.DETECTIONS_PER_IMAGE")
    take("optimizer.lr", "SOLVER.BASE_LR")
    take("optimizer.momentum", "SOLVER.MOMENTUM")
    take("optimizer.weight_decay", "SOLVER.WEIGHT_DECAY", "SOLVER.WEIGHT_DECAY_NORM")
    take("optimizer_config.grad_clip.max_norm", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE")
    take("optimizer_config.grad_clip.norm_type", "SOLVER.CLIP_GRADIENTS.NORM_TYPE")
    ours["SOLVER.CLIP_GRADIENTS.ENABLED"] = True
    ours["SOLVER.CLIP_GRADIENTS.CLIP_TYPE"] = "full_model"
    take("lr_config.step", "SOLVER.STEPS", convert=lambda epochs: [e * _EPOCH for e in epochs])
    take("lr_config.warmup", "SOLVER.WARMUP_METHOD")
    take("lr_config.warmup_iters", "SOLVER.WARMUP_ITERS")
    take("lr_config.warmup_ratio", "SOLVER.WARMUP_FACTOR")
    take("total_epochs", "SOLVER.MAX_ITER", convert=lambda epochs: epochs * _EPOCH)
    take("imgs_per_gpu", "SOLVER.IMS_PER_BATCH", convert=lambda images: images * 8)  # 8 GPUs
    ours |= _of_pipelines(left.pop("train_pipeline"), left.pop("test_pipeline"))
    for key, value in _CONSTANT.items():
        assert left.pop(key, value) == value, key
    assert not left, f"values that nothing here reads: {left}"
    return ours


def _take_head(left: dict[str, Any], ours: dict[str, Any]) -> str:
    head = left.pop("model.bbox_head.type")
    if head.startswith("Decoupled"):
        # The empty name stands for the head of the META_ARCHITECTURE's own name.
        ours["MODEL.SOLO.HEAD_NAME"] = "" if head == "DecoupledSOLOHead" else head
        return "DecoupledSOLO"
    # The Light v2 head differs in its DCN alone, which is in the last convolution of each tower.
    if head == "SOLOv2LightHead":
        ours["MODEL.SOLOV2.DCN_CONVS"] = "last"
    return "SOLOv2" if head.startswith("SOLOv2") else "SOLO"


def _of_pipelines(train: list[dict[str, Any]], test: list[dict[str, Any]]) -> dict[str, Any]:
    steps = {step["type"]: step for step in train}
    (test_step,) = (step for step in test if step["type"] == "MultiScaleFlipAug")
    test_steps = {step["type"]: step for step in test_step["transforms"]}
    scales = steps["Resize"]["img_scale"]
    scales = scales if isinstance(scales[0], list) else [scales]
    assert steps["RandomFlip"]["flip_ratio"] == 0.5
    assert steps["Pad"]["size_divisor"] == test_steps["Pad"]["size_divisor"] == 32
    assert steps["Normalize"] == test_steps["Normalize"]
    # A scale is in any order: mmcv takes the smaller number for the short edge.
    (longest,) = {max(scale) for scale in scales}
    return {
        "DATASETS.TRAIN": ["coco_2017_train"],
        "DATASETS.TEST": ["coco_2017_val"],
        "INPUT.FORMAT": "RGB" if steps["Normalize"]["to_rgb"] else "BGR",
        "INPUT.RANDOM_FLIP": "horizontal",
        "INPUT.RESIZE": "cv2",  # mmcv
        "INPUT.MIN_SIZE_TRAIN": sorted(min(scale) for scale in scales),
        "INPUT.MAX_SIZE_TRAIN": longest,
        "INPUT.MIN_SIZE_TEST": min(test_step["img_scale"]),
        "INPUT.MAX_SIZE_TEST": max(test_step["img_scale"]),
        "MODEL.PIXEL_MEAN": steps["Normalize"]["mean"],
        "MODEL.PIXEL_STD": steps["Normalize"]["std"],
    }


# What is the same in every config of SOLO's repository, and fixed in our heads.
_CONSTANT: dict[str, Any] = {
    "lr_config.policy": "step",
    "model.backbone.dcn.fallback_on_stride": False,
    "model.backbone.num_stages": 4,
    "model.backbone.out_indices": [0, 1, 2, 3],
    "model.bbox_head.cate_down_pos": 0,
    "model.bbox_head.in_channels": 256,
    "model.bbox_head.loss_cate.type": "FocalLoss",
    "model.bbox_head.loss_ins.type": "DiceLoss",
    "model.bbox_head.loss_ins.use_sigmoid": True,
    "model.bbox_head.with_deform": False,
    "model.mask_feat_head.end_level": 3,
    "model.mask_feat_head.norm_cfg.num_groups": 32,
    "model.mask_feat_head.norm_cfg.requires_grad": True,
    "model.mask_feat_head.norm_cfg.type": "GN",
    "model.mask_feat_head.start_level": 0,
    "model.mask_feat_head.type": "MaskFeatHead",
    "model.neck.num_outs": 5,
    "model.neck.start_level": 0,
    "model.neck.type": "FPN",
    "optimizer.type": "SGD",
    "test_data": ["data/coco/annotations/instances_val2017.json", "data/coco/val2017/"],
    "train_cfg": {},
    "train_data": ["data/coco/annotations/instances_train2017.json", "data/coco/train2017/"],
}
