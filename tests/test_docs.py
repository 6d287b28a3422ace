"""Code that the documentation shows is run as it stands there."""

import importlib.util
import re
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY, build_model

from solo_family import METHODS

from .conftest import ROOT, TINY, assert_learns, picture, tiny_cfg


def code_blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.+?)```", (ROOT / "docs" / page).read_text(), re.S)


@pytest.fixture(scope="module")
def prototypes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    (source,) = (
        block
        for block in code_blocks("adding_a_method.md", "python")
        if block.startswith("# prototypes.py")
    )
    file = tmp_path_factory.mktemp("own") / "prototypes.py"
    file.write_text(source)
    specification = importlib.util.spec_from_file_location("prototypes", file)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    yield module
    del METHODS["Prototypes"]
    META_ARCH_REGISTRY._obj_map.pop("Prototypes")


@pytest.fixture
def model(prototypes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    monkeypatch.setitem(TINY, "Prototypes", TINY["SOLOv2"])
    torch.manual_seed(0)
    return build_model(tiny_cfg("Prototypes"))


def test_the_method_of_the_walk_learns(model: torch.nn.Module) -> None:
    batch = [picture(seed=1), picture(seed=2, height=80)]
    assert_learns(model, batch)


def test_the_method_of_the_walk_finds_objects_and_trains_without(model: torch.nn.Module) -> None:
    losses = model([picture(objects=0)])
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    torch.nn.init.zeros_(model.category_branch.logits.bias)
    with torch.no_grad():
        instances = model.eval()([picture(50, 70)])[0]["instances"]
    assert len(instances) > 0
    assert instances.pred_masks.shape[1:] == (50, 70)
