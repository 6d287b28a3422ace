"""Models of published configurations with random weights, and noise to run them on."""

from __future__ import annotations

import torch
from detectron2.modeling import build_model
from torch import Tensor

from solo_family.config import setup_cfg
from solo_family.model_zoo import get_config_file
from solo_family.modeling.base import MaskSegmentor
from tests.conftest import tiny_model

from . import settings

CONFIGS = {
    "SOLOv2": "SOLOv2/solov2_R50_3x.yaml",
    "SparseInst": "SparseInst/sparse_inst_r50_giam.yaml",
    "MaskFormer": "MaskFormer/coco-panoptic/maskformer_panoptic_R50_bs64_554k.yaml",
    "SOLO": "SOLO/solo_R50_3x.yaml",
    "DecoupledSOLO": "DecoupledSOLO/decoupled_solo_R50_3x.yaml",
    "InstanceFCN": "InstanceFCN/instance_fcn_R50_COCO_k5.yaml",
}


def model(method: str) -> MaskSegmentor:
    """Return it in evaluation mode on the device; a tiny one to try the script."""
    if settings.is_tiny():
        return tiny_model(method).to(settings.device()).eval()
    opts = ["MODEL.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", "", "MODEL.DEVICE", settings.device()]
    return build_model(setup_cfg(get_config_file(CONFIGS[method]), opts)).eval()


def image(size: tuple[int, int]) -> Tensor:
    """Return noise, uint8 [3, *size] on the host; a tenth as large to try the script."""
    sides = [side // 10 for side in size] if settings.is_tiny() else size
    generator = torch.Generator().manual_seed(settings.seed())
    return torch.randint(0, 256, (3, *sides), dtype=torch.uint8, generator=generator)
