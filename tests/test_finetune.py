"""The commands of docs/finetune.md, as they stand there.

The published weights are random ones under the published names, from a server on this machine.
Numbers of iterations are replaced, and the timing of `init`; see test_train_on_your_data.py.
"""

import json
import os
import re
from pathlib import Path

import pytest
import torch

from solo_family.config import setup_cfg
from solo_family.fetch import table
from solo_family.fetch.table import find, read_table
from solo_family.recipe.published import advise, choose_coco

from .checkpoint.lists import random_weights, save
from .conftest import ROOT
from .fetch.server import Files
from .fetch.tables import write_table
from .test_train_on_your_data import write_coco
from .walking import sh_commands, walk

PAGE = (ROOT / "docs" / "finetune.md").read_text()
METHODS = {"solo": "SOLO", "decoupledsolo": "DecoupledSOLO"}
METHODS |= {"solov2": "SOLOv2", "maskformer": "MaskFormer"}
COCO = "SOLOv2/mmdetection/solov2_mmdet_R50_3x.yaml"


def published() -> dict[str, torch.Tensor]:
    weights = random_weights("mmdet3_solov2")
    channels = weights["mask_head.conv_cls.weight"].shape[1]
    weights["mask_head.conv_cls.weight"] = 0.01 * torch.randn(80, channels, 3, 3)
    weights["mask_head.conv_cls.bias"] = torch.arange(80) / 100 - 4.6
    return weights


def write_configs(folder: Path) -> None:
    for name, block in re.findall(r"```yaml\n# (\w+\.yaml)\n(.+?)```", PAGE, re.S):
        block, count = re.subn(r"MAX_ITER: \d+", "MAX_ITER: 1", block)
        assert count == 1
        block = re.sub(r"STEPS: \(.+?\)", "STEPS: ()", block)
        # Small pictures keep the test short.
        sizes = "INPUT:\n  MIN_SIZE_TRAIN: (64,)\n  MIN_SIZE_TEST: 64\nDATALOADER:\n"
        (folder / name).write_text(f"{block}{sizes}  NUM_WORKERS: 0\n")


def commands() -> list[list[str]]:
    found = []
    for words in sh_commands(PAGE):
        if "init" in words:
            words = [*words, "--seconds-per-iteration", "600"]
        elif words[1] == "train_net.py" and not words[-1].startswith(("by_hand", "again_by")):
            words = [*words, "SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()"]
            words += ["DATALOADER.NUM_WORKERS", "0", "SOLVER.IMS_PER_BATCH", "2"]
        found.append(words)
    return found


@pytest.mark.slow
def test_the_commands_of_the_page(tmp_path: Path) -> None:
    write_coco(tmp_path / "data" / "images", ("person", "mug"))
    whole = (tmp_path / "data" / "instances.json").read_text()
    for split, few in (("train", slice(0, 4)), ("val", slice(4, 6))):
        content = json.loads(whole)
        content["images"] = content["images"][few]
        ids = {image["id"] for image in content["images"]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in ids]
        (tmp_path / "data" / f"{split}.json").write_text(json.dumps(content))
    write_configs(tmp_path)
    (tmp_path / "train_net.py").symlink_to(ROOT / "train_net.py")
    theirs = published()
    data = save(tmp_path / "solov2_r50_fpn_3x_coco.pth", theirs).read_bytes()
    words = commands()
    with Files({"/weights.pth": data}) as server:
        place = {"weights": f"{server.address}/weights.pth", "checksum": server.checksum(data)}
        write_table(tmp_path / "models.csv", COCO, **place)

        def prepare() -> None:
            """Have the zoo read another table, and keep its files elsewhere."""
            table.TABLE = Path("models.csv")
            os.environ["SOLO_FAMILY_CACHE"] = str(tmp_path / "cache")

        printed = walk(words, tmp_path, prepare)
    assert len(words) == 9
    assert f"published weights of {COCO}, licence: Apache-2.0" in printed
    assert "classes that keep their weights: person" in printed
    for run in ("coco", "by_hand", "backbone", "again", "again_by_hand"):
        assert (tmp_path / "output" / run / "model_final.pth").is_file(), run
    first = torch.load(tmp_path / "coco_weights.pth", weights_only=True)["model"]
    bias = first["head.category_branch.logits.bias"]
    assert bias[0] == theirs["mask_head.conv_cls.bias"][0]  # person
    again = torch.load(tmp_path / "again_weights.pth", weights_only=True)["model"]
    trained = torch.load(tmp_path / "output" / "coco" / "model_final.pth", weights_only=False)
    assert all(torch.equal(value, trained["model"][name]) for name, value in again.items())
    assert setup_cfg(str(tmp_path / "output" / "again_by_hand" / "config.yaml")).MODEL.CLASS_NAMES


def test_the_page_says_which_weights_are_taken_and_their_licence() -> None:
    table = re.findall(r"^\| (\w+) \| `(.+?)` \| (.+?) \|$", PAGE, re.M)
    assert [row[0] for row in table] == list(METHODS)
    for name, config, licence in table:
        entry = choose_coco(METHODS[name])
        assert (entry.config, entry.licence) == (config, licence)
        assert entry.is_commercial


def test_weights_for_commercial_use_are_named_where_there_are_some() -> None:
    assert advise(find("SOLOv2/solov2_R101_3x.yaml")) == (
        f"for commercial use: --from {COCO} (Apache-2.0)"
    )
    assert advise(find(COCO)) == ""
    for entry in read_table().values():
        if "non-commercial" in entry.licence:
            assert not entry.is_commercial, entry.config
