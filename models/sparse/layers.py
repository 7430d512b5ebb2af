"""From the layers of a trained network to levels of its channel graph.

Layers are taken as plain modules, as `nn.Sequential` gives them. TypeError: one of another kind.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.sparse.graph import ChannelGraph, Depthwise, Edges, InstanceNorm, Level

M = TypeVar("M", bound=nn.Module)


def as_array(tensor: Tensor) -> NDArray[np.float32]:
    """The values of a tensor on any device, of any type."""
    return tensor.detach().float().cpu().numpy()


def bias_of(bias: Tensor | None, nodes: int) -> NDArray[np.float32]:
    """A layer's bias [nodes] as an array of its own; zeros where it has none."""
    return np.zeros(nodes, np.float32) if bias is None else as_array(bias).copy()


def input_level(channels: int) -> Level:
    """The first level of a graph."""
    return Level("input", "", np.arange(channels, dtype=np.int64), bias=np.zeros(channels, np.float32))


def sum_level(
    name: str, stage: str, sources: tuple[int, ...], edges: Edges, bias: NDArray | None = None, first_row: int = 0
) -> Level:
    """Nodes that sum their edges, for now without operations of their own.

    Args:
        name, stage, sources, edges: see `Level`.
        bias: float32 [nodes]; zero where None.
        first_row: row of the stage's matrix that the first node is; the others follow.
    """
    bias = np.zeros(edges.nodes, np.float32) if bias is None else bias
    return Level(name, stage, np.arange(edges.nodes, dtype=np.int64) + first_row, sources, edges, bias)


def convolution_level(name: str, stage: str, source: int, convolution: nn.Module) -> Level:
    """A convolution behind one level (see `convolution_edges`)."""
    edges = convolution_edges(convolution)
    return sum_level(name, stage, (source,), edges, bias_of(_expect(convolution, nn.Conv2d).bias, edges.nodes))


def linear_level(name: str, source: int, linear: nn.Module) -> Level:
    """A linear layer behind a level of single values."""
    linear = _expect(linear, nn.Linear)
    edges = Edges.from_dense(as_array(linear.weight))
    return sum_level(name, name, (source,), edges, bias_of(linear.bias, edges.nodes))


def convolution_edges(convolution: nn.Module) -> Edges:
    """The edges of a convolution of equal stride and padding both ways, which may have groups."""
    convolution = _expect(convolution, nn.Conv2d)
    weight, groups = as_array(convolution.weight), convolution.groups
    if groups > 1:
        per_group, group_out = weight.shape[1], weight.shape[0] // groups
        whole = np.zeros((weight.shape[0], convolution.in_channels, *weight.shape[2:]), np.float32)
        for group in range(groups):
            rows = slice(group * group_out, (group + 1) * group_out)
            whole[rows, group * per_group : (group + 1) * per_group] = weight[rows]
        weight = whole
    return Edges.from_dense(weight, convolution.stride[0], int(convolution.padding[0]))


def depthwise_of(convolution: nn.Module, channels: slice = slice(None)) -> Depthwise:
    """The operation of some channels of a depthwise convolution."""
    convolution = _expect(convolution, nn.Conv2d)
    kernel = as_array(convolution.weight)[channels, 0]
    bias = bias_of(convolution.bias, convolution.out_channels)[channels]
    return Depthwise(kernel.copy(), bias, convolution.stride[0], int(convolution.padding[0]))


def instance_norm_of(norm: nn.Module) -> InstanceNorm:
    """The operation of an instance norm with weights."""
    norm = _expect(norm, nn.InstanceNorm2d)
    return InstanceNorm(as_array(norm.weight).copy(), as_array(norm.bias).copy(), norm.eps)


@torch.no_grad()
def fold_batch_norm(level: Level, norm: nn.Module) -> Level:
    """The level with a batch norm, by its running statistics, folded into its edges and bias."""
    norm, edges = _expect(norm, nn.BatchNorm2d), level.incoming
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    bias = -norm.running_mean.double() * scale
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    factor = scale.cpu().numpy()
    folded = edges.weight * factor[edges.rows][:, None, None]
    return replace(
        level,
        edges=_without_zeros(replace(edges, weight=folded.astype(np.float32))),
        bias=(level.bias * factor + bias.cpu().numpy()).astype(np.float32),
    )


def _without_zeros(edges: Edges) -> Edges:
    """The edges that still act after folding: a norm of weight 0 cuts its node off."""
    acting = edges.weight.any(axis=(1, 2))
    counts = np.bincount(edges.rows[acting], minlength=edges.nodes)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return replace(edges, indptr=indptr, indices=edges.indices[acting], weight=edges.weight[acting])


def layer_graph(edges: Edges, bias: Tensor | None, flat: bool) -> ChannelGraph:
    """The graph of one layer whose output are sums over edges of its input."""
    level = sum_level("output", "", (0,), edges, bias_of(bias, edges.nodes))
    return ChannelGraph((input_level(edges.columns), level), flat=flat)


def _expect(module: nn.Module, kind: type[M]) -> M:
    if not isinstance(module, kind):
        raise TypeError(f"A {kind.__name__} was expected, not a {type(module).__name__}.")
    return module
