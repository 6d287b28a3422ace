"""Build SparseInst's parts from a configuration."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import nn

from ...data.formats.classes import num_classes
from ...errors import ConfigError
from ...modeling.matching_costs import sparse_inst_cost
from ...modeling.one_to_many import HybridCriterion, with_one_to_many
from ...modeling.set_criterion import SetCriterion
from ...modeling.shapes import channels_of, check_doubling
from ...modeling.unit_init import natural_noise, scale_to_unit_deviation
from .config import one_to_many
from .cross_attention import CrossAttentionBranch
from .decoder import (
    ActivationBranch,
    ActivationMaps,
    InstancePredictor,
    MaskBranch,
    SparseInstDecoder,
)
from .encoder import InstanceContextEncoder
from .losses import sparse_inst_losses

_COUNT_KEY = "MODEL.SPARSE_INST.DECODER.NUM_MASKS"


def build_encoder(sparse_inst: CfgNode, shapes: dict[str, ShapeSpec]) -> InstanceContextEncoder:
    """Build the encoder over the features of `MODEL.SPARSE_INST.ENCODER.IN_FEATURES`.

    Args:
        sparse_inst: `cfg.MODEL.SPARSE_INST`.
        shapes: the shapes of the backbone's features.

    Raises:
        ConfigError: the backbone does not provide these features, or a stride is not twice the one
            before it.
    """
    names = sparse_inst.ENCODER.IN_FEATURES
    check_doubling("MODEL.SPARSE_INST.ENCODER.IN_FEATURES", names, shapes)
    return InstanceContextEncoder(
        in_channels=[channels_of(shapes[name]) for name in names],
        channels=sparse_inst.ENCODER.NUM_CHANNELS,
        pyramid_pooling=sparse_inst.ENCODER.PYRAMID_POOLING,
        fusion=sparse_inst.ENCODER.FUSION,
    )


def scale_to_features(
    backbone: nn.Module,
    encoder: InstanceContextEncoder,
    decoder: SparseInstDecoder,
    names: Sequence[str],
    channels: int,
) -> None:
    """Scale the random weights of encoder and decoder to the backbone's features, in place.

    Args:
        backbone: with its pretrained weights.
        encoder: reads the features.
        decoder: reads the encoder's map.
        names: of the features, the finest first.
        channels: of images.
    """
    parts = nn.ModuleList([backbone, encoder, decoder])
    parts.eval()  # so that no norm counts the noise
    with torch.no_grad():
        features = backbone(natural_noise(channels))
    maps = [features[name] for name in names]
    scale_to_unit_deviation(nn.ModuleList([encoder, decoder]), lambda: decoder(encoder(maps)))
    parts.train()


def build_decoder(cfg: CfgNode) -> SparseInstDecoder:
    """Build `MODEL.SPARSE_INST.DECODER`."""
    decoder = cfg.MODEL.SPARSE_INST.DECODER
    num_auxiliary = one_to_many(cfg.MODEL.SPARSE_INST).num_auxiliary
    in_channels = cfg.MODEL.SPARSE_INST.ENCODER.NUM_CHANNELS + (2 if decoder.USE_COORDS else 0)
    options = {
        "in_channels": in_channels,
        "channels": decoder.INST.DIM,
        "num_convs": decoder.INST.CONVS,
        "predictor": partial(
            InstancePredictor,
            num_classes=num_classes(cfg, "MODEL.SPARSE_INST.DECODER.NUM_CLASSES"),
            kernel_channels=decoder.KERNEL_DIM,
            objectness=decoder.OBJECTNESS,
        ),
    }
    return SparseInstDecoder(
        instance_branch=_build_instance_branch(decoder, options, num_auxiliary),
        mask_branch=MaskBranch(
            in_channels=in_channels,
            channels=decoder.MASK.DIM,
            num_convs=decoder.MASK.CONVS,
            out_channels=decoder.KERNEL_DIM,
        ),
        scale_factor=decoder.SCALE_FACTOR,
        use_coords=decoder.USE_COORDS,
    )


def _build_instance_branch(
    decoder: CfgNode, options: dict[str, Any], num_auxiliary: int
) -> nn.Module:
    if decoder.NAME == "CrossAttentionDecoder":
        return CrossAttentionBranch(
            num_queries=decoder.NUM_MASKS,
            num_heads=decoder.GROUPS,
            num_auxiliary=num_auxiliary,
            **options,
        )
    grouped = decoder.NAME != "BaseIAMDecoder"
    soft = decoder.NAME == "GroupIAMSoftDecoder"
    maps = ActivationMaps(
        num_maps=decoder.NUM_MASKS,
        groups=decoder.GROUPS if grouped else 1,
        fuse=grouped,
        kernel_size=decoder.IAM_KERNEL_SIZE,
        activation=decoder.IAM_ACTIVATION or ("softmax" if soft else "sigmoid"),
        num_auxiliary=num_auxiliary,
    )
    return ActivationBranch(maps=maps, **options)


def mask_stride(feature_stride: int, scale_factor: float) -> int:
    """Return the stride of the predicted masks.

    Args:
        feature_stride: the stride of the encoder's finest feature.
        scale_factor: `MODEL.SPARSE_INST.DECODER.SCALE_FACTOR`.

    Raises:
        ConfigError: true masks can't be reduced to that stride.
    """
    stride = feature_stride / scale_factor if scale_factor else math.inf
    if stride not in (2, 4, 8, 16):
        raise ConfigError(
            f"MODEL.SPARSE_INST.DECODER.SCALE_FACTOR is {scale_factor}, which brings features of "
            f"stride {feature_stride} to stride {stride:g}; 2, 4, 8 and 16 are allowed."
        )
    return int(stride)


def build_criterion(sparse_inst: CfgNode) -> SetCriterion | HybridCriterion:
    """Build the matching and the losses of `cfg.MODEL.SPARSE_INST`."""
    loss, matcher = sparse_inst.LOSS, sparse_inst.MATCHER
    criterion = SetCriterion(
        cost=partial(sparse_inst_cost, alpha=matcher.ALPHA, beta=matcher.BETA),
        losses=partial(sparse_inst_losses, items=loss.ITEMS),
        weights={
            "loss_class": loss.CLASS_WEIGHT,
            "loss_mask": loss.MASK_PIXEL_WEIGHT,
            "loss_dice": loss.MASK_DICE_WEIGHT,
            "loss_objectness": loss.OBJECTNESS_WEIGHT,
        },
        count_key=_COUNT_KEY,
    )
    auxiliary = one_to_many(sparse_inst)
    return with_one_to_many(
        criterion,
        num_predictions=sparse_inst.DECODER.NUM_MASKS,
        copies=auxiliary.copies,
        weight=auxiliary.weight,
    )
