"""Every published config of MaskFormer, value by value, against what the paper and its zoo say."""

from typing import Any

import pytest

from solo_family.config import setup_cfg
from solo_family.config.rules import get_key
from solo_family.model_zoo import get_config_file

from ...conftest import ROOT

# By folder, what its configs have in common (arXiv 2107.06278, section 4.1, and the model zoo).
SEMANTIC = {
    "INPUT.CROP.ENABLED": True,
    "INPUT.CROP.TYPE": "absolute",
    "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": 1.0,
    "INPUT.COLOR_AUG_SSD": True,
    "INPUT.RANDOM_FLIP": "horizontal",
    "SOLVER.LR_SCHEDULER_NAME": "WarmupPolyLR",
    "SOLVER.POLY_LR_POWER": 0.9,
    "MODEL.MASK_FORMER.TEST.PANOPTIC_ON": False,
    "MODEL.MASK_FORMER.TEST.SEMANTIC_ON": True,
}
SCALES_512 = (256, 307, 358, 409, 460, 512, 563, 614, 665, 716, 768, 819, 870, 921, 972, 1024)
SCALES_640 = (
    *(320, 384, 448, 512, 576, 640, 704, 768),
    *(832, 896, 960, 1024, 1088, 1152, 1216, 1280),
)
CROPS_512 = {
    "INPUT.MIN_SIZE_TRAIN": SCALES_512,
    "INPUT.MAX_SIZE_TRAIN": 2048,
    "INPUT.MIN_SIZE_TEST": 512,
    "INPUT.CROP.SIZE": (512, 512),
    "INPUT.SIZE_DIVISIBILITY": 512,
    "TEST.AUG.MIN_SIZES": (256, 384, 512, 640, 768, 896),
}
CROPS_640 = {
    "INPUT.MIN_SIZE_TRAIN": SCALES_640,
    "INPUT.MAX_SIZE_TRAIN": 2560,
    "INPUT.MIN_SIZE_TEST": 640,
    "INPUT.CROP.SIZE": (640, 640),
    "INPUT.SIZE_DIVISIBILITY": 640,
}
PANOPTIC = {
    "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": "TransformerEncoderPixelDecoder",
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 6,
    "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE": "transformer_encoder",
    "MODEL.MASK_FORMER.TEST.PANOPTIC_ON": True,
    "MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD": 0.8,
}
FOLDERS: dict[str, dict[str, Any]] = {
    "ade20k-150": {
        **SEMANTIC,
        **CROPS_512,
        "DATASETS.TRAIN": ("ade20k_sem_seg_train",),
        "DATASETS.TEST": ("ade20k_sem_seg_val",),
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 150,
        "SOLVER.IMS_PER_BATCH": 16,
        "SOLVER.MAX_ITER": 160000,
    },
    "ade20k-full-847": {
        **SEMANTIC,
        **CROPS_512,
        "DATASETS.TRAIN": ("ade20k_full_sem_seg_train",),
        "DATASETS.TEST": ("ade20k_full_sem_seg_val",),
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 847,
        "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": 65535,
        "SOLVER.IMS_PER_BATCH": 16,
        "SOLVER.MAX_ITER": 200000,
    },
    "coco-stuff-10k-171": {
        **SEMANTIC,
        **CROPS_640,
        "DATASETS.TRAIN": ("coco_2017_train_stuff_10k_sem_seg",),
        "DATASETS.TEST": ("coco_2017_test_stuff_10k_sem_seg",),
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 171,
        "SOLVER.IMS_PER_BATCH": 32,
        "SOLVER.MAX_ITER": 60000,
        "INPUT.MIN_SIZE_TRAIN": (320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960),
    },
    "cityscapes-19": {
        **SEMANTIC,
        "DATASETS.TRAIN": ("cityscapes_fine_sem_seg_train",),
        "DATASETS.TEST": ("cityscapes_fine_sem_seg_val",),
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 19,
        "SOLVER.IMS_PER_BATCH": 16,
        "SOLVER.MAX_ITER": 90000,
        "INPUT.MIN_SIZE_TRAIN": (
            *(512, 614, 716, 819, 921, 1024, 1126, 1228),
            *(1331, 1433, 1536, 1638, 1740, 1843, 1945, 2048),
        ),
        "INPUT.MAX_SIZE_TRAIN": 4096,
        "INPUT.MIN_SIZE_TEST": 1024,
        "INPUT.MAX_SIZE_TEST": 2048,
        "INPUT.CROP.SIZE": (512, 1024),
    },
    "mapillary-vistas-65": {
        **SEMANTIC,
        "DATASETS.TRAIN": ("mapillary_vistas_sem_seg_train",),
        "DATASETS.TEST": ("mapillary_vistas_sem_seg_val",),
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 65,
        "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": 65,
        "SOLVER.IMS_PER_BATCH": 16,
        "SOLVER.MAX_ITER": 300000,
        "INPUT.MIN_SIZE_TEST": 2048,
        "INPUT.CROP.SIZE": (1280, 1280),
        "INPUT.SIZE_DIVISIBILITY": 1280,
    },
    "coco-panoptic": {
        **PANOPTIC,
        "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD": 0.8,
        "MODEL.MASK_FORMER.SIZE_DIVISIBILITY": 0,
        "DATASETS.TRAIN": ("coco_2017_train_panoptic",),
        "DATASETS.TEST": ("coco_2017_val_panoptic",),
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 133,
        "SOLVER.IMS_PER_BATCH": 64,
        "SOLVER.MAX_ITER": 554400,
        "SOLVER.STEPS": (369600,),
        "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
        "INPUT.DATASET_MAPPER_NAME": "detr_panoptic",
        "INPUT.MIN_SIZE_TRAIN": (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800),
        "INPUT.MAX_SIZE_TRAIN": 1333,
        "INPUT.MIN_SIZE_TEST": 800,
        "INPUT.MAX_SIZE_TEST": 1333,
        "INPUT.CROP.TYPE": "absolute_range",
        "INPUT.CROP.SIZE": (384, 600),
    },
    "ade20k-150-panoptic": {
        **PANOPTIC,
        **CROPS_640,
        "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD": 0.7,
        "DATASETS.TRAIN": ("ade20k_panoptic_train",),
        "DATASETS.TEST": ("ade20k_panoptic_val",),
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 150,
        "SOLVER.IMS_PER_BATCH": 16,
        "SOLVER.MAX_ITER": 720000,
        "SOLVER.LR_SCHEDULER_NAME": "WarmupPolyLR",
        "INPUT.COLOR_AUG_SSD": True,
    },
}

# What a backbone sets, by what stands in the config's name.
RESNET_SOLVER = {
    "SOLVER.OPTIMIZER": "AdamW",
    "SOLVER.BASE_LR": 0.0001,
    "SOLVER.WEIGHT_DECAY": 0.0001,
    "SOLVER.BACKBONE_MULTIPLIER": 0.1,
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
}
SWIN_SOLVER = {
    "SOLVER.OPTIMIZER": "AdamW",
    "SOLVER.BASE_LR": 0.00006,
    "SOLVER.WEIGHT_DECAY": 0.01,
    "SOLVER.WEIGHT_DECAY_NORM": 0.0,
    "SOLVER.WEIGHT_DECAY_EMBED": 0.0,
    "SOLVER.BACKBONE_MULTIPLIER": 1.0,
    "SOLVER.WARMUP_ITERS": 1500,
    "SOLVER.WARMUP_FACTOR": 1e-6,
    "MODEL.BACKBONE.NAME": "D2SwinTransformer",
    "MODEL.SWIN.DROP_PATH_RATE": 0.3,
}


def resnet(depth: int, weights: str) -> dict[str, Any]:
    return RESNET_SOLVER | {
        "MODEL.BACKBONE.NAME": "build_resnet_backbone",
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.WEIGHTS": weights,
    }


def swin(width: int, depths: list[int], heads: list[int], window: int, size: int) -> dict[str, Any]:
    return SWIN_SOLVER | {
        "MODEL.SWIN.EMBED_DIM": width,
        "MODEL.SWIN.DEPTHS": depths,
        "MODEL.SWIN.NUM_HEADS": heads,
        "MODEL.SWIN.WINDOW_SIZE": window,
        "MODEL.SWIN.PRETRAIN_IMG_SIZE": size,
    }


TORCHVISION = "detectron2://ImageNetPretrained/torchvision"
BACKBONES: dict[str, dict[str, Any]] = {
    "R50": resnet(50, f"{TORCHVISION}/R-50.pkl"),
    "R101": resnet(101, f"{TORCHVISION}/R-101.pkl"),
    "R101c": RESNET_SOLVER
    | {
        "MODEL.BACKBONE.NAME": "build_resnet_deeplab_backbone",
        "MODEL.RESNETS.DEPTH": 101,
        "MODEL.RESNETS.STEM_TYPE": "deeplab",
        "MODEL.RESNETS.STEM_OUT_CHANNELS": 128,
        "MODEL.RESNETS.RES5_MULTI_GRID": [1, 2, 4],
        "MODEL.WEIGHTS": "detectron2://DeepLab/R-103.pkl",
    },
    "tiny": swin(96, [2, 2, 6, 2], [3, 6, 12, 24], 7, 224),
    "small": swin(96, [2, 2, 18, 2], [3, 6, 12, 24], 7, 224),
    "base": swin(128, [2, 2, 18, 2], [4, 8, 16, 32], 12, 384),
    "large": swin(192, [2, 2, 18, 2], [6, 12, 24, 48], 12, 384),
}

# (folder, file, backbone, head): the rows of the zoo.
PP, PLUS, MF = "PerPixelBaselineHead", "PerPixelBaselinePlusHead", "MaskFormerHead"
ZOO = [
    *(
        (folder, f"{name}_{schedule}", backbone, head)
        for folder, schedule in (
            ("ade20k-150", "bs16_160k"),
            ("coco-stuff-10k-171", "bs32_60k"),
            ("ade20k-full-847", "bs16_200k"),
        )
        for name, backbone, head in (
            ("per_pixel_baseline_R50", "R50", PP),
            ("per_pixel_baseline_plus_R50", "R50", PLUS),
            ("maskformer_R50", "R50", MF),
            ("maskformer_R101", "R101", MF),
            ("maskformer_R101c", "R101c", MF),
        )
    ),
    ("ade20k-150", "swin/maskformer_swin_tiny_bs16_160k", "tiny", MF),
    ("ade20k-150", "swin/maskformer_swin_small_bs16_160k", "small", MF),
    ("ade20k-150", "swin/maskformer_swin_base_IN21k_384_bs16_160k_res640", "base", MF),
    ("ade20k-150", "swin/maskformer_swin_large_IN21k_384_bs16_160k_res640", "large", MF),
    ("cityscapes-19", "maskformer_R101_bs16_90k", "R101", MF),
    ("cityscapes-19", "maskformer_R101c_bs16_90k", "R101c", MF),
    ("mapillary-vistas-65", "maskformer_R50_bs16_300k", "R50", MF),
    ("coco-panoptic", "maskformer_panoptic_R50_bs64_554k", "R50", MF),
    ("coco-panoptic", "maskformer_panoptic_R101_bs64_554k", "R101", MF),
    ("coco-panoptic", "swin/maskformer_panoptic_swin_tiny_bs64_554k", "tiny", MF),
    ("coco-panoptic", "swin/maskformer_panoptic_swin_small_bs64_554k", "small", MF),
    ("coco-panoptic", "swin/maskformer_panoptic_swin_base_IN21k_384_bs64_554k", "base", MF),
    ("coco-panoptic", "swin/maskformer_panoptic_swin_large_IN21k_384_bs64_554k", "large", MF),
    ("ade20k-150-panoptic", "maskformer_panoptic_R50_bs16_720k", "R50", MF),
    ("ade20k-150-panoptic", "maskformer_panoptic_R101_bs16_720k", "R101", MF),
]
# Of all: the transformer, the losses, the clipping.
SHARED: dict[str, Any] = {
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 256,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 256,
    "MODEL.SEM_SEG_HEAD.NORM": "GN",
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.MASK_FORMER.HIDDEN_DIM": 256,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 100,
    "MODEL.MASK_FORMER.NHEADS": 8,
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 2048,
    "MODEL.MASK_FORMER.DROPOUT": 0.1,
    "MODEL.MASK_FORMER.ENC_LAYERS": 0,
    "MODEL.MASK_FORMER.DEC_LAYERS": 6,
    "MODEL.MASK_FORMER.DEEP_SUPERVISION": True,
    "MODEL.MASK_FORMER.NO_OBJECT_WEIGHT": 0.1,
    "MODEL.MASK_FORMER.DICE_WEIGHT": 1.0,
    "MODEL.MASK_FORMER.MASK_WEIGHT": 20.0,
    "SOLVER.CLIP_GRADIENTS.ENABLED": True,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "full_model",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 0.01,
    "INPUT.FORMAT": "RGB",
    "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
    "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
}


def expected_values(folder: str, name: str, backbone: str, head: str) -> dict[str, Any]:
    values = SHARED | FOLDERS[folder] | BACKBONES[backbone]
    values["MODEL.SEM_SEG_HEAD.NAME"] = head
    values["MODEL.META_ARCHITECTURE"] = "MaskFormer" if head == MF else "SemanticSegmentor"
    if "res640" in name:
        values |= CROPS_640 | {"TEST.AUG.MIN_SIZES": (320, 480, 640, 800, 960, 1120)}
    if folder == "coco-panoptic" and "swin" in name:
        values |= {
            "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": "BasePixelDecoder",
            "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE": "res5",
            "MODEL.MASK_FORMER.ENFORCE_INPUT_PROJ": True,
        }
        del values["MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS"]  # of the other decoder
    elif head == MF and "panoptic" not in folder:
        values["MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME"] = "BasePixelDecoder"
        values["MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE"] = "res5"
    return values


@pytest.mark.parametrize(("folder", "name", "backbone", "head"), ZOO)
def test_published_values(folder: str, name: str, backbone: str, head: str) -> None:
    cfg = setup_cfg(get_config_file(f"MaskFormer/{folder}/{name}.yaml"))

    def plain(value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    for key, value in expected_values(folder, name, backbone, head).items():
        assert plain(get_key(cfg, key)) == plain(value), key


def test_no_config_is_missing_from_the_list() -> None:
    root = ROOT / "configs" / "MaskFormer"
    there = {str(path.relative_to(root)) for path in root.rglob("maskformer_*.yaml")}
    there |= {str(path.relative_to(root)) for path in root.rglob("per_pixel_*.yaml")}
    assert there == {f"{folder}/{name}.yaml" for folder, name, *_ in ZOO}
