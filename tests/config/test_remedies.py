"""What a message about the configuration tells to set is set, literally, and the second try passes.

The settings are taken out of the message itself, so that advice which can't be followed fails.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode

from solo_family.config import check_config, setup_cfg
from solo_family.config.load import merge_pairs
from solo_family.data.formats.classes import check_classes, num_classes
from solo_family.data.loading.loader import build_train_loader
from solo_family.engine.optimizer import build_optimizer
from solo_family.engine.tested import augmented
from solo_family.engine.trainer import Trainer
from solo_family.errors import ConfigError, DataError

from ..coco_folder import CocoFolder, noise, rectangle, small_dataset
from ..conftest import tiny_cfg, tiny_model
from ..data.segments import write_semantic

KEY = r"[A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)+"
VALUE = r"\([^)]*\)|\[(?:[^\[\]]|\[[^\]]*\])*\]|'[^']*'|\"[^\"]*\"|\w+(?:\.\w+)*"
SETTING = re.compile(rf"({KEY})(?: at)? ({VALUE})")
ALLOWED = re.compile(rf"^({KEY}) is .*; allowed: (.*)\.$")


def settings(message: str) -> Iterator[tuple[str, str]]:
    """Yields the keys and values that a message offers."""
    allowed = ALLOWED.match(message)
    if allowed:
        for value in allowed[2].split(", "):
            if not value.startswith("and "):
                yield allowed[1], value
        return
    own = re.match(KEY, message)
    for sentence in re.split(r"(?<=[.:]) (?=[A-Z]|set)", message):
        if not re.search(r"\b([Ss]et|[Ll]eave|evaluate with) ", sentence):
            continue
        if own and re.match(r"(Set|Leave) it (to|at) ", sentence):
            value = re.match(rf"\w+ it \w+ ({VALUE}|None)", sentence)
            assert value
            yield own[0], value[1]
        yield from SETTING.findall(sentence)


def refused(cfg: CfgNode, check: Any) -> str:
    with pytest.raises((ConfigError, DataError)) as raised:
        check(cfg)
    return str(raised.value)


def follow(cfg: CfgNode, check: Any) -> list[str]:
    """Follows each offer of a refusal by itself; returns the keys that were offered."""
    offers = list(settings(refused(cfg, check)))
    for key, value in offers:
        second = cfg.clone()
        merge_pairs(second, [key, value.strip('"')])
        check(second)
    return [key for key, _ in offers]


SOLOV2, SPARSE, MASK_FORMER = "MODEL.SOLOV2", "MODEL.SPARSE_INST", "MODEL.MASK_FORMER"
CROP = ["INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE"]
SEMANTIC = [f"{MASK_FORMER}.TEST.PANOPTIC_ON", False, f"{MASK_FORMER}.TEST.INSTANCE_ON", False]
SAMPLER = "DATALOADER.SAMPLER_TRAIN"
CASES: list[tuple[str, list[Any]]] = [
    *(
        ("SOLOv2", [key, "Mine"])
        for key in (
            *("SOLVER.OPTIMIZER", "SOLVER.AMP.PRECISION", "SOLVER.LR_SCHEDULER_NAME"),
            *("SOLVER.WARMUP_METHOD", "MODEL.INFERENCE.PRECISION", SAMPLER),
            *(f"{SOLOV2}.NMS_TYPE", f"{SOLOV2}.NMS_KERNEL", f"{SOLOV2}.MASK_COORD_LEVEL"),
            *(f"{SOLOV2}.TYPE_DCN", f"{SOLOV2}.LOSS.DICE_NORMALIZER"),
        )
    ),
    *(
        ("SparseInst", [f"{SPARSE}.{key}", "Mine"])
        for key in ("ENCODER.NAME", "DECODER.NAME", "MATCHER.NAME", "NMS_TYPE", "LOSS.NAME")
    ),
    ("MaskFormer", ["INPUT.DATASET_MAPPER_NAME", "Mine"]),
    ("MaskFormer", [f"{MASK_FORMER}.MATCHING", "Mine", *SEMANTIC]),
    ("MaskFormer", [f"{MASK_FORMER}.MATCHING", "fixed"]),
    ("SOLO", ["MODEL.SOLO.LOSS.MASK_LOSS", "Mine"]),
    ("InstanceFCN", ["MODEL.INSTANCE_FCN.SCORE", "Mine"]),
    ("SOLOv2", ["MODEL.LOAD_PROPOSALS", True]),
    ("SOLOv2", ["MODEL.RPN.NMS_THRESH", 0.5]),
    ("SOLOv2", ["MODEL.ANCHOR_GENERATOR.SIZES", [[8]]]),
    ("SOLOv2", [*CROP, [64, 64]]),
    ("SOLOv2", [*CROP, [0.5, 0.5], "INPUT.CROP.TYPE", "absolute"]),
    ("SOLOv2", [SAMPLER, "RepeatFactorTrainingSampler"]),
    ("SOLOv2", ["DATALOADER.REPEAT_THRESHOLD", 0.1]),
    ("SOLOv2", ["DATALOADER.RANDOM_SUBSET_RATIO", 0.5]),
    ("SOLOv2", ["SOLVER.AMSGRAD", True]),
    ("SparseInst", ["SOLVER.NESTEROV", True]),
    ("SparseInst", ["SOLVER.MOMENTUM", 0.8]),
    ("SOLOv2", ["SOLVER.NESTEROV", True, "SOLVER.MOMENTUM", 0.0]),
    ("SOLOv2", ["TEST.DETECTIONS_PER_IMAGE", -1]),
    ("SOLOv2", [f"{SOLOV2}.NMS_PRE", 0]),
    ("MaskFormer", ["TEST.DETECTIONS_PER_IMAGE", 0]),
]


@pytest.mark.parametrize(("method", "opts"), CASES, ids=lambda value: str(value)[:60])
def test_offers_of_the_key_check(method: str, opts: list[Any]) -> None:
    assert follow(tiny_cfg(method, opts=opts), check_config)


def test_backbones_features_and_clipping() -> None:
    model = tiny_model()
    clip = ["SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "Mine"]
    assert follow(tiny_cfg(opts=clip), lambda cfg: build_optimizer(cfg, model))
    channels = ["MODEL.SOLOV2.INSTANCE_IN_CHANNELS", 5]
    said = refused(tiny_cfg(opts=channels), Trainer.build_model)
    assert list(settings(said)) == [(channels[0], "16")]
    follow(tiny_cfg(opts=channels), Trainer.build_model)
    unpadded = tiny_cfg("MaskFormer", opts=[f"{MASK_FORMER}.SIZE_DIVISIBILITY", 0])
    assert follow(unpadded, Trainer.build_model) == [f"{MASK_FORMER}.SIZE_DIVISIBILITY"]


def test_counts_of_classes(tmp_path: Path) -> None:
    name = small_dataset(tmp_path / "data").name
    key = "MODEL.SOLOV2.NUM_CLASSES"
    cfg = tiny_cfg(num_classes=7, opts=["DATASETS.TRAIN", (name,)])
    said = refused(cfg, lambda cfg: num_classes(cfg, key))
    assert f"Set {key} 2, or 0 to take the count" in said
    for value in (2, 0):
        cfg.merge_from_list([key, value])
        assert num_classes(cfg, key) == 2


def test_names_of_classes_and_their_union(tmp_path: Path) -> None:
    names = []
    for place, label in enumerate(("cat", "dog")):
        folder = CocoFolder(tmp_path / str(place), {1: label})
        folder.add("0.png", noise(48, 64), [rectangle(5, 5, 20, 20)])
        names.append(folder.write())

    def check(cfg: CfgNode) -> None:
        check_classes(cfg, cfg.DATASETS.TRAIN, 1)

    cfg = tiny_cfg(num_classes=1, opts=["DATASETS.TRAIN", tuple(names)])
    assert follow(cfg, check) == ["DATASETS.CLASS_UNION"]
    other = tiny_cfg(num_classes=1, opts=["DATASETS.TEST", (names[1],)])
    other.MODEL.CLASS_NAMES = ["cat"]
    assert follow(other, check) == ["MODEL.CLASS_NAMES"]


def test_mappers_samplers_and_batches(tmp_path: Path) -> None:
    coco, semantic = small_dataset(tmp_path / "a").name, write_semantic(tmp_path / "b")
    opts = ["SOLVER.IMS_PER_BATCH", 2, "DATALOADER.NUM_WORKERS", 0]
    mapper = ["INPUT.DATASET_MAPPER_NAME", "mask_former_panoptic"]
    cfg = tiny_cfg("MaskFormer", 0, [*opts, *mapper, "DATASETS.TRAIN", (coco,)])
    assert "Set the key to ''," in refused(cfg, build_train_loader)
    cfg.merge_from_list([mapper[0], ""])
    build_train_loader(cfg)
    rare = [SAMPLER, "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD", 0.1]
    cfg = tiny_cfg("MaskFormer", 0, [*opts, *rare, "DATASETS.TRAIN", (semantic,)])
    merge_pairs(cfg, [w for pair in settings(refused(cfg, build_train_loader)) for w in pair])
    build_train_loader(cfg)


def test_augmentation_at_test_time() -> None:
    cfg = tiny_cfg(opts=["TEST.AUG.ENABLED", True])
    said = refused(cfg, lambda cfg: augmented(cfg, tiny_model()))
    assert list(settings(said)) == [("TEST.AUG.ENABLED", "False")]


@pytest.mark.parametrize("opts", [[], ["MODEL.OWN.KEY", "1"]])
def test_a_method_that_is_not_registered_is_named_before_its_keys(
    tmp_path: Path, opts: list[str]
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("MODEL:\n  META_ARCHITECTURE: Own\n  OWN:\n    KEY: 1\n")
    with pytest.raises(ConfigError, match=r"ARCHITECTURE is 'Own'; allowed: .*SOLO_FAMILY_IMPORT"):
        setup_cfg(str(path), opts)
    path.write_text("MODEL:\n  BACKBONE:\n    NAME: build_own\n")
    with pytest.raises(ConfigError, match=r"NAME is 'build_own'; allowed: .*SOLO_FAMILY_IMPORT"):
        setup_cfg(str(path))
    path.write_text("MODEL:\n  OWN:\n    KEY: 1\n")
    with pytest.raises(ConfigError, match=r"There is no key MODEL.OWN.KEY"):
        setup_cfg(str(path))


def test_all_keys_that_do_not_exist_are_counted_at_once(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text("INPUT:\n  IS_ROTATE: False\nMODEL:\n  META_ARCHITECTURE: SOLOv2\n")
    path = tmp_path / "dumped.yaml"
    other = "".join(f"    KEY_{number}: 1\n" for number in range(9))
    path.write_text(f"_BASE_: base.yaml\nMODEL:\n  MOBILENET: False\n  FCOS:\n{other}")
    with pytest.raises(ConfigError) as caught:
        setup_cfg(str(path))
    said = str(caught.value)
    assert "no key MODEL.MOBILENET" in said
    assert "10 more that do not exist" in said
    assert "MODEL.FCOS.KEY_4, ..." in said
    assert "KEY_5" not in said
    assert "--source-config" in said
    with pytest.raises(ConfigError, match=r"Correct the key, or remove it\.$"):
        setup_cfg(str(base))
