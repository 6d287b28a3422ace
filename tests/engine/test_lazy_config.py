"""A model of this package in detectron2's LazyConfig, and its plain trainer."""

from pathlib import Path

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import SimpleTrainer

from ..coco_folder import write_cfg
from ..conftest import picture, tiny_cfg

# As docs/python_api.md has it.
CONFIG = """
import torch
from detectron2.config import LazyCall as L
from detectron2.modeling import build_model
from detectron2.solver.build import get_default_optimizer_params
from solo_family.config import setup_cfg

model = L(build_model)(cfg=L(setup_cfg)(
    config_file="{config}",
    opts=["MODEL.SOLOV2.NUM_CLASSES", 5, "MODEL.DEVICE", "cpu"],
))
optimizer = L(torch.optim.SGD)(params=L(get_default_optimizer_params)(), lr=0.01)
"""


def test_a_model_of_a_lazy_config_trains(tmp_path: Path) -> None:
    yaml = write_cfg(tmp_path / "tiny.yaml", tiny_cfg())
    (tmp_path / "lazy.py").write_text(CONFIG.format(config=yaml))
    cfg = LazyConfig.load(str(tmp_path / "lazy.py"))
    cfg = LazyConfig.apply_overrides(cfg, ["optimizer.lr=0.02"])
    model = instantiate(cfg.model)
    assert model.head.category_branch.logits.out_channels == 5
    cfg.optimizer.params.model = model
    before = {name: value.clone() for name, value in model.named_parameters()}
    trainer = SimpleTrainer(model, [[picture()], [picture(seed=1)]], instantiate(cfg.optimizer))
    trainer.train(0, 2)
    changed = [name for name, value in model.named_parameters() if (value != before[name]).any()]
    assert len(changed) > len(before) / 2
    assert all(torch.isfinite(value).all() for value in model.parameters())
