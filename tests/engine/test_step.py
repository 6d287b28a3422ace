"""One training step: mixed precision on a CPU, and losses that are not finite."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.engine import TrainerBase
from detectron2.utils.env import seed_all_rng
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from solo_family.engine.main import main as train_net
from solo_family.engine.step import TrainingStep, check_finite
from solo_family.engine.trainer import Trainer
from solo_family.errors import TrainingError
from solo_family.ops.host_copy import HostCopy

from ..coco_folder import run_cfg, small_dataset, write_cfg
from ..forked import Forked


class Regression(nn.Module):
    """Remembers in what precision it computed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1, bias=False)
        nn.init.constant_(self.layer.weight, 0.5)

    def forward(self, data: list[dict[str, Any]]) -> dict[str, Tensor]:
        outputs = self.layer(torch.stack([item["x"] for item in data]))
        self.dtype = outputs.dtype
        # Divided, so that float16 holds its gradients times the scaler's first 65536.
        return {"loss": (outputs.float() - 1).square().mean() / 64}


class OneStep(TrainerBase):
    """Steps, and what gradients the optimizer saw."""

    def __init__(self, x: list[float], precision: torch.dtype | None) -> None:
        super().__init__()
        self.model = Regression()
        optimizer = torch.optim.SGD(self.model.parameters(), 0.1)
        self.gradients: list[Tensor] = []
        optimizer.register_step_pre_hook(
            lambda *_: self.gradients.append(self.model.layer.weight.grad.clone())
        )
        self.batches = [[{"x": torch.tensor(x), "file_name": "x.png"}]] * 5
        self.step = TrainingStep(self.model, self.batches, optimizer, precision=precision)

    def run_step(self) -> None:
        self.step.iter = self.iter
        self.step.run_step()


@pytest.mark.parametrize("precision", [None, torch.bfloat16, torch.float16])
def test_the_optimizer_sees_true_gradients(precision: torch.dtype | None) -> None:
    # 0.25 and 2 are exact in every precision, and so is 0.5 x 3 - 1 = 0.5.
    run = OneStep([0.25, 0.25, 0.5, 2.0], precision)
    run.train(0, 1)
    assert run.model.dtype == (precision or torch.float32)
    assert run.model.layer.weight.dtype == torch.float32
    expected = 2 * 0.5 * torch.tensor([[0.25, 0.25, 0.5, 2.0]]) / 64
    torch.testing.assert_close(run.gradients, [expected])
    torch.testing.assert_close(run.model.layer.weight.detach(), 0.5 - 0.1 * expected)


def test_a_step_on_a_cpu_has_the_faster_gradients() -> None:
    names = []

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 5, groups=2)

        def forward(self, data: list[dict[str, Any]]) -> dict[str, Tensor]:
            result = self.conv(torch.stack([item["x"] for item in data]))
            names.append(type(result.grad_fn).__name__)
            return {"loss": result.square().mean()}

    model = Model()
    batches = [[{"x": torch.ones(2, 8, 8), "file_name": "x.png"}]]
    step = TrainingStep(model, batches, torch.optim.SGD(model.parameters(), 0.1))
    step.losses(model, batches[0])["loss"].backward()
    assert names == ["_DepthwiseConvBackward"]
    assert model.conv.weight.grad is not None
    # Outside of a step torch's own are computed.
    model(batches[0])
    assert names[1] == "ConvolutionBackward0"


def test_layers_that_are_computed_again_have_them_too() -> None:
    """Activation checkpointing refuses to save other tensors than the first time."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 5, groups=2)

        def forward(self, data: list[dict[str, Any]]) -> dict[str, Tensor]:
            x = torch.stack([item["x"] for item in data])
            return {"loss": checkpoint(self.conv, x, use_reentrant=False).square().mean()}

    class Steps(TrainerBase):
        def __init__(self) -> None:
            super().__init__()
            self.model = Model()
            batches = [[{"x": torch.ones(2, 8, 8), "file_name": "x.png"}]]
            optimizer = torch.optim.SGD(self.model.parameters(), 0.1)
            self.step = TrainingStep(self.model, batches, optimizer, precision=torch.bfloat16)

        def run_step(self) -> None:
            self.step.iter = self.iter
            self.step.run_step()

    run = Steps()
    before = run.model.conv.weight.detach().clone()
    run.train(0, 1)
    assert not torch.equal(run.model.conv.weight, before)


def test_only_float16_scales_its_loss() -> None:
    for precision, enabled in ((torch.float16, True), (torch.bfloat16, False), (None, False)):
        assert OneStep([1.0] * 4, precision).step.grad_scaler.is_enabled() == enabled


def test_a_step_whose_scaled_gradients_overflow_is_left_out() -> None:
    run = OneStep([1000.0] * 4, torch.float16)
    run.train(0, 1)
    assert run.gradients == []
    assert run.model.layer.weight.tolist() == [[0.5] * 4]
    assert run.step.grad_scaler.get_scale() == 2**15
    again = OneStep([1.0] * 4, torch.float16)
    again.step.load_state_dict(run.step.state_dict())
    assert again.step.grad_scaler.get_scale() == 2**15


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_a_fused_optimizer_sees_true_gradients_and_leaves_out_what_overflows(kind: Any) -> None:
    run = OneStep([0.25, 0.25, 0.5, 2.0], torch.float16)
    fused = kind(run.model.parameters(), 0.1, weight_decay=0, fused=True)
    seen: list[Tensor] = []
    fused.register_step_pre_hook(lambda *_: seen.append(run.model.layer.weight.grad.clone()))
    run.step.optimizer = fused
    run.train(0, 1)
    expected = 2 * 0.5 * torch.tensor([[0.25, 0.25, 0.5, 2.0]]) / 64
    torch.testing.assert_close(seen, [expected])
    weights = run.model.layer.weight.detach().clone()
    assert not (weights == 0.5).any()
    run.batches[1] = [{"x": torch.full((4,), 1000.0)}]
    run.train(1, 2)
    assert torch.equal(run.model.layer.weight.detach(), weights)
    assert run.step.grad_scaler.get_scale() == 2**15


def test_losses_are_looked_at_when_the_backward_pass_is_queued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One wait for all losses, and none before the gradients are there."""
    run = OneStep([1.0] * 4, None)
    graded: list[Tensor] = []
    waits: list[int] = []
    original = HostCopy.wait
    run.model.layer.weight.register_hook(graded.append)

    def wait(self: HostCopy) -> Tensor:
        waits.append(len(graded))
        return original(self)

    monkeypatch.setattr(HostCopy, "wait", wait)
    run.train(0, 2)
    assert waits == [1, 2]


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_model_trains_in_mixed_precision_on_a_cpu(tmp_path: Path, precision: str) -> None:
    seed_all_rng(0)
    opts = ["SOLVER.AMP.ENABLED", True, "SOLVER.AMP.PRECISION", precision]
    cfg = run_cfg(small_dataset(tmp_path / "data").name, tmp_path, *opts, "SOLVER.MAX_ITER", 6)
    trainer = Trainer(cfg)
    before = trainer.raw_model.head.kernel_predictor.weight.detach().clone()
    trainer.train()
    assert trainer._trainer.precision == getattr(torch, precision)
    assert not torch.equal(trainer.raw_model.head.kernel_predictor.weight, before)
    assert all(parameter.dtype == torch.float32 for parameter in trainer.raw_model.parameters())
    with torch.autocast("cpu", dtype=getattr(torch, precision)):
        losses = trainer.raw_model(trainer._trainer.last_batch)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_names_iteration_loss_and_files(bad: float) -> None:
    losses = {"loss_class": torch.tensor(1.0), "loss_mask": torch.tensor(bad)}
    data = [{"file_name": "a.png"}, {"file_name": "b.png"}]
    with pytest.raises(TrainingError) as error:
        check_finite(losses, data, 17, nn.Linear(1, 1))
    assert str(error.value).startswith(
        f"Iteration 17: loss_mask is {bad}. The images were a.png, b.png. Lower SOLVER.BASE_LR"
    )
    assert "loss_class" not in str(error.value)


def test_a_weight_that_is_not_finite_is_named_instead_of_the_files() -> None:
    run = OneStep([0.0] * 4, None)
    with torch.no_grad():
        run.model.layer.weight[0, 2] = float("nan")
    said = r"1 weights are not finite, the first is layer\.weight"
    with pytest.raises(TrainingError, match=said) as e:
        run.train(5, 6)
    assert str(e.value).startswith("Iteration 5: loss is nan.")
    assert "x.png" not in str(e.value)


def test_weights_are_not_spoilt_by_it() -> None:
    run = OneStep([float("nan")] + [0.0] * 3, None)
    with pytest.raises(TrainingError):
        run.train(0, 1)
    assert run.model.layer.weight.isfinite().all()
    assert run.gradients == []


def test_too_high_a_rate_ends_the_run_in_one_line(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data")
    opts = ["SOLVER.BASE_LR", 1e12, "SOLVER.MAX_ITER", 50]
    config = write_cfg(tmp_path / "config.yaml", run_cfg(dataset.name, tmp_path / "run", *opts))
    with Forked(train_net, ["--config-file", config], tmp_path) as run:
        line = run.error()
    for words in ("Iteration ", "loss_", " is nan", str(dataset.root / "images")):
        assert words in line
    assert line in (tmp_path / "run" / "log.txt").read_text()
    assert not list((tmp_path / "run").glob("*.pth"))
