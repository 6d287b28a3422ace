"""Use timm's Swin Transformer (Liu et al., arXiv 2103.14030) as a detectron2 backbone."""

from typing import Any

import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import Backbone
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from ...errors import ConfigError
from ...modeling.timm_models.swin import pad_before_shifting

_STAGES = ("res2", "res3", "res4", "res5")


class D2SwinTransformer(Backbone):
    """timm's Swin for inputs of any size, with a layer norm for each output.

    Windows are shifted in every second block whatever the size of the map, as in the official code
    for dense tasks; maps are padded to whole windows.

    Args:
        model: timm's model.
        channels: numbers of channels of the stages' outputs.
        out_features: names of the returned stages: res2 (stride 4) to res5 (stride 32).
    """

    @configurable
    def __init__(
        self, *, model: SwinTransformer, channels: list[int], out_features: list[str]
    ) -> None:
        super().__init__()
        self.model = model
        pad_before_shifting(model)
        # timm's own last norm and classifier are not used.
        self.model.norm = nn.Identity()
        self.model.head = nn.Identity()
        patch = model.patch_embed.patch_size[0]
        self._patch = patch
        self._out_features = [name for name in _STAGES if name in out_features]
        self._out_feature_channels = dict(zip(_STAGES, channels))
        self._out_feature_strides = {name: patch << i for i, name in enumerate(_STAGES)}
        for index, name in enumerate(_STAGES):
            if name in out_features:
                self.add_module(f"norm{index}", nn.LayerNorm(channels[index]))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read the arguments from `cfg.MODEL.SWIN`."""
        swin = cfg.MODEL.SWIN
        _check(cfg)
        model = SwinTransformer(
            img_size=swin.PRETRAIN_IMG_SIZE,
            patch_size=swin.PATCH_SIZE,
            in_chans=input_shape.channels or 3,
            num_classes=0,
            embed_dim=swin.EMBED_DIM,
            depths=tuple(swin.DEPTHS),
            num_heads=tuple(swin.NUM_HEADS),
            window_size=swin.WINDOW_SIZE,
            always_partition=True,
            strict_img_size=False,
            mlp_ratio=swin.MLP_RATIO,
            qkv_bias=swin.QKV_BIAS,
            proj_drop_rate=swin.DROP_RATE,
            attn_drop_rate=swin.ATTN_DROP_RATE,
            drop_path_rate=swin.DROP_PATH_RATE,
        )
        return {
            "model": model,
            "channels": [swin.EMBED_DIM << index for index in range(len(_STAGES))],
            "out_features": swin.OUT_FEATURES,
        }

    @property
    def size_divisibility(self) -> int:
        """The number that the sides of an input should be multiples of."""
        return 32

    # detectron2 declares it without its argument.
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the stages' outputs, by name, for images [B, C, H, W]."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self._patch, 0, -height % self._patch))
        x = self.model.patch_embed(x)
        outputs = {}
        for index, (name, stage) in enumerate(zip(_STAGES, self.model.layers)):
            x = stage(x)
            if name in self._out_features:
                normalised = self.get_submodule(f"norm{index}")(x)
                outputs[name] = normalised.permute(0, 3, 1, 2).contiguous()
        return outputs


def _check(cfg: CfgNode) -> None:
    swin = cfg.MODEL.SWIN
    for key, allowed in (("APE", False), ("PATCH_NORM", True), ("QK_SCALE", None)):
        if swin[key] != allowed:
            raise ConfigError(
                f"MODEL.SWIN.{key} is {swin[key]}; only {allowed} can be built, as in all "
                "published models."
            )
    if len(swin.DEPTHS) != len(_STAGES) or len(swin.NUM_HEADS) != len(_STAGES):
        raise ConfigError(
            f"MODEL.SWIN.DEPTHS is {swin.DEPTHS} and MODEL.SWIN.NUM_HEADS {swin.NUM_HEADS}; each "
            "needs one number for each of the four stages."
        )
    unknown = [name for name in swin.OUT_FEATURES if name not in _STAGES]
    if unknown or not swin.OUT_FEATURES:
        raise ConfigError(
            f"MODEL.SWIN.OUT_FEATURES has {', '.join(unknown) or 'no names'}; "
            f"allowed: {', '.join(_STAGES)}."
        )
