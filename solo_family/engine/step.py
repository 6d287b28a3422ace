"""A training step on any device, with optional mixed precision, that stops at a non-finite loss."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..checkpoint.load import not_finite
from ..data.loading.sampler import GroupedSampler
from ..data.loading.seeding import seed_all
from ..errors import TrainingError
from ..modeling.cpu_gradients import CpuGradients
from ..ops.host_copy import HostCopy
from .optimizer_state import fitted, parameter_names
from .parts import divide, part_weights, weighted


class TrainingStep(SimpleTrainer):
    """Train with detectron2's SimpleTrainer, plus mixed precision on GPUs and CPUs.

    detectron2's AMPTrainer supports GPUs only. All losses are copied to the host in one transfer,
    to be checked and logged while the GPU runs the backward pass.

    Args:
        model: returns a dict of scalar losses.
        data_loader: yields lists of detectron2's dicts.
        optimizer: its step hooks see unscaled gradients. If float16 gradients overflow, the hooks
            of a fused optimizer run although its weights are not changed.
        precision: float16 (with loss scaling) or bfloat16 for autocast; None for float32.
        accumulate: the number of parts that a batch is computed in, one after another, with the
            gradients of the whole; see `divide`.
        sampler: the sampler of the loader. Its seed, which checkpoints store, seeds each iteration
            together with the iteration's number and the rank, so that dropout and losses that
            sample draw the same numbers in a resumed run. None seeds nothing.
        trainer: the trainer whose steps these are, if any. Its `after_backward` runs between the
            backward pass and the optimizer's step, with the gradients of the whole batch; with
            float16 they are scaled, as in detectron2.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Any,
        optimizer: torch.optim.Optimizer,
        *,
        precision: torch.dtype | None = None,
        accumulate: int = 1,
        sampler: GroupedSampler | None = None,
        trainer: Any = None,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self._sampler = sampler
        self._whole = trainer
        self.precision = precision
        self.accumulate = accumulate
        self.last_batch: list[dict[str, Any]] = []
        self.device_type = next(model.parameters()).device.type
        self.grad_scaler = torch.amp.GradScaler(
            self.device_type, enabled=precision == torch.float16
        )

    def run_step(self) -> None:
        """Run one iteration: load a batch, compute losses and gradients, and update the weights.

        Raises:
            TrainingError: a loss is not finite.
        """
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        self.last_batch = data
        parts = divide(data, self.accumulate)
        weights = part_weights(self.model, parts) if len(parts) > 1 else []
        if self._sampler is not None:
            # After the batch has arrived, because loading may draw numbers in the first iteration.
            seed_all(self._sampler.seed, self.iter, comm.get_rank())
        copies = []
        for index, part in enumerate(parts):
            with self._gradients_exchanged(index == len(parts) - 1):
                losses = self.losses(self.model, part)
                if weights:
                    losses = weighted(losses, weights[index])
                values = torch.stack([loss.float() for loss in losses.values()])
                copies.append((tuple(losses), HostCopy(values)))
                if not index:
                    self.optimizer.zero_grad(set_to_none=True)
                self.grad_scaler.scale(values.sum()).backward()
        # DefaultTrainer has the hooks, and never calls them at this place; detectron2 0.6 has none.
        if hasattr(self._whole, "after_backward"):
            self._whole.after_backward()
        of_parts = [dict(zip(names, copy.wait())) for names, copy in copies]
        for part, on_host in zip(parts, of_parts):
            check_finite(on_host, part, self.iter, self.model)
        total = {name: sum(part[name] for part in of_parts) for name in of_parts[0]}
        self._write_metrics(total, data_time)
        # A fused optimizer could unscale in its kernel, but its hooks need unscaled gradients.
        self.grad_scaler.unscale_(self.optimizer)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def losses(self, model: nn.Module, batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Return a batch's losses in the precision of training.

        Args:
            model: the trained model, with or without a DDP wrapper.
            batch: detectron2's dicts.
        """
        autocast = torch.autocast(
            self.device_type,
            dtype=self.precision or torch.bfloat16,
            enabled=self.precision is not None,
        )
        faster = CpuGradients() if self.device_type == "cpu" else nullcontext()
        with faster, autocast:
            return model(batch)

    def _gradients_exchanged(self, now: bool) -> AbstractContextManager[None]:
        """Let DDP average the gradients of all processes after the last part alone."""
        if now or not isinstance(self.model, DistributedDataParallel):
            return nullcontext()
        return self.model.no_sync()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint, with that of the loss scaler."""
        return {
            **super().state_dict(),
            "parameters": parameter_names(self.optimizer, self.model),
            "grad_scaler": self.grad_scaler.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint; the optimizer keeps its own rates and groups.

        Raises:
            ValueError: it is of other parameters, or of another optimizer.
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
    """Raise an error if a loss is not finite, before the step changes the weights.

    Args:
        losses: scalars, on the host.
        data: the batch that the losses were computed for.
        iteration: counted from 0.
        model: the model that was trained.

    Raises:
        TrainingError: a loss is NaN or infinite. The message names the iteration, the loss, and the
            weights that are not finite or, if there are none, the image files.
    """
    values = {name: float(loss) for name, loss in losses.items()}
    bad = {name: value for name, value in values.items() if not abs(value) < float("inf")}
    if not bad:
        return
    named = ", ".join(f"{name} is {value}" for name, value in bad.items())
    weights = [name.removeprefix("module.") for name in not_finite(model.named_parameters())]
    if weights:
        raise TrainingError(
            f"Iteration {iteration}: {named}. {len(weights)} weights are not finite, the first is "
            f"{weights[0]}: an earlier step has made them so. Resume from an earlier checkpoint, "
            "with a lower SOLVER.BASE_LR or with clipped gradients (SOLVER.CLIP_GRADIENTS)."
        )
    files = ", ".join(str(item.get("file_name", "an image without a file")) for item in data)
    raise TrainingError(
        f"Iteration {iteration}: {named}. The images were {files}. Lower SOLVER.BASE_LR, "
        "raise SOLVER.WARMUP_ITERS, clip gradients (SOLVER.CLIP_GRADIENTS), or check the "
        "annotations of these images."
    )
