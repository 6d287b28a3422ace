"""Use timm's models as detectron2 backbones, plain or with a feature pyramid."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn

from ..errors import ConfigError
from .shapes import check_doubling
from .stem import colour_places
from .timm_models.names import check_name
from .timm_models.network import build_features, build_last_map, channels_first, named_by_timm
from .timm_models.probe import fit_model
from .timm_models.pyramid import SimpleFeaturePyramid, make_level
from .timm_models.strides import at_stride, promised_stride
from .timm_models.weights import load_file, load_state

# The features that models without a map of that stride get from their nearest.
_MADE = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


class TimmBackbone(Backbone):
    """A timm model; its features are named by stride, as in detectron2's ResNet: res2 has stride 4.

    The features, and the config node that errors refer to, have other names if the model replaces a
    backbone of a published code base. res2 to res5 that the model lacks are made of its nearest
    map, as in a simple feature pyramid; a plain transformer, with maps of a single stride, has its
    last one only. A map of a stride that is no power of two is sampled at the nearest that is.

    Args:
        name: timm's name of the model, with or without the tag of its weights.
        in_channels: channels of the input.
        out_features: names of the features, res1 (stride 2) to res5 (stride 32).
        strides: other names of the features, and the strides that they stand for.
        key: the config's node for this backbone.
        options: further arguments of the timm model.
        freeze: modules of the model that are not trained.
        weights: a checkpoint with timm's key names, "pretrained" for timm's own download, or "".
            That of another number of channels than the input is adapted; see `adapt_stem`.
        colours: the places of the checkpoint's three colours among the channels.
        output_stride: the coarsest stride; 8 or 16 dilate the layers that would be coarser.

    Attributes:
        is_plain: the model is a plain transformer.

    Raises:
        ConfigError: timm has no such model or weights, the model has no such feature or part or
            takes images of one size only, or the checkpoint is missing or another model's.
        DataError: the checkpoint can't be read.
    """

    def __init__(
        self,
        *,
        name: str,
        in_channels: int,
        out_features: list[str],
        weights: str,
        freeze: Sequence[str] = (),
        output_stride: int = 32,
        strides: Mapping[str, int] | None = None,
        key: str = "MODEL.TIMM",
        colours: Sequence[int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_name(name, key, weights == "pretrained")
        options = {"in_chans": in_channels, **options}
        if output_stride != 32:  # not every model accepts the option
            options["output_stride"] = output_stride
        self.fit = fit_model(name, key, options)
        self.is_plain = self.fit.is_plain
        self._choose(name, key, out_features, strides, may_make=output_stride == 32)
        self.model = self._build(name, weights == "pretrained" and in_channels == 3)
        self._make_missing()
        self._freeze(freeze)
        if weights == "pretrained" and in_channels != 3:
            published = self._build(name, pretrained=True, in_chans=3)
            state = named_by_timm(published).state_dict()
            load_state(self.model, weights, state, {}, in_channels, colours)
        if weights not in ("", "pretrained"):
            load_file(self.model, weights, name=name, options=self.fit.options, colours=colours)

    def _choose(
        self,
        name: str,
        key: str,
        out_features: Sequence[str],
        strides: Mapping[str, int] | None,
        may_make: bool,
    ) -> None:
        """Choose which of the model's maps each feature is, or is made of."""
        promised = [promised_stride(stride) for stride in self.fit.strides]
        names = strides or {f"res{stride.bit_length() - 1}": stride for stride in promised}
        # Of several features of one stride, the deepest.
        index_of = dict(zip(promised, self.fit.indices))
        available = {feature: stride for feature, stride in names.items() if stride in index_of}
        if strides is None and may_make:
            available |= _MADE
        unknown = [feature for feature in out_features if feature not in available]
        if unknown or not out_features:
            raise ConfigError(
                f"{key}.OUT_FEATURES has {', '.join(unknown) or 'no names'}; {name} provides "
                f"{', '.join(sorted(available, key=available.__getitem__))}."
            )
        self._out_features = sorted(out_features, key=available.__getitem__)
        self._out_feature_strides = {name: available[name] for name in self._out_features}
        sources = {
            feature: min(index_of, key=lambda own: (max(own / stride, stride / own), own))
            for feature, stride in self._out_feature_strides.items()
        }
        self._indices = sorted({index_of[stride] for stride in sources.values()})
        self._source_of = {
            feature: self._indices.index(index_of[stride]) for feature, stride in sources.items()
        }

    def _build(self, name: str, pretrained: bool, **options: Any) -> nn.Module:
        options = {**self.fit.options, **options}
        if self.is_plain:
            return build_last_map(name, options, norm=self.fit.has_norm, pretrained=pretrained)
        return build_features(name, options, self._indices, pretrained=pretrained)

    def _make_missing(self) -> None:
        """Add layers for the features that the model has no map for."""
        info: Any = self.model.feature_info
        self._strides = list(info.reduction())
        sources = list(zip(info.channels(), map(promised_stride, self._strides)))
        self.made = nn.ModuleDict()
        self._out_feature_channels = {}
        for name, stride in self._out_feature_strides.items():
            channels, own = sources[self._source_of[name]]
            if own != stride:
                self.made[name], channels = make_level(channels, own, stride)
            self._out_feature_channels[name] = channels

    def _freeze(self, prefixes: Sequence[str]) -> None:
        part = named_by_timm(self.model)
        names = [name for name, _ in part.named_parameters()]
        for prefix in prefixes:
            frozen = [name for name in names if name.startswith(f"{prefix}.")]
            if not frozen:
                parts = dict.fromkeys(name.split(".")[0] for name in names)
                raise ConfigError(
                    f"MODEL.TIMM.FREEZE has {prefix!r}, which begins no parameter's name. "
                    f"The model's parts are {', '.join(parts)}."
                )
            for name in frozen:
                part.get_parameter(name).requires_grad_(False)

    @property
    def size_divisibility(self) -> int:
        """The number that the sides of an input must be multiples of; 0 for none, as detectron2's.

        The model itself takes any; features that are made of others, or sampled, need it to fit the
        others.
        """
        coarsest = max(self._out_feature_strides.values())
        needed = self.made or not self.fit.is_exact or coarsest > _MADE["res5"]
        return coarsest if needed else 0

    # detectron2 declares it without its argument.
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the features by name, for images [B, C, H, W].

        A model that needs whole windows or patches gets the image padded with 0, and its features
        are those of the image without the padding.
        """
        height, width = x.shape[-2:]
        multiple = self.fit.multiple
        if multiple > 1:
            x = F.pad(x, (0, -width % multiple, 0, -height % multiple))
        maps = channels_first(self.model, self.model(x))
        if not self.fit.is_exact:
            maps = [
                at_stride(feature, stride, (height, width))
                for feature, stride in zip(maps, self._strides)
            ]
        return {
            name: self.made[name](maps[source]) if name in self.made else maps[source]
            for name, source in self._source_of.items()
        }


def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build `MODEL.TIMM.NAME`, with `MODEL.TIMM.WEIGHTS` unless `MODEL.WEIGHTS` will be loaded."""
    return TimmBackbone(
        name=cfg.MODEL.TIMM.NAME,
        in_channels=input_shape.channels or 3,
        out_features=cfg.MODEL.TIMM.OUT_FEATURES,
        freeze=cfg.MODEL.TIMM.FREEZE,
        output_stride=cfg.MODEL.TIMM.OUTPUT_STRIDE,
        weights="" if cfg.MODEL.WEIGHTS else cfg.MODEL.TIMM.WEIGHTS,
        colours=colour_places(cfg),
    )


def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build a feature pyramid, with P6 by max pooling, on a timm model.

    It is detectron2's FPN, or the simple feature pyramid on a plain transformer.
    """
    bottom_up = build_timm_backbone(cfg, input_shape)
    if bottom_up.is_plain:
        return SimpleFeaturePyramid(
            bottom_up=bottom_up,
            in_features=cfg.MODEL.FPN.IN_FEATURES,
            out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
            norm=cfg.MODEL.FPN.NORM or "LN",
        )
    check_doubling("MODEL.FPN.IN_FEATURES", cfg.MODEL.FPN.IN_FEATURES, bottom_up.output_shape())
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
