import pytest

from solo_family.errors import ConfigError
from solo_family.modeling.timm_models.names import check_name


@pytest.mark.parametrize("name", ["resnet18", "convnext_tiny.fb_in22k", "resnet50d.ra2_in1k"])
def test_names_with_and_without_tags_are_known(name: str) -> None:
    check_name(name, "MODEL.TIMM", pretrained=True)


def test_an_unknown_tag_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"NAME is 'resnet18\.mine'.*resnet18\.a1_in1k"):
        check_name("resnet18.mine", "MODEL.TIMM")


def test_a_model_without_published_weights() -> None:
    check_name("cspresnet50d", "MODEL.TIMM")
    with pytest.raises(ConfigError, match=r"WEIGHTS is 'pretrained', but .* none of this model"):
        check_name("cspresnet50d", "MODEL.TIMM", pretrained=True)
