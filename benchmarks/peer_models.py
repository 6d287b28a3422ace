"""The models of other code bases, built from checkouts of theirs, and ours of the same config.

None of their code is here: a checkout's folder is given, and its packages are imported from there.
"""

from __future__ import annotations

import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .mmdet_models import build_mmdet

Size = tuple[int, int]


@dataclass(frozen=True)
class Peer:
    """A model that is there twice.

    Attributes:
        checkout: the flag that names the folder of the other code base.
        build: builds the other model from its checkout, on a device.
        config, opts: of our model, so that it is the same.
        biases: see `fixed_weights.fill`.
        test_size: short edge, and the limit of the long one.
        training: number of images, their size, and of classes, in a training step; None for no
            such step.
    """

    checkout: str
    build: Callable[[Path, str], nn.Module]
    config: str
    opts: list[Any] = field(default_factory=list)
    biases: dict[str, float] = field(default_factory=dict)
    test_size: Size = (800, 1333)
    training: tuple[int, Size, int] | None = (4, (800, 1088), 80)


def _solov2(checkout: Path, device: str) -> nn.Module:
    import detectron2.config.defaults as defaults
    from detectron2.modeling import build_model

    # Its package's own `__init__` needs operators that are compiled; the model does not.
    _package("adet", checkout / "adet")
    _package("adet.modeling", checkout / "adet" / "modeling")
    before = defaults._C.clone()
    from adet.config import get_cfg
    from adet.modeling import solov2  # noqa: F401 registers it

    cfg = get_cfg()
    defaults._C = before
    cfg.merge_from_file(str(checkout / "configs/SOLOv2/R50_3x.yaml"))
    cfg.merge_from_list(["MODEL.DEVICE", device, "MODEL.WEIGHTS", ""])
    return build_model(cfg)


def _sparse_inst(checkout: Path, device: str) -> nn.Module:
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    sys.path.insert(0, str(checkout))
    from sparseinst import add_sparse_inst_config

    cfg = get_cfg()
    add_sparse_inst_config(cfg)
    cfg.merge_from_file(str(checkout / "configs/sparse_inst_r50_giam.yaml"))
    cfg.merge_from_list(["MODEL.DEVICE", device, "MODEL.WEIGHTS", ""])
    return build_model(cfg).to(device)


def _mask_former(config: str, *opts: Any) -> Callable[[Path, str], nn.Module]:
    def build(checkout: Path, device: str) -> nn.Module:
        from detectron2.config import get_cfg
        from detectron2.data import MetadataCatalog
        from detectron2.modeling import build_model
        from detectron2.projects.deeplab import add_deeplab_config

        # Its package's own `__init__` imports data loaders whose libraries need not be there.
        _package("mask_former", checkout / "mask_former")
        from mask_former import mask_former_model, modeling  # noqa: F401 registers them
        from mask_former.config import add_mask_former_config

        cfg = get_cfg()
        add_deeplab_config(cfg)
        add_mask_former_config(cfg)
        cfg.merge_from_file(str(checkout / "configs" / config))
        cfg.merge_from_list(["MODEL.DEVICE", device, "MODEL.WEIGHTS", "", *opts])
        classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        cfg.DATASETS.TRAIN = (f"peer_{classes}_classes",)
        MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).set(
            thing_dataset_id_to_contiguous_id={index: index for index in range(80)},
            stuff_classes=[str(index) for index in range(classes)],
            ignore_label=255,
        )
        return build_model(cfg).to(device)

    return build


# With weights that nobody trained, masks overlap: thresholds that leave segments to be merged.
_PANOPTIC = [
    *("MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", 0.01),
    *("MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD", 0.05),
]
_SEMANTIC = "ade20k-150/maskformer_R50_bs16_160k.yaml"
_COCO_PANOPTIC = "coco-panoptic/maskformer_panoptic_R50_bs64_554k.yaml"

PEERS = {
    "SOLO": Peer(
        "mmdet",
        build_mmdet("solo/solo_r50_fpn_3x_coco.py"),
        "SOLO/solo_R50_3x.yaml",
        biases={"conv_cls": -3.0},
    ),
    "Decoupled SOLO": Peer(
        "mmdet",
        build_mmdet("solo/decoupled-solo_r50_fpn_3x_coco.py"),
        "DecoupledSOLO/decoupled_solo_R50_3x.yaml",
        biases={"conv_cls": -3.0},
    ),
    "SOLOv2": Peer(
        "adelaidet",
        _solov2,
        "SOLOv2/solov2_R50_3x.yaml",
        biases={"ins_head.cate_pred": -3.0},
    ),
    # Far more candidates, as in a crowd.
    "SOLOv2, crowded": Peer(
        "adelaidet",
        _solov2,
        "SOLOv2/solov2_R50_3x.yaml",
        biases={"ins_head.cate_pred": -2.5},
        training=None,
    ),
    "SparseInst": Peer(
        "sparseinst",
        _sparse_inst,
        "SparseInst/sparse_inst_r50_giam.yaml",
        biases={"cls_score": -3.0},
        test_size=(640, 853),
        training=(8, (640, 853), 80),
    ),
    "MaskFormer, semantic": Peer(
        "maskformer",
        _mask_former(_SEMANTIC),
        f"MaskFormer/{_SEMANTIC}",
        test_size=(512, 2048),
        training=(8, (512, 512), 150),
    ),
    "MaskFormer, panoptic": Peer(
        "maskformer",
        _mask_former(_COCO_PANOPTIC, *_PANOPTIC),
        f"MaskFormer/{_COCO_PANOPTIC}",
        _PANOPTIC,
        training=(4, (640, 640), 133),
    ),
}


@contextmanager
def registries_as_they_were() -> Iterator[None]:
    """Take back what is registered inside: theirs have the names of ours."""
    from detectron2.data import MetadataCatalog
    from detectron2.modeling import (
        BACKBONE_REGISTRY,
        META_ARCH_REGISTRY,
        SEM_SEG_HEADS_REGISTRY,
    )

    registries = (BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY)
    before = [dict(registry._obj_map) for registry in registries]
    names = set(MetadataCatalog)
    yield
    for registry, entries in zip(registries, before):
        registry._obj_map.clear()
        registry._obj_map.update(entries)
    for name in set(MetadataCatalog) - names:
        MetadataCatalog.pop(name)


def build_ours(peer: Peer, weights: dict[str, Tensor], device: str) -> nn.Module:
    """Build our model with the other one's weights, converted as users convert them."""
    from detectron2.modeling import build_model

    from solo_family.config import setup_cfg
    from solo_family.model_zoo import get_config_file

    converted = convert_weights(weights)
    implied = [part for key in converted.keys.items() for part in key]
    device_keys = ["MODEL.WEIGHTS", "", "MODEL.DEVICE", device]
    cfg = setup_cfg(get_config_file(peer.config), [*implied, *device_keys, *peer.opts])
    model = build_model(cfg)
    left = model.load_state_dict(converted.weights, strict=False)
    # Batch norms may count batches or not; the count has no use in either.
    absent = [key for key in left.missing_keys if not key.endswith("num_batches_tracked")]
    if left.unexpected_keys or absent:
        raise RuntimeError(f"The weights don't fit: {left.unexpected_keys + absent}.")
    return model.to(device)


def convert_weights(weights: dict[str, Tensor]) -> Any:
    """Give weights of theirs, or what has their names and shapes, our names."""
    import solo_family  # noqa: F401 registers the methods
    from solo_family.checkpoint.convert import convert

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "theirs.pth"
        torch.save({"model": weights}, file)
        return convert(file)


def _package(name: str, folder: Path) -> None:
    """A package whose modules can be imported, but whose `__init__` is not run."""
    if not folder.is_dir():
        raise SystemExit(f"{folder} is not there: give the root of a checkout.")
    if name in sys.modules:
        return
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module
