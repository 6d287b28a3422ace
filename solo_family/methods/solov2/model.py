"""Build SOLOv2 (Wang et al., NeurIPS 2020, arXiv 2003.10152).

Sections are those of the NeurIPS version.

B images, C cells of all levels, E kernel weights, P pairs of a positive cell and an object.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode, configurable
from torch import Tensor, nn

from ...config.rules import check_channels
from ...data.formats.classes import num_classes
from ...modeling.dice import dice_loss
from ...modeling.layers import ConvNormReLU
from ...modeling.shapes import check_doubling
from ...ops import PackedMasks, decode_masks, dynamic_conv
from ...ops.decode_masks import dynamic_conv_in_float32
from ...ops.take import take_rows
from ..grid.criterion import GridCriterion
from ..grid.layout import GridLayout
from ..grid.level_masks import (
    LevelMaskDecoder,
    losses_by_level,
    output_stride,
    shrink_by_stride,
)
from ..grid.mask_decoder import GridOutputs, MaskDecoder
from ..grid.mask_losses import in_parts
from ..grid.model import GridSegmentor
from ..grid.targets import ImagePairs
from .head import SOLOv2Head
from .mask_feature_branch import MaskFeatureBranch
from .separate_masks import SeparateMaskBranch, SeparateMasks, SeparateOutputs
from .unfold import unfold


@dataclass(frozen=True)
class SOLOv2Outputs(GridOutputs):
    """Hold the predictions of the head and the mask branch; see `GridOutputs`.

    Attributes:
        kernels: [B, C, E], the mask kernels of the cells of all levels.
        mask_features: [B, E, H / 4, W / 4], which the kernels are convolved with; of a larger
            kernel, `unfold` has made its convolution one of 1x1.
    """

    kernels: Tensor
    mask_features: Tensor


class DynamicMaskDecoder(MaskDecoder[SOLOv2Outputs]):
    """Decode the mask of a cell: convolve the mask features with its kernel (Eq. 1, 2.1.3)."""

    packs_directly = True

    def soft(
        self,
        outputs: SOLOv2Outputs,
        size: tuple[int, int],
        cells: Tensor,
        counts: Sequence[int] | None = None,
    ) -> Tensor:
        """Return the masks as probabilities, float32 [..., n, h, w]; see `MaskDecoder`."""
        logits = dynamic_conv_in_float32(take_rows(outputs.kernels, cells), outputs.mask_features)
        # In place, because the logits are not needed again.
        return logits.sigmoid_()

    def packed(
        self,
        outputs: SOLOv2Outputs,
        size: tuple[int, int],
        cells: Tensor,
        threshold: float,
        counts: Tensor | None = None,
    ) -> PackedMasks:
        """Return the masks with one bit per pixel; see `MaskDecoder`."""
        wanted = None if counts is None else counts[-1]
        kernels, features = outputs.kernels, outputs.mask_features
        return decode_masks(kernels, features, threshold, rows=cells, valid=wanted)


class SOLOv2(GridSegmentor):
    """Segment objects by location: each grid cell predicts a category and a mask kernel.

    Args:
        head: predicts categories and kernels.
        mask_branch: computes the mask features, which the kernels are convolved with: one map for
            all levels as published, or one for each (`SeparateMaskBranch`).
        mask_features: names of the mask branch's levels, the finest first.
        kernel_size: the side of the dynamic convolutions.
        grid: the arguments of `GridSegmentor`.
    """

    @configurable
    def __init__(
        self,
        *,
        head: SOLOv2Head,
        mask_branch: MaskFeatureBranch | SeparateMaskBranch,
        mask_features: list[str],
        kernel_size: int = 1,
        **grid: Any,
    ) -> None:
        separate = None
        decoder: MaskDecoder[Any] = DynamicMaskDecoder()
        if isinstance(mask_branch, SeparateMaskBranch):
            separate = SeparateMasks(list(grid["layout"].sides))
            decoder = LevelMaskDecoder(separate)
        super().__init__(decoder=decoder, **grid)
        self.separate = separate
        self.head = head
        self.mask_branch = mask_branch
        self.mask_features = mask_features
        self.kernel_size = kernel_size

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the arguments of the constructor from `cfg`, see `MODEL.SOLOV2`."""
        solov2 = cfg.MODEL.SOLOV2
        classes = num_classes(cfg, "MODEL.SOLOV2.NUM_CLASSES")
        separate = solov2.MASK_FEATURES == "separate"
        grid = cls.grid_config(cfg, "MODEL.SOLOV2", classes, masked_levels=separate)
        shapes = grid["backbone"].output_shape()
        most = grid["size_divisibility"]
        check_doubling("MODEL.SOLOV2.MASK_IN_FEATURES", solov2.MASK_IN_FEATURES, shapes, most)
        finest = shapes[solov2.MASK_IN_FEATURES[0]]
        check_channels(
            "MODEL.SOLOV2.MASK_IN_CHANNELS", solov2.MASK_IN_CHANNELS, 256, finest.channels
        )
        layout: GridLayout = grid["layout"]
        in_channels = shapes[solov2.INSTANCE_IN_FEATURES[0]].channels
        mask_stride = finest.stride
        mask_branch: nn.Module = _unified_branch(solov2, finest.channels, finest.stride, layout)
        if separate:
            mask_branch = _separate_branch(solov2, in_channels)
            mask_stride = output_stride(solov2.FPN_INSTANCE_STRIDES[0])
        return {
            **grid,
            "mask_stride": mask_stride,
            "head": SOLOv2Head(
                in_channels=in_channels,
                layout=layout,
                strides=solov2.FPN_INSTANCE_STRIDES,
                channels=solov2.INSTANCE_CHANNELS,
                num_convs=solov2.NUM_INSTANCE_CONVS,
                num_classes=classes,
                num_kernels=solov2.NUM_KERNELS,
                norm=solov2.NORM,
                coord_conv=solov2.USE_COORD_CONV,
                prior_prob=solov2.PRIOR_PROB,
                dcn=solov2.TYPE_DCN if solov2.USE_DCN_IN_INSTANCE else "",
                dcn_convs=solov2.DCN_CONVS,
            ),
            "mask_branch": mask_branch,
            "mask_features": solov2.MASK_IN_FEATURES,
            "kernel_size": solov2.KERNEL_SIZE,
            "criterion": GridCriterion.from_config(
                solov2,
                num_classes=classes,
                mask_weight=solov2.LOSS.DICE_WEIGHT,
                globally=cfg.SOLVER.NORMALIZE_LOSS_GLOBALLY,
            ),
        }

    @property
    def network_parts(self) -> list[nn.Module]:
        """The head and the mask branch; see `MethodInterface.network_parts`."""
        return [self.head, self.mask_branch]

    @property
    def recomputed_parts(self) -> list[nn.Module]:
        """The towers, and the layers of the mask branch, which calls them one by one."""
        if isinstance(self.mask_branch, SeparateMaskBranch):
            return super().recomputed_parts
        layers = [part for part in self.mask_branch.modules() if isinstance(part, ConvNormReLU)]
        return [self.head.category_branch.tower, self.head.kernel_tower, *layers]

    def predict_cells(
        self, levels: list[Tensor], features: dict[str, Tensor]
    ) -> SOLOv2Outputs | SeparateOutputs:
        """Return categories, kernels and mask features; see `GridSegmentor.predict_cells`."""
        category_logits, kernels = self.head(levels)
        if isinstance(self.mask_branch, SeparateMaskBranch):
            mask_features = self.mask_branch(levels, self.kernel_size)
            return SeparateOutputs(category_logits, kernels, mask_features)
        unified = self.mask_branch([features[name] for name in self.mask_features])
        return SOLOv2Outputs(category_logits, kernels, unfold(unified, self.kernel_size))

    def shrink_masks(self, gt_masks: list[Tensor], padded_size: tuple[int, int]) -> Any:
        """Return the true masks at the mask features' stride, or at that of each level's."""
        if self.separate is None:
            return super().shrink_masks(gt_masks, padded_size)
        return shrink_by_stride(gt_masks, padded_size, self.level_strides)

    def mask_losses(self, outputs: Any, pairs: ImagePairs, small_masks: Any) -> Tensor:
        """Return the Dice loss of every pair of one image; see `GridSegmentor.mask_losses`."""
        if self.separate is None:
            return _unified_losses(outputs, pairs, small_masks)
        return _separate_losses(self.separate, outputs, pairs, small_masks, self.level_strides)


def _unified_losses(outputs: SOLOv2Outputs, pairs: ImagePairs, small_masks: Tensor) -> Tensor:
    def losses(kernels: Tensor, objects: Tensor) -> Tensor:
        return dice_loss(dynamic_conv(kernels, outputs.mask_features), small_masks[objects])

    return in_parts(losses, outputs.kernels.index_select(0, pairs.cells), pairs.objects)


def _separate_losses(
    separate: SeparateMasks,
    outputs: SeparateOutputs,
    pairs: ImagePairs,
    small_masks: dict[int, Tensor],
    level_strides: list[int],
) -> Tensor:
    def losses(level: int, gt_masks: Tensor, cells: Tensor, objects: Tensor) -> Tensor:
        return dice_loss(separate.mask_logits(level, outputs, cells), gt_masks[objects])

    true_masks = [small_masks[stride] for stride in level_strides]
    return losses_by_level(losses, pairs, separate.num_grids, true_masks)


def _unified_branch(
    solov2: CfgNode, in_channels: int, stride: int, layout: GridLayout
) -> MaskFeatureBranch:
    levels = len(solov2.MASK_IN_FEATURES)
    coord_level = {"fourth": 3, "last": levels - 1}.get(solov2.MASK_COORD_LEVEL)
    return MaskFeatureBranch(
        in_channels=in_channels,
        num_levels=levels,
        channels=solov2.MASK_CHANNELS,
        out_channels=solov2.NUM_MASKS,
        norm=solov2.NORM,
        coord_level=coord_level,
        dcn=solov2.TYPE_DCN if solov2.USE_DCN_IN_MASK else "",
        coord_span=layout.span(stride * 2 ** (coord_level or 0)),
    )


def _separate_branch(solov2: CfgNode, in_channels: int) -> SeparateMaskBranch:
    return SeparateMaskBranch(
        in_channels=in_channels,
        out_channels=solov2.NUM_MASKS,
        norm=solov2.NORM,
        coords=solov2.MASK_COORD_LEVEL != "none",
        dcn=solov2.TYPE_DCN if solov2.USE_DCN_IN_MASK else "",
    )
