"""Every source's names, from lists that the code under test did not make."""

from pathlib import Path

import pytest

from solo_family.checkpoint.convert import convert

from .lists import NAMES, empty_weights, save, slow_but

# The source of each list by the beginning of its name, the longest first.
SOURCES = {
    "official_decoupled_light": "official-solo-light",
    "mmdet3_decoupled_light": "mmdet3-solo-light",
    "mmdet3_mask_former": "mmdet3-mask-former",
    "official_swin": "official-swin",
    "timm_resnet50d": "resnet-vd",
    "torchvision_resnet": "resnet",
    "torchvision_vgg16": "vgg16",
    "sparse_inst": "sparse-inst",
    "mask_former": "mask-former",
    "per_pixel": "mask-former",
    "huggingface": "huggingface",
    "timm_resnet50": "resnet",
    "timm_swin": "timm-swin",
    "adelaidet": "adelaidet",
    "official": "official-solo",
    "mmdet3": "mmdet3-solo",
}


# One of every source; the rest are variants.
FAST = (
    "adelaidet_solov2",
    "huggingface_resnet",
    "mask_former_r50_v1",
    "mmdet3_decoupled_light",
    "mmdet3_mask_former_r50",
    "mmdet3_solov2",
    "official_decoupled_light",
    "official_solov2",
    "official_swin",
    "sparse_inst_r50vd_dcn_giam",
    "timm_resnet50d",
    "timm_swin",
    "torchvision_resnet18",
    "torchvision_vgg16",
)


def test_every_source_is_tested_fast() -> None:
    assert {source_of(name) for name in FAST} == {source_of(name) for name in NAMES}


def source_of(name: str) -> str:
    return next(source for start, source in SOURCES.items() if name.startswith(start))


@pytest.mark.parametrize("name", slow_but(FAST, NAMES))
def test_every_weight_of_every_source_is_taken_over_or_named(name: str, tmp_path: Path) -> None:
    weights = empty_weights(name)
    path = save(tmp_path / "theirs.pth", weights)
    converted = convert(path)
    assert converted.source.name == source_of(name)
    if "swin" not in converted.source.name:
        assert not converted.missing
    assert not converted.ignored
    taken = sum(tensor.numel() for tensor in converted.weights.values())
    dropped = sum(weights[key].numel() for key in converted.dropped)
    assert taken + dropped == sum(tensor.numel() for tensor in weights.values())
