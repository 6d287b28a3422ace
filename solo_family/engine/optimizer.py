"""SGD and AdamW with detectron2's parameter groups, a backbone multiplier and gradient clipping."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import batch_norm
from detectron2.solver.build import get_default_optimizer_params, reduce_param_groups
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from ..config.solver import optimizer_name
from ..errors import ConfigError
from ..registry import METHODS
from .layer_decay import layer_factors

_Clipper = Callable[[list[nn.Parameter]], Any]
# Normalisation layers that detectron2 does not count as such. Version 0.6 lacks its own LayerNorm.
_OTHER_NORMS = (nn.RMSNorm, getattr(batch_norm, "LayerNorm", nn.RMSNorm))
# The keys of a parameter group that determine how a step is computed, and not its result.
_IMPLEMENTATION = ("foreach", "fused", "capturable", "differentiable")


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimizer `SOLVER.OPTIMIZER`.

    If `OPTIMIZER` is '' or `BACKBONE_MULTIPLIER` is 0, the method's own default is used. The weight
    decay is `WEIGHT_DECAY_NORM` for normalisation layers and `WEIGHT_DECAY_EMBED` for embeddings.
    On GPUs and CPUs the optimizer is fused; checkpoints are the same either way.

    Args:
        cfg: the configuration; `SOLVER.CLIP_GRADIENTS.CLIP_TYPE` is "value", "norm" (of each
            parameter's gradient) or "full_model" (the norm of all gradients together).
        model: the learning rate of its parameters named `backbone.*` has the multiplier, and falls
            with the depth of their layers by `BACKBONE_LAYER_DECAY`.

    Raises:
        ConfigError: the optimizer or the clip type is unknown.
    """
    base_lr = cfg.SOLVER.BASE_LR
    if cfg.SOLVER.REFERENCE_BATCH_SIZE:
        base_lr *= cfg.SOLVER.IMS_PER_BATCH / cfg.SOLVER.REFERENCE_BATCH_SIZE
    groups = _parameter_groups(cfg, model, base_lr)
    fused = True if _can_fuse(cfg, model) else None
    common: dict[str, Any] = {"weight_decay": cfg.SOLVER.WEIGHT_DECAY, "fused": fused}
    name = optimizer_name(cfg)
    optimizer: torch.optim.Optimizer
    if name == "SGD":
        momentum, nesterov = cfg.SOLVER.MOMENTUM, cfg.SOLVER.NESTEROV
        optimizer = torch.optim.SGD(groups, base_lr, momentum, nesterov=nesterov, **common)
        if fused and momentum:
            optimizer.register_step_pre_hook(_start_momentum)
    elif name == "AdamW":
        optimizer = torch.optim.AdamW(groups, base_lr, amsgrad=cfg.SOLVER.AMSGRAD, **common)
    else:
        raise ConfigError(f"SOLVER.OPTIMIZER is {name!r}; allowed: '', 'SGD', 'AdamW'.")
    optimizer.register_load_state_dict_pre_hook(_keep_implementation)
    optimizer.register_load_state_dict_post_hook(_lay_out_as_weights)
    if cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        clip = _clipper(cfg.SOLVER.CLIP_GRADIENTS)
        # This hook runs after an AMP scaler has unscaled the gradients, and not on skipped steps.
        optimizer.register_step_pre_hook(lambda opt, *_: clip(_parameters(opt.param_groups)))
    return optimizer


def _parameter_groups(cfg: CfgNode, model: nn.Module, base_lr: float) -> list[dict[str, Any]]:
    """Return the parameters that are trained, in groups of one learning rate and weight decay."""
    groups = get_default_optimizer_params(
        model,
        base_lr=base_lr,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )
    # What detectron2 0.6 has no argument for, and module types that no version handles; a later
    # group overrides earlier ones.
    embeddings = _parameters_of(model, (nn.Embedding,))
    other_norms = _parameters_of(model, _OTHER_NORMS)
    return reduce_param_groups(
        [
            *groups,
            *_own_rates(cfg, model, base_lr),
            {"params": embeddings, "weight_decay": cfg.SOLVER.WEIGHT_DECAY_EMBED},
            {"params": other_norms, "weight_decay": cfg.SOLVER.WEIGHT_DECAY_NORM},
            {"params": _position_tables(model), "weight_decay": 0.0},
            {"params": _named(model, cfg.SOLVER.NO_DECAY_NAMES), "weight_decay": 0.0},
        ]
    )


def _own_rates(cfg: CfgNode, model: nn.Module, base_lr: float) -> list[dict[str, Any]]:
    """Return the parameters whose learning rate is not `base_lr`, a group each."""
    method = METHODS.get(cfg.MODEL.META_ARCHITECTURE)
    multiplier = cfg.SOLVER.BACKBONE_MULTIPLIER or (method.backbone_multiplier if method else 1.0)
    factors: dict[str, float] = {}
    if cfg.SOLVER.BACKBONE_LAYER_DECAY != 1:
        names = [name for name, _ in model.named_parameters()]
        factors = layer_factors(names, cfg.SOLVER.BACKBONE_LAYER_DECAY)
    rates = []
    for name, parameter in model.named_parameters():
        factor = factors.get(name, 1.0) * (multiplier if name.startswith("backbone.") else 1.0)
        # As with detectron2's own factors, biases with a rate of their own have that alone.
        is_set = name.rpartition(".")[2] == "bias" and cfg.SOLVER.BIAS_LR_FACTOR not in (None, 1)
        if parameter.requires_grad and factor != 1 and not is_set:
            rates.append({"params": [parameter], "lr": base_lr * factor})
    return rates


def _can_fuse(cfg: CfgNode, model: nn.Module) -> bool:
    """Return whether one kernel may update all weights."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if all(parameter.is_cuda and parameter.is_floating_point() for parameter in trained):
        return True
    # A CPU's kernel takes a step although a float16 gradient has overflowed.
    scaled = cfg.SOLVER.AMP.ENABLED and cfg.SOLVER.AMP.PRECISION == "float16"
    on_cpu = all(p.device.type == "cpu" and p.is_floating_point() for p in trained)
    return on_cpu and not scaled


def _start_momentum(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Begin with a momentum of 0, from which the first one is the gradient, as without this.

    torch's fused SGD fails where some weights have a momentum and others get their first gradient.
    """
    for parameter in _parameters(optimizer.param_groups):
        if parameter.grad is None:
            continue
        state = optimizer.state[parameter]
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.zeros_like(parameter)


def _keep_implementation(
    optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]
) -> dict[str, Any] | None:
    """Keep this device's implementation (fused or not) when a checkpoint is loaded."""
    ours, saved = optimizer.param_groups, state_dict["param_groups"]
    if len(ours) != len(saved):
        return None  # torch raises the error
    groups = [
        {**group, **{key: mine[key] for key in _IMPLEMENTATION if key in mine}}
        for group, mine in zip(saved, ours)
    ]
    return {**state_dict, "param_groups": groups}


def _lay_out_as_weights(optimizer: torch.optim.Optimizer) -> None:
    """Give loaded averages the order in memory of their weights.

    A CPU's fused kernel pairs elements by their places in memory. A checkpoint that was written
    with another `SOLVER.CHANNELS_LAST` has averages in another order.
    """
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                laid_out = torch.empty_like(parameter, dtype=value.dtype, device=value.device)
                if laid_out.stride() != value.stride():
                    state[key] = laid_out.copy_(value)


def _parameters_of(model: nn.Module, types: tuple[type[nn.Module], ...]) -> list[nn.Parameter]:
    return [
        parameter
        for module in model.modules()
        if isinstance(module, types)
        for parameter in module.parameters(recurse=False)
        if parameter.requires_grad
    ]


def _position_tables(model: nn.Module) -> list[nn.Parameter]:
    """Return Swin's position biases and embeddings, which have no weight decay in Swin's code."""
    ends = ("relative_position_bias_table", "absolute_pos_embed")
    return [p for name, p in model.named_parameters() if name.endswith(ends) and p.requires_grad]


def _named(model: nn.Module, parts: Iterable[str]) -> list[nn.Parameter]:
    """Return the trained parameters whose names contain one of `parts`.

    Raises:
        ConfigError: one of `parts` is in no parameter's name.
    """
    named = dict(model.named_parameters())
    for part in parts:
        if not any(part in name for name in named):
            raise ConfigError(
                f"SOLVER.NO_DECAY_NAMES has {part!r}, but no parameter's name contains it. Write "
                f"parts of names such as {min(named)}."
            )
    return [p for name, p in named.items() if p.requires_grad and any(t in name for t in parts)]


def _parameters(groups: Iterable[dict[str, Any]]) -> list[nn.Parameter]:
    return [parameter for group in groups for parameter in group["params"]]


def _clipper(clip: CfgNode) -> _Clipper:
    def by_value(parameters: list[nn.Parameter]) -> None:
        clip_grad_value_(parameters, clip.CLIP_VALUE)

    def by_norm(parameters: list[nn.Parameter]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        if gradients:
            # The same as `clip_grad_norm_` for each parameter, in a few kernels for all of them.
            norms = torch.stack(torch._foreach_norm(gradients, clip.NORM_TYPE))
            factors = (clip.CLIP_VALUE / (norms + 1e-6)).clamp(max=1)
            torch._foreach_mul_(gradients, list(factors.unbind()))

    def by_full_model_norm(parameters: list[nn.Parameter]) -> None:
        clip_grad_norm_(parameters, clip.CLIP_VALUE, clip.NORM_TYPE)

    clippers: dict[str, _Clipper] = {
        "value": by_value,
        "norm": by_norm,
        "full_model": by_full_model_norm,
    }
    if clip.CLIP_TYPE not in clippers:
        raise ConfigError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {clip.CLIP_TYPE!r}; "
            f"allowed: {', '.join(clippers)}."
        )
    return clippers[clip.CLIP_TYPE]
