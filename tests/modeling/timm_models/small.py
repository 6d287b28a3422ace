"""Small models of every kind, for tests."""

from typing import Any

# Options that make timm's models of a name small.
SWIN: dict[str, Any] = {"embed_dim": 16, "depths": (2, 1, 1, 1), "num_heads": (1, 2, 4, 8)}
HIERA: dict[str, Any] = {"embed_dim": 16, "stages": (1, 1, 2, 1), "num_heads": 1}
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("test_resnet", {}),
    ("test_mambaout", {}),  # features [B, H, W, C]
    ("swin_tiny_patch4_window7_224", SWIN),
    ("swinv2_tiny_window16_256", SWIN),
    ("hiera_tiny_224", HIERA),
    ("hiera_small_abswin_256", HIERA),
    ("test_maxvit", {}),  # windows that must divide the maps
    ("efficientvim_m1", {}),  # no maps of strides 4 and 8
    ("test_vit", {}),  # maps of stride 16 only
    ("vit_tiny_patch16_224", {"patch_size": 14, "embed_dim": 24, "depth": 2}),
]
