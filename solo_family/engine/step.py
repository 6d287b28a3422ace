"""One training step: under autocast where it is asked for, on any device; never past a bad loss."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import Tensor, nn

from ..checkpoint.load import not_finite
from ..data.loading.sampler import GroupedSampler
from ..data.loading.seeding import seed_all
from ..errors import TrainingError
from ..ops.host_copy import HostCopy
from .optimizer_state import fitted, parameter_names


class TrainingStep(SimpleTrainer):
    """detectron2's SimpleTrainer with mixed precision on CPUs too, which its AMPTrainer refuses.

    The losses reach the host in one transfer, to be looked at and written, while a GPU goes on with
    the backward pass.

    Args:
        model: returns a dict of losses.
        data_loader: gives lists of detectron2's dicts.
        optimizer: its step hooks see gradients that are not scaled. Where float16's overflow, a
            fused optimizer's hooks see that, too; its weights stay as they are.
        precision: float16 (with loss scaling) or bfloat16 for autocast; None for float32.
        sampler: of the loader. Its seed, which checkpoints keep, the iteration and the rank say
            what an iteration draws, in dropout or in losses that sample, so that a resumed run
            draws the same. Without it nothing is seeded.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Any,
        optimizer: torch.optim.Optimizer,
        *,
        precision: torch.dtype | None = None,
        sampler: GroupedSampler | None = None,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self._sampler = sampler
        self.precision = precision
        self.last_batch: list[dict[str, Any]] = []
        self.device_type = next(model.parameters()).device.type
        self.grad_scaler = torch.amp.GradScaler(
            self.device_type, enabled=precision == torch.float16
        )

    def run_step(self) -> None:
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        self.last_batch = data
        if self._sampler is not None:
            # Not before the batch is there: what loads it may draw, too, in the first iteration.
            seed_all(self._sampler.seed, self.iter, comm.get_rank())
        with torch.autocast(
            self.device_type,
            dtype=self.precision or torch.bfloat16,
            enabled=self.precision is not None,
        ):
            losses = self.model(data)
        values = torch.stack([loss.float() for loss in losses.values()])
        copy = HostCopy(values)
        self.optimizer.zero_grad(set_to_none=True)
        self.grad_scaler.scale(values.sum()).backward()
        self.after_backward()
        on_host = dict(zip(losses, copy.wait()))
        check_finite(on_host, data, self.iter, self.model)
        self._write_metrics(on_host, data_time)
        # Here, not in a fused optimizer's kernel, so that its hooks see true gradients.
        self.grad_scaler.unscale_(self.optimizer)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "parameters": parameter_names(self.optimizer, self.model),
            "grad_scaler": self.grad_scaler.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take a checkpoint's averages over; the optimizer keeps its own rates and groups.

        Raises:
            ValueError: they are of other parameters, or of another optimizer.
        """
        optimizer = fitted(
            state_dict["optimizer"],
            state_dict.get("parameters"),
            self.optimizer,
            parameter_names(self.optimizer, self.model),
        )
        super().load_state_dict({**state_dict, "optimizer": optimizer})
        if state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


def check_finite(
    losses: dict[str, Tensor], data: Sequence[dict[str, Any]], iteration: int, model: nn.Module
) -> None:
    """Stops a run whose loss is not finite, before it spoils the weights.

    Args:
        losses: scalars, on the host.
        data: the batch they are of.
        iteration: counted from 0.
        model: what they come from.

    Raises:
        TrainingError: names the iteration, the losses, and the weights or else the image files.
    """
    values = {name: float(loss) for name, loss in losses.items()}
    bad = {name: value for name, value in values.items() if not abs(value) < float("inf")}
    if not bad:
        return
    named = ", ".join(f"{name} is {value}" for name, value in bad.items())
    weights = [name.removeprefix("module.") for name in not_finite(model.named_parameters())]
    if weights:
        raise TrainingError(
            f"Iteration {iteration}: {named}. {len(weights)} weights are not finite, {weights[0]} "
            "first: a step before this one spoilt them. Go on from an earlier checkpoint, with a "
            "lower SOLVER.BASE_LR or clipped gradients (SOLVER.CLIP_GRADIENTS)."
        )
    files = ", ".join(str(item.get("file_name", "an image without a file")) for item in data)
    raise TrainingError(
        f"Iteration {iteration}: {named}. The images were {files}. Lower SOLVER.BASE_LR, "
        "lengthen SOLVER.WARMUP_ITERS, clip gradients (SOLVER.CLIP_GRADIENTS), or look at "
        "these images' annotations."
    )
