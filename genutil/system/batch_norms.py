"""Batch norms whose statistics are those of the batches of all processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _BatchNormOverProcesses(torch.autograd.Function):
    """Batch norm by the statistics of the batches of all processes together.

    Two passes over the data, means first and then squares about them: stable, where one pass of sums of squares is
    not. The gradient is that of the sum of all processes' losses; those of weight and bias are this process's share.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
        dims = [0, *range(2, x.dim())]
        values = x if x.dtype == torch.float64 else x.float()
        sums = torch.cat([values.sum(dims), values.new_tensor([values.numel() / x.shape[1]])])
        dist.all_reduce(sums)
        count = sums[-1]
        mean = sums[:-1] / count
        variance = (values - _column(mean, x)).square_().sum(dims)
        dist.all_reduce(variance)
        variance /= count
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), count)
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(values, mean, variance, weight, bias, False, 0.0, eps).to(x.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, count = ctx.saved_tensors
        dims = [0, *range(2, x.dim())]
        gradient = gradient.to(mean.dtype)
        normalised = (x.to(mean.dtype) - _column(mean, x)) * _column(scale, x)
        own = torch.stack([gradient.sum(dims), (gradient * normalised).sum(dims)])
        total = own.clone()
        dist.all_reduce(total)
        by_mean, by_scale = total / count
        inner = gradient - _column(by_mean, x) - normalised * _column(by_scale, x)
        grad_x = inner * _column(scale if weight is None else scale * weight, x)
        if weight is None:
            return grad_x.to(x.dtype), None, None, None
        return grad_x.to(x.dtype), own[1], own[0], None


def _column(per_channel: Tensor, like: Tensor) -> Tensor:
    return per_channel.view(1, -1, *[1] * (like.dim() - 2))


class _Synchronised(_BatchNorm):
    """Batch norm that, while it trains, normalises by the batches of all processes; their sizes may differ."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        self._check_input_dim(x)
        y, mean, variance, count = _BatchNormOverProcesses.apply(x, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
            unbiased = variance * (count / (count - 1))
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)
        return y


class SyncBatchNorm1d(_Synchronised, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over all processes."""


class SyncBatchNorm2d(_Synchronised, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over all processes."""


class SyncBatchNorm3d(_Synchronised, nn.BatchNorm3d):
    """`nn.BatchNorm3d` over all processes."""


def synchronise_batchnorm(network: nn.Module) -> None:
    """Let every batch norm of a network take its statistics over all processes, on any device, while it trains.

    (torch.nn.SyncBatchNorm does so on GPUs only.) The layers keep their place, their names and their weights, and are
    still instances of the class that they were.
    """
    kinds: dict[type[nn.Module], type[_Synchronised]] = {
        nn.BatchNorm1d: SyncBatchNorm1d,
        nn.BatchNorm2d: SyncBatchNorm2d,
        nn.BatchNorm3d: SyncBatchNorm3d,
    }
    for module in network.modules():
        if type(module) in kinds:
            module.__class__ = kinds[type(module)]
