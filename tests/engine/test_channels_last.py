"""Training with weights of convolutions in the other order of memory."""

from pathlib import Path

import torch
from detectron2.utils.env import seed_all_rng

from solo_family.engine.trainer import Trainer

from ..coco_folder import run_cfg, small_dataset


def trainer_of(data: str, output: Path, channels_last: bool) -> Trainer:
    seed_all_rng(0)
    output.mkdir()
    opts = ["SOLVER.CHANNELS_LAST", channels_last, "SOLVER.MAX_ITER", 2]
    return Trainer(run_cfg(data, output, *opts))


def test_losses_are_the_same_and_checkpoints_fit_both_ways(tmp_path: Path) -> None:
    data = small_dataset(tmp_path / "data").name
    plain = trainer_of(data, tmp_path / "plain", False)
    other = trainer_of(data, tmp_path / "other", True)
    convolutions = [p for p in other.raw_model.parameters() if p.dim() == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in convolutions)
    assert not all(p.is_contiguous() for p in convolutions)
    batch = next(iter(plain._trainer.data_loader))
    seed_all_rng(1)
    expected = plain.raw_model(batch)
    seed_all_rng(1)
    losses = other.raw_model(batch)
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-4, atol=1e-5)
    for one, two in ((plain, other), (other, plain)):
        one.checkpointer.save("model")
        order = [p.stride() for p in two.raw_model.parameters()]
        with torch.no_grad():
            for parameter in two.raw_model.parameters():
                parameter.zero_()
        two.cfg.defrost()
        two.cfg.MODEL.WEIGHTS = str(Path(one.cfg.OUTPUT_DIR) / "model.pth")
        two.resume_or_load(resume=False)
        assert [p.stride() for p in two.raw_model.parameters()] == order
        for a, b in zip(one.raw_model.parameters(), two.raw_model.parameters(), strict=True):
            assert torch.equal(a, b)
