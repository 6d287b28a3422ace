"""Use any timm model with `features_only` as a detectron2 backbone, plain or with an FPN."""

import difflib
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import timm
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor

from ..errors import ConfigError
from ..files import expand_path
from ..weight_files import read_weights
from .stem import adapt_state, colour_places


class TimmBackbone(Backbone):
    """A timm model; its features are named by stride, as in detectron2's ResNet: res2 has stride 4.

    The features, and the config node that errors refer to, have other names if the model replaces a
    backbone of a published code base.

    Args:
        name: timm's name of the model.
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

    Raises:
        ConfigError: timm has no such model, the model has no such feature or part, or the
            checkpoint is missing or belongs to another model.
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
        if name not in timm.list_models():
            near = ", ".join(difflib.get_close_matches(name, timm.list_models(), n=8))
            raise ConfigError(
                f"{key}.NAME is {name!r}, which timm {timm.__version__} does not have. The "
                f"nearest: {near or 'nothing'}; all: timm.list_models()."
            )
        options = {"features_only": True, "in_chans": in_channels, **options}
        if output_stride != 32:  # not every model accepts the option
            options["output_stride"] = output_stride
        reduction = timm.create_model(name, **options).feature_info.reduction()
        names = strides or {f"res{stride.bit_length() - 1}": stride for stride in reduction}
        # Of several features of one stride, the deepest.
        index_of = {stride: index for index, stride in enumerate(reduction)}
        available = {
            feature: index_of[stride] for feature, stride in names.items() if stride in index_of
        }
        unknown = [feature for feature in out_features if feature not in available]
        if unknown:
            raise ConfigError(
                f"{key}.OUT_FEATURES has {', '.join(unknown)}; {name} provides "
                f"{', '.join(available)}."
            )
        self._out_features = sorted(out_features, key=available.__getitem__)
        self.model = timm.create_model(
            name,
            pretrained=weights == "pretrained" and in_channels == 3,
            out_indices=[available[feature] for feature in self._out_features],
            **options,
        )
        info = self.model.feature_info
        self._out_feature_channels = dict(zip(self._out_features, info.channels()))
        self._out_feature_strides = dict(zip(self._out_features, info.reduction()))
        self._in_channels, self._colours = in_channels, colours
        self._freeze(freeze)
        if weights == "pretrained" and in_channels != 3:
            published = timm.create_model(name, pretrained=True, **{**options, "in_chans": 3})
            self._load_state(weights, published.state_dict(), {})
        if weights not in ("", "pretrained"):
            self._load(weights, timm.create_model(name, in_chans=in_channels).state_dict())

    def _freeze(self, prefixes: Sequence[str]) -> None:
        names = [name for name, _ in self.model.named_parameters()]
        for prefix in prefixes:
            frozen = [name for name in names if name.startswith(f"{prefix}.")]
            if not frozen:
                parts = dict.fromkeys(name.split(".")[0] for name in names)
                raise ConfigError(
                    f"MODEL.TIMM.FREEZE has {prefix!r}, which begins no parameter's name. "
                    f"The model's parts are {', '.join(parts)}."
                )
            for name in frozen:
                self.model.get_parameter(name).requires_grad_(False)

    def _load(self, path: str, whole_model: dict[str, Tensor]) -> None:
        """Load a checkpoint, which may have or lack what `whole_model` has beside the features."""
        path = expand_path(path)
        if not os.path.isfile(path):
            raise ConfigError(f"MODEL.TIMM.WEIGHTS {path}: there is no such file.")
        self._load_state(path, read_weights(path), whole_model)

    def _load_state(
        self, path: str, state: dict[str, Tensor], whole_model: dict[str, Tensor]
    ) -> None:
        own = self.model.state_dict()
        # timm renames layers of some models that return features only: stages.0 becomes stages_0.
        names = {key.replace(".", "_"): key for key in own}
        state = {names.get(key.replace(".", "_"), key): value for key, value in state.items()}
        state = adapt_state(state, self.model, self._in_channels, self._colours)
        wrong = [
            key
            for key, value in state.items()
            if (value.shape != own[key].shape if key in own else key not in whole_model)
        ]
        if wrong:
            raise ConfigError(
                f"MODEL.TIMM.WEIGHTS {path} has {len(wrong)} weights that do not fit the model, "
                f"{wrong[0]} first: it belongs to a model other than MODEL.TIMM.NAME."
            )
        missing, unexpected = self.model.load_state_dict(state, strict=False)
        if missing:
            raise ConfigError(
                f"MODEL.TIMM.WEIGHTS {path} lacks {len(missing)} of the model's weights, "
                f"{missing[0]} first: it belongs to a model other than MODEL.TIMM.NAME."
            )
        logging.getLogger("solo_family").info(
            f"Backbone weights from {path}; {len(unexpected)} of the classifier were not needed."
        )

    # detectron2 declares it without its argument.
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the features by name, for images [B, C, H, W]."""
        return dict(zip(self._out_features, self.model(x)))


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


def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build detectron2's FPN, with P6 by max pooling, on a timm model."""
    return FPN(
        bottom_up=build_timm_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
