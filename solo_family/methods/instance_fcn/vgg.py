"""Build VGG-16 with the à trous trick: stride 8 instead of 16 (InstanceFCN, arXiv 1603.08678).

Pool4 has stride 1, and the convolutions after it are dilated by 2, so that each has the same inputs
as before: every second row and column of the result equals the plain VGG-16's conv5_3.
"""

import logging
import os
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn
from torchvision.models import VGG16_Weights
from torchvision.models.vgg import cfgs, make_layers

from ...errors import ConfigError
from ...fetch.names import is_name
from ...files import expand_path
from ...modeling.stem import adapt_state, colour_places
from ...weight_files import read_weights

# Indices in torchvision's `features`: the first module after each pooling, pool4, conv5_1 to 5_3.
_STAGE_ENDS = (5, 10, 17, 24, 30)
_POOL4 = 23
_CONV5 = (24, 26, 28)


class AtrousVGG16(Backbone):
    """The thirteen convolutions of VGG-16, under torchvision's names, at stride 8.

    Args:
        in_channels: channels of the input.
        freeze_at: the number of its five stages, from the first on, that are not trained.
        weights: a checkpoint of torchvision's vgg16, "pretrained" for torchvision's own download,
            or "". It is adapted to other channels than three; see `adapt_stem`.
        colours: the places of the checkpoint's three colours among the channels.

    Raises:
        ConfigError: the checkpoint is missing or belongs to another model.
        DataError: it can't be read.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        freeze_at: int = 0,
        weights: str = "",
        colours: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self._in_channels, self._colours = in_channels, colours
        # Without pool5; "D" is the paper's letter for the model with 16 layers.
        self.features = make_layers(cfgs["D"], batch_norm=False)[: _STAGE_ENDS[-1]]
        if in_channels != 3:
            self.features[0] = nn.Conv2d(in_channels, 64, 3, padding=1)
        self._initialise()
        # A row and column of zeros, which change no maximum after a ReLU, keep the size.
        self.features[_POOL4] = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(2, stride=1))
        for index in _CONV5:
            self.features[index].dilation = self.features[index].padding = (2, 2)
        self._out_features = ["conv5"]
        self._out_feature_channels = {"conv5": 512}
        self._out_feature_strides = {"conv5": 8}
        if freeze_at > 0:
            self.features[: _STAGE_ENDS[min(freeze_at, len(_STAGE_ENDS)) - 1]].requires_grad_(False)
        if weights:
            self._load(weights)

    def _initialise(self) -> None:
        """Initialise the weights at random, as torchvision does."""
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def _load(self, path: str) -> None:
        if path == "pretrained":
            state = VGG16_Weights.IMAGENET1K_V1.get_state_dict(progress=True)
        else:
            path = expand_path(path)
            if not is_name(path) and not os.path.isfile(path):
                raise ConfigError(f"MODEL.VGG.WEIGHTS {path}: there is no such file.")
            state = read_weights(path)
        own = self.state_dict()
        state = adapt_state(state, self, self._in_channels, self._colours)
        wrong = [key for key in own if key not in state or state[key].shape != own[key].shape]
        if wrong:
            raise ConfigError(
                f"MODEL.VGG.WEIGHTS {path} lacks {len(wrong)} of VGG-16's weights, or has them in "
                f"another shape, {wrong[0]} first: give a checkpoint of torchvision's vgg16."
            )
        self.load_state_dict({key: state[key] for key in own})
        logging.getLogger("solo_family").info(
            f"Backbone weights from {path}; {len(state) - len(own)} of the classifier were not "
            "needed."
        )

    # detectron2 declares it without its argument.
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Map images [B, C, H, W], H and W multiples of 8, to `conv5`: [B, 512, H / 8, W / 8]."""
        return {"conv5": self.features(x)}


def build_vgg_atrous_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> AtrousVGG16:
    """Build the backbone, with `MODEL.VGG.WEIGHTS` unless `MODEL.WEIGHTS` will be loaded."""
    return AtrousVGG16(
        in_channels=input_shape.channels or 3,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        weights="" if cfg.MODEL.WEIGHTS else cfg.MODEL.VGG.WEIGHTS,
        colours=colour_places(cfg),
    )
