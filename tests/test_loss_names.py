"""The losses that a model returns are those of the table on its method's page."""

import re
from functools import cache

import pytest
import torch
from detectron2.modeling import build_model

from solo_family import METHODS

from .conftest import ROOT, picture, tiny_cfg

PAGES = {
    "SOLO": "solo",
    "DecoupledSOLO": "decoupled_solo",
    "SOLOv2": "solov2",
    "SparseInst": "sparseinst",
    "MaskFormer": "maskformer",
    "InstanceFCN": "instancefcn",
}
# What each name means, in every method that has it.
MEANING = {
    "loss_class": "class",
    "loss_ce": "class",
    "loss_dice": "Dice loss",
    "loss_mask": "masks' pixels|cells of positive windows",
    "loss_objectness": "objectness",
    "loss_likelihood": "likelihood",
    "loss_sem_seg": "pixels' classes",
}


@cache
def table(method: str) -> dict[str, tuple[str, str]]:
    """Return what a page says of each loss: what it is, and when a model has it."""
    page = (ROOT / "docs" / "methods" / f"{PAGES[method]}.md").read_text()
    (section,) = re.findall(r"(?s)\n## Losses\n(.*?)\n## ", page)
    rows = [re.split(r" *\| *", line.strip("| ")) for line in section.splitlines()]
    return {row[0].strip("`"): (row[1], row[-1]) for row in rows if row[0].startswith("`loss_")}


def settings(method: str) -> list[str]:
    """Return "" for the defaults, and the settings that change the losses, on and off."""
    conditions = " ".join(when for _, when in table(method).values())
    named = re.findall(r"`(MODEL\.\S+ \w+)`", conditions)
    opposites = [re.sub(r"True$", "False", setting) for setting in named]
    return list(dict.fromkeys(["", *named, *opposites]))


@pytest.mark.parametrize(
    ("method", "setting"),
    [(method, setting) for method in PAGES for setting in settings(method)],
)
def test_a_model_has_the_losses_of_its_pages_table(method: str, setting: str) -> None:
    opts: list = setting.split()
    if "PerPixel" in setting:
        opts += ["MODEL.META_ARCHITECTURE", "SemanticSegmentor"]
    torch.manual_seed(0)
    model = build_model(tiny_cfg(method, 3, opts))
    item = picture()
    labels = torch.zeros(item["image"].shape[-2:], dtype=torch.int64)
    losses = model([{**item, "sem_seg": labels}])
    expected = {
        name
        for name, (_, when) in table(method).items()
        if when == "always" or (f"`{setting}`" in when if setting else when[:10] == "by default")
    }
    assert {re.sub(r"_\d+$", "", name) for name in losses} == expected


def test_every_method_is_here() -> None:
    assert set(PAGES) == set(METHODS)


@pytest.mark.parametrize("method", PAGES)
def test_a_name_means_the_same_in_every_method(method: str) -> None:
    for name, (loss, _) in table(method).items():
        if "one_to_many" in name:  # the same losses of other predictions
            continue
        assert re.search(MEANING[name], loss), f"{PAGES[method]}: {name}"
