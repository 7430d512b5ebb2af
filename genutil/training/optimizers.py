"""Optimizers, and which weights decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer, RMSprop

from genutil.config import Experiment
from genutil.errors import UserError

RMSPROP_DECAY = 0.9
"""Of the mean of squared gradients, as in TensorFlow."""

NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.GroupNorm, nn.LayerNorm, nn.RMSNorm),
)


def parameter_groups(network: nn.Module, weight_decay: float, decay_norm_and_bias: bool) -> list[dict]:
    """The trainable parameters of a network as an optimizer's groups.

    Norms and biases are told by the layer they belong to and by their name, not by their shape: the weights of a
    graph's edges lie in one vector and decay like any other weight.

    Args:
        network: every parameter that requires a gradient is taken, once.
        weight_decay: of the weights.
        decay_norm_and_bias: whether norms and biases decay as well; otherwise they form a second group.
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            spared = isinstance(module, NORMS) or name.endswith("bias")
            (plain if spared and not decay_norm_and_bias else decayed).append(parameter)
    seen: set[int] = set()
    groups = []
    for parameters, decay in ((decayed, weight_decay), (plain, 0.0)):
        own = {id(parameter): parameter for parameter in parameters if parameter.requires_grad}
        fresh = [parameter for key, parameter in own.items() if key not in seen]
        seen |= own.keys()
        if fresh:
            groups.append({"params": fresh, "weight_decay": decay})
    return groups


def make_optimizer(experiment: Experiment, network: nn.Module) -> Optimizer:
    """The optimizer of an experiment over a network's trainable parameters.

    Raises:
        UserError: Nesterov without momentum, or nothing to train.
    """
    if experiment.nesterov and experiment.momentum == 0:
        raise UserError("nesterov needs a momentum above 0.")
    groups = parameter_groups(network, experiment.weight_decay, experiment.decay_norm_and_bias)
    if not groups:
        raise UserError(f"The network {experiment.model} has no weights to train.")
    if experiment.optimizer == "rmsprop":
        return RMSprop(groups, lr=experiment.lr, alpha=RMSPROP_DECAY, momentum=experiment.momentum)
    fused = _is_fused(experiment, next(network.parameters()).device)
    if experiment.optimizer == "adam":
        return Adam(groups, lr=experiment.lr, fused=fused)
    optimizer = SGD(groups, lr=experiment.lr, momentum=experiment.momentum, nesterov=experiment.nesterov, fused=fused)
    if fused and experiment.momentum:
        optimizer.register_step_pre_hook(_begin_late)
    return optimizer


def _begin_late(optimizer: Optimizer, *_: Any) -> None:
    """Give a weight that gets its first gradient after others have got theirs a momentum of 0, as if it had had one.

    The fused kernel wants a momentum of all or of none.
    """
    for group in optimizer.param_groups:
        moved = [weight for weight in group["params"] if weight.grad is not None]
        without = [weight for weight in moved if optimizer.state[weight].get("momentum_buffer") is None]
        if len(without) < len(moved):
            for weight in without:
                optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)


def _is_fused(experiment: Experiment, device: torch.device) -> bool | None:
    """Whether the update is one kernel: as asked for, else on GPUs and CPUs; None leaves it to torch, as elsewhere.

    Fused kernels undo float16's scale of the loss themselves, so that the gradient cannot be clipped before.
    """
    if experiment.fused != "auto":
        return experiment.fused
    return True if device.type in ("cuda", "cpu") and not _scales_and_clips(experiment) else None


def _scales_and_clips(experiment: Experiment) -> bool:
    return experiment.precision == "16" and experiment.clip_grad_norm is not None
