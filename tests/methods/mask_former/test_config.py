"""MaskFormer's configuration: the official files and defaults, users' mistakes."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from detectron2.config import get_cfg as get_detectron2_cfg

from solo_family.config import check_config, get_cfg, setup_cfg
from solo_family.config.rules import get_key
from solo_family.errors import ConfigError
from solo_family.methods.mask_former.config import add_mask_former_config

from ...conftest import tiny_cfg, tiny_model

# mask_former/config.py of the official code, but for the solver, the mapper and detectron2's keys.
DEFAULTS = {
    "INPUT.COLOR_AUG_SSD": False,
    "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": 1.0,
    "INPUT.SIZE_DIVISIBILITY": -1,
    "SOLVER.WEIGHT_DECAY_EMBED": 0.0,
    "SOLVER.POLY_LR_POWER": 0.9,
    "SOLVER.POLY_LR_CONSTANT_ENDING": 0.0,
    "MODEL.MASK_FORMER.DEEP_SUPERVISION": True,
    "MODEL.MASK_FORMER.NO_OBJECT_WEIGHT": 0.1,
    "MODEL.MASK_FORMER.DICE_WEIGHT": 1.0,
    "MODEL.MASK_FORMER.MASK_WEIGHT": 20.0,
    "MODEL.MASK_FORMER.NHEADS": 8,
    "MODEL.MASK_FORMER.DROPOUT": 0.1,
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 2048,
    "MODEL.MASK_FORMER.ENC_LAYERS": 0,
    "MODEL.MASK_FORMER.DEC_LAYERS": 6,
    "MODEL.MASK_FORMER.PRE_NORM": False,
    "MODEL.MASK_FORMER.HIDDEN_DIM": 256,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 100,
    "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE": "res5",
    "MODEL.MASK_FORMER.ENFORCE_INPUT_PROJ": False,
    "MODEL.MASK_FORMER.TEST.PANOPTIC_ON": False,
    "MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD": 0.0,
    "MODEL.MASK_FORMER.TEST.SEMANTIC_INFERENCE_METHOD": "probabilistic",
    "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD": 0.0,
    "MODEL.MASK_FORMER.TEST.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE": False,
    "MODEL.MASK_FORMER.SIZE_DIVISIBILITY": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 256,
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 0,
    "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": "BasePixelDecoder",
    "MODEL.SWIN.PRETRAIN_IMG_SIZE": 224,
    "MODEL.SWIN.PATCH_SIZE": 4,
    "MODEL.SWIN.EMBED_DIM": 96,
    "MODEL.SWIN.DEPTHS": [2, 2, 6, 2],
    "MODEL.SWIN.NUM_HEADS": [3, 6, 12, 24],
    "MODEL.SWIN.WINDOW_SIZE": 7,
    "MODEL.SWIN.MLP_RATIO": 4.0,
    "MODEL.SWIN.QKV_BIAS": True,
    "MODEL.SWIN.QK_SCALE": None,
    "MODEL.SWIN.DROP_RATE": 0.0,
    "MODEL.SWIN.ATTN_DROP_RATE": 0.0,
    "MODEL.SWIN.DROP_PATH_RATE": 0.3,
    "MODEL.SWIN.APE": False,
    "MODEL.SWIN.PATCH_NORM": True,
    "MODEL.SWIN.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
}

# What the official yaml files set, with their lists written out. They inherit from each other in
# this order.
RESNET = {
    "BACKBONE": {"FREEZE_AT": 0, "NAME": "build_resnet_backbone"},
    "WEIGHTS": "detectron2://ImageNetPretrained/torchvision/R-50.pkl",
    "PIXEL_MEAN": [123.675, 116.280, 103.530],
    "PIXEL_STD": [58.395, 57.120, 57.375],
    "RESNETS": {
        "DEPTH": 50,
        "STEM_TYPE": "basic",
        "STEM_OUT_CHANNELS": 64,
        "STRIDE_IN_1X1": False,
        "OUT_FEATURES": ["res2", "res3", "res4", "res5"],
        "RES5_MULTI_GRID": [1, 1, 1],
    },
}
CLIP = {"ENABLED": True, "CLIP_TYPE": "full_model", "CLIP_VALUE": 0.01, "NORM_TYPE": 2.0}
HEAD = {
    "NAME": "MaskFormerHead",
    "IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "IGNORE_VALUE": 255,
    "NUM_CLASSES": 150,
    "COMMON_STRIDE": 4,
    "LOSS_WEIGHT": 1.0,
    "CONVS_DIM": 256,
    "MASK_DIM": 256,
    "NORM": "GN",
}
TRANSFORMER = {
    "TRANSFORMER_IN_FEATURE": "res5",
    "DEEP_SUPERVISION": True,
    "HIDDEN_DIM": 256,
    "NUM_OBJECT_QUERIES": 100,
    "NHEADS": 8,
    "DROPOUT": 0.1,
    "DIM_FEEDFORWARD": 2048,
    "ENC_LAYERS": 0,
    "DEC_LAYERS": 6,
    "PRE_NORM": False,
}
OFFICIAL: dict[str, dict[str, Any]] = {
    "ade20k-150/Base-ADE20K-150.yaml": {
        "MODEL": RESNET,
        "DATASETS": {"TRAIN": ["ade20k_sem_seg_train"], "TEST": ["ade20k_sem_seg_val"]},
        "SOLVER": {
            "IMS_PER_BATCH": 16,
            "BASE_LR": 0.0001,
            "MAX_ITER": 160000,
            "WARMUP_FACTOR": 1.0,
            "WARMUP_ITERS": 0,
            "WEIGHT_DECAY": 0.0001,
            "OPTIMIZER": "ADAMW",
            "LR_SCHEDULER_NAME": "WarmupPolyLR",
            "BACKBONE_MULTIPLIER": 0.1,
            "CLIP_GRADIENTS": CLIP,
        },
        "INPUT": {
            "MIN_SIZE_TRAIN": [256, 307, 358, 409, 460, 512, 563, 614, 665, 716, 768, 819],
            "MIN_SIZE_TRAIN_SAMPLING": "choice",
            "MIN_SIZE_TEST": 512,
            "MAX_SIZE_TRAIN": 2048,
            "MAX_SIZE_TEST": 2048,
            "CROP": {
                "ENABLED": True,
                "TYPE": "absolute",
                "SIZE": [512, 512],
                "SINGLE_CATEGORY_MAX_AREA": 1.0,
            },
            "COLOR_AUG_SSD": True,
            "SIZE_DIVISIBILITY": 512,
            "FORMAT": "RGB",
            "DATASET_MAPPER_NAME": "mask_former_semantic",
        },
        "TEST": {
            "EVAL_PERIOD": 5000,
            "AUG": {
                "ENABLED": False,
                "MIN_SIZES": [256, 384, 512, 640, 768, 896],
                "MAX_SIZE": 3584,
                "FLIP": True,
            },
        },
        "DATALOADER": {"FILTER_EMPTY_ANNOTATIONS": True, "NUM_WORKERS": 4},
        "VERSION": 2,
    },
    "ade20k-150/maskformer_R50_bs16_160k.yaml": {
        "_BASE_": "Base-ADE20K-150.yaml",
        "MODEL": {
            "META_ARCHITECTURE": "MaskFormer",
            "SEM_SEG_HEAD": HEAD,
            "MASK_FORMER": TRANSFORMER
            | {"NO_OBJECT_WEIGHT": 0.1, "DICE_WEIGHT": 1.0, "MASK_WEIGHT": 20.0}
            | {"TEST": {"SEMANTIC_INFERENCE_METHOD": "probabilistic"}},
        },
    },
    "ade20k-150/maskformer_R101c_bs16_160k.yaml": {
        "_BASE_": "maskformer_R50_bs16_160k.yaml",
        "MODEL": {
            "BACKBONE": {"NAME": "build_resnet_deeplab_backbone"},
            "WEIGHTS": "detectron2://DeepLab/R-103.pkl",
            "RESNETS": {
                "DEPTH": 101,
                "STEM_TYPE": "deeplab",
                "STEM_OUT_CHANNELS": 128,
                "RES5_MULTI_GRID": [1, 2, 4],
            },
        },
    },
    "ade20k-150/per_pixel_baseline_plus_R50_bs16_160k.yaml": {
        "_BASE_": "Base-ADE20K-150.yaml",
        "MODEL": {
            "META_ARCHITECTURE": "SemanticSegmentor",
            "SEM_SEG_HEAD": HEAD | {"NAME": "PerPixelBaselinePlusHead"},
            "MASK_FORMER": TRANSFORMER | {"NUM_OBJECT_QUERIES": 150},
        },
    },
    "ade20k-150/swin/maskformer_swin_base_IN21k_384_bs16_160k_res640.yaml": {
        "_BASE_": "../maskformer_R50_bs16_160k.yaml",
        "MODEL": {
            "BACKBONE": {"NAME": "D2SwinTransformer"},
            "SWIN": {
                "EMBED_DIM": 128,
                "DEPTHS": [2, 2, 18, 2],
                "NUM_HEADS": [4, 8, 16, 32],
                "WINDOW_SIZE": 12,
                "APE": False,
                "DROP_PATH_RATE": 0.3,
                "PATCH_NORM": True,
                "PRETRAIN_IMG_SIZE": 384,
            },
            "WEIGHTS": "swin_base_patch4_window12_384_22k.pkl",
        },
        "SOLVER": {
            "BASE_LR": 0.00006,
            "WARMUP_FACTOR": 1e-6,
            "WARMUP_ITERS": 1500,
            "WEIGHT_DECAY": 0.01,
            "WEIGHT_DECAY_NORM": 0.0,
            "WEIGHT_DECAY_EMBED": 0.0,
            "BACKBONE_MULTIPLIER": 1.0,
        },
    },
    "coco-panoptic/maskformer_panoptic_R50_bs64_554k.yaml": {
        "MODEL": RESNET
        | {
            "META_ARCHITECTURE": "MaskFormer",
            "SEM_SEG_HEAD": HEAD
            | {
                "NUM_CLASSES": 133,
                "PIXEL_DECODER_NAME": "TransformerEncoderPixelDecoder",
                "TRANSFORMER_ENC_LAYERS": 6,
            },
            "MASK_FORMER": TRANSFORMER
            | {
                "TRANSFORMER_IN_FEATURE": "transformer_encoder",
                "SIZE_DIVISIBILITY": 0,
                "TEST": {
                    "PANOPTIC_ON": True,
                    "OVERLAP_THRESHOLD": 0.8,
                    "OBJECT_MASK_THRESHOLD": 0.8,
                },
            },
        },
        "DATASETS": {
            "TRAIN": ["coco_2017_train_panoptic"],
            "TEST": ["coco_2017_val_panoptic"],
        },
        "SOLVER": {
            "IMS_PER_BATCH": 64,
            "STEPS": [369600],
            "MAX_ITER": 554400,
            "WARMUP_ITERS": 10,
        },
        "INPUT": {
            "MIN_SIZE_TRAIN": [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800],
            "CROP": {"ENABLED": True, "TYPE": "absolute_range", "SIZE": [384, 600]},
            "DATASET_MAPPER_NAME": "detr_panoptic",
        },
    },
    "coco-panoptic/swin/maskformer_panoptic_swin_tiny_bs64_554k.yaml": {
        "_BASE_": "../maskformer_panoptic_R50_bs64_554k.yaml",
        "MODEL": {
            "BACKBONE": {"NAME": "D2SwinTransformer"},
            "SEM_SEG_HEAD": {"PIXEL_DECODER_NAME": "BasePixelDecoder"},
            "MASK_FORMER": {"TRANSFORMER_IN_FEATURE": "res5", "ENFORCE_INPUT_PROJ": True},
        },
    },
}


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{key}.")
        elif key != "_BASE_":
            result[prefix + key] = value
    return result


def write_official(folder: Path) -> None:
    for name, content in OFFICIAL.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))


def test_defaults_are_the_official_ones() -> None:
    cfg = get_cfg()
    assert {key: get_key(cfg, key) for key in DEFAULTS} == DEFAULTS


def test_detectron2s_defaults_stay() -> None:
    theirs, ours = get_detectron2_cfg(), get_detectron2_cfg()
    add_mask_former_config(ours)
    expected = flat(theirs)
    actual = flat(ours)
    assert {key: actual[key] for key in expected} == expected


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_files_load_unchanged(tmp_path: Path, name: str) -> None:
    write_official(tmp_path)
    cfg = setup_cfg(str(tmp_path / name))
    for key, value in flat(OFFICIAL[name]).items():
        actual = get_key(cfg, key)
        assert (list(actual) if isinstance(actual, tuple) else actual) == value, key


MISTAKES = {
    (
        "MODEL.MASK_FORMER.TEST.SEMANTIC_INFERENCE_METHOD",
        "best",
    ): "allowed: 'probabilistic', 'hard'",
    ("MODEL.MASK_FORMER.MATCHING", "none"): "allowed: 'bipartite', 'fixed'",
    ("MODEL.MASK_FORMER.LOSS_TYPE", "pixels"): "'mask_classification', 'per_pixel_likelihood'",
    ("MODEL.MASK_FORMER.HIDDEN_DIM", 18): "multiple of MODEL.MASK_FORMER.NHEADS",
    ("MODEL.MASK_FORMER.DEC_LAYERS", 0): "at least 1",
    ("MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 0): "at least 1",
    ("MODEL.SEM_SEG_HEAD.NAME", "SemSegFPNHead"): "allowed: 'MaskFormerHead'",
    ("INPUT.DATASET_MAPPER_NAME", "mine"): "mask_former_semantic",
}


@pytest.mark.parametrize(("mistake", "said"), MISTAKES.items())
def test_mistakes_are_named(mistake: tuple[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=mistake[0]) as error:
        check_config(tiny_cfg("MaskFormer", opts=list(mistake)))
    assert said in str(error.value)


def test_a_model_that_predicts_nothing_is_refused() -> None:
    test = "MODEL.MASK_FORMER.TEST"
    off = [
        word
        for task in ("SEMANTIC", "PANOPTIC", "INSTANCE")
        for word in (f"{test}.{task}_ON", False)
    ]
    with pytest.raises(ConfigError, match="all False"):
        check_config(tiny_cfg("MaskFormer", opts=off))


def test_fixed_matching_needs_a_query_per_class() -> None:
    opts = ["MODEL.MASK_FORMER.MATCHING", "fixed", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 2]
    with pytest.raises(ConfigError, match="each of the 3 classes"):
        tiny_model("MaskFormer", opts=opts)
