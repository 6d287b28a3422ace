"""What users register with detectron2 is a method if its class is a subclass of one's."""

from collections.abc import Iterator
from typing import Any

import pytest
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from torch import nn

from solo_family.config import setup_cfg
from solo_family.engine.optimizer import build_optimizer
from solo_family.errors import ConfigError
from solo_family.evaluation.build import predicted_tasks
from solo_family.fetch.configs import get_config_file
from solo_family.methods.mask_former.model import MaskFormer
from solo_family.methods.solo.model import SOLO
from solo_family.recipe.datasets import methods_for
from solo_family.registry import METHODS, method_name


@pytest.fixture
def registered() -> Iterator[dict[str, type]]:
    own = {
        "OwnSOLO": type("OwnSOLO", (SOLO,), {}),
        "OwnMaskFormer": type("OwnMaskFormer", (MaskFormer,), {}),
    }
    own["OwnSOLOAgain"] = type("OwnSOLOAgain", (own["OwnSOLO"],), {})
    for model in own.values():
        META_ARCH_REGISTRY.register(model)
    yield own
    for name in own:
        META_ARCH_REGISTRY._obj_map.pop(name)
        METHODS.pop(name)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("OwnSOLO", "solo"),
        ("OwnSOLOAgain", "solo"),
        ("OwnMaskFormer", "mask_former_semantic"),
        ("OwnMaskFormer", "mask_former_panoptic"),
    ],
)
def test_it_is_trained_and_measured_as_its_parent(
    name: str, config: str, registered: dict[str, type]
) -> None:
    path = get_config_file(f"quickstart/{config}.yaml")
    method = METHODS[name]
    opts: list[Any] = [method.num_classes_key, 3, "MODEL.DEVICE", "cpu", "MODEL.TIMM.WEIGHTS", ""]
    opts += ["SOLVER.OPTIMIZER", "", "SOLVER.BACKBONE_MULTIPLIER", 0.0]
    parent, own = setup_cfg(path, opts), setup_cfg(path, [*opts, "MODEL.META_ARCHITECTURE", name])
    model: Any = build_model(own)
    assert model.__class__ is registered[name]
    assert method_name(name) == parent.MODEL.META_ARCHITECTURE
    assert predicted_tasks(own) == predicted_tasks(parent)
    usual, given = build_optimizer(parent, build_model(parent)), build_optimizer(own, model)
    assert type(given) is type(usual)
    assert {group["lr"] for group in given.param_groups} == {
        group["lr"] for group in usual.param_groups
    }


def test_its_keys_are_checked(registered: dict[str, type]) -> None:
    path = get_config_file("quickstart/solo.yaml")
    with pytest.raises(ConfigError, match="NUM_COORD_CONVS"):
        setup_cfg(path, ["MODEL.META_ARCHITECTURE", "OwnSOLO", "MODEL.SOLO.NUM_COORD_CONVS", "99"])


def test_recipes_are_those_of_the_parent(registered: dict[str, type]) -> None:
    assert set(methods_for("instance")).isdisjoint(registered)


def test_other_models_are_left_alone() -> None:
    META_ARCH_REGISTRY.register(type("OtherModel", (nn.Module,), {}))
    assert "OtherModel" not in METHODS
    META_ARCH_REGISTRY._obj_map.pop("OtherModel")
