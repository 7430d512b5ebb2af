"""What the 2019 MicroNet challenge counts of a network: stored values, bitmasks, multiplications, additions.

The rules: micronet-challenge.github.io/scoring_and_submission, and the counter in google-research/micronet_challenge.
Zeros of sparse weights are neither stored nor multiplied with, a bitmask of the full shape says where they are; a dot
product of n values is n multiplications and n - 1 additions, a bias one more, a ReLU one multiplication a value. Batch
norms of channel graphs are folded into their edges, so that a bias remains; others are a scale and a shift.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode

from models.inspection import evaluating
from models.networks.planes import torch_form
from models.protocols import HasChannelGraphs, HasNodeGraphs, HasPlainForm
from models.sparse import ChannelGraph, channel_graphs
from models.sparse.graph import Level, Size


@dataclass(frozen=True)
class Count:
    """The counts of a network or a part of it, each in numbers of its own kind, for one image.

    Attributes:
        values: of weights that are not zero; all where storing zeros takes less than a bitmask.
        bitmask_bits: that say which weights these are.
        norms_and_biases: their values, and planes that stand in for constant nodes.
        multiplications, additions: of one image.
    """

    values: int = 0
    bitmask_bits: int = 0
    norms_and_biases: int = 0
    multiplications: int = 0
    additions: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def storage(self, bits: int) -> float:
        """Units of 32 bits, with values of so many bits."""
        return (self.values + self.norms_and_biases) * bits / 32 + self.bitmask_bits / 32

    def operations(self, bits: int) -> float:
        """Multiplications and additions on operands of so many bits; 32 bits count one."""
        return (self.multiplications + self.additions) * bits / 32


def count(network: nn.Module, image_size: int, in_channels: int) -> Count:
    """What a network takes for one image of in_channels x image_size x image_size.

    Raises:
        ValueError: its steps depend on the image; or the image is too small.
    """
    parts = channel_graphs(network)
    if "" in parts:
        return graph_count(parts[""], (image_size, image_size))
    if isinstance(network, HasChannelGraphs):
        raise ValueError(
            f"The steps of {type(network).__name__} depend on the image, so that MicroNet has no count of it"
        )
    images = torch.randn(1, in_channels, image_size, image_size)
    if isinstance(network, HasPlainForm):
        stages = network.node_graphs().values() if isinstance(network, HasNodeGraphs) else []
        own = sum(int(((stage.weight != 0) & (stage.weight != 1)).sum()) for stage in stages)
        return layers_count(network.plain_form().eval(), images) + Count(values=own)
    return layers_count(network, images)


def weights_count(weights: int, shape: int) -> Count:
    """Storage of so many weights that are not zero in a tensor of so many."""
    sparse = weights < shape and weights + shape / 32 < shape
    return Count(values=weights, bitmask_bits=shape) if sparse else Count(values=shape)


# ------------------------------------------------------------------------------------------------- channel graphs


def graph_count(graph: ChannelGraph, size: Size) -> Count:
    """Of a channel graph without its dead nodes. Weights that several levels share are stored once."""
    pruned = graph.pruned(size)
    total = _stored_weights(graph) + _stored_operations(pruned)
    done: dict[str, NDArray[np.int64]] = {}
    for level, (sums, _) in zip(pruned.levels, pruned.sizes(size), strict=True):
        if level.sources:
            total += _sums(pruned, level, prod(sums), done) + _node_operations(level, sums)
    return total


def _stored_weights(graph: ChannelGraph) -> Count:
    """Edges between live nodes by stage; levels of a stage may repeat rows of its matrix, which are stored once."""
    total = Count()
    for stage in dict.fromkeys(level.stage for level in graph.levels[1:]):
        edges: dict[int, int] = {}
        widths: dict[int, int] = {}
        for level, alive in zip(graph.levels, graph.liveness, strict=True):
            if level.stage != stage or not level.sources:
                continue
            live = np.concatenate([graph.liveness[source].live for source in level.sources])
            acting = alive.live[level.incoming.rows] & live[level.incoming.indices]
            rows, columns = level.channels[level.incoming.rows[acting]], level.incoming.indices[acting]
            taps = np.count_nonzero(level.incoming.weight[acting], axis=(1, 2))
            edges |= dict(zip((rows * (1 << 32) + columns).tolist(), taps.tolist(), strict=True))
            width = int(live.sum()) * prod(level.incoming.kernel)
            for row in level.channels[alive.live].tolist():
                widths[row] = max(widths.get(row, 0), width)
        total += weights_count(sum(edges.values()), sum(widths.values()))
    return total


def _stored_operations(pruned: ChannelGraph) -> Count:
    """Depthwise kernels, norms and biases; those of a node that is computed several times are stored once."""
    kernels: dict[tuple[int, bytes], int] = {}
    norms: set[tuple[str, int]] = set()
    others = 0
    for level in pruned.levels:
        others += int(np.count_nonzero(level.bias)) + (0 if level.constant is None else level.constant.planes.size)
        if level.norm is not None:
            norms |= {(level.stage, channel) for channel in level.channels.tolist()}
        if level.depthwise is not None:
            others += int(np.count_nonzero(level.depthwise.bias))
            for channel, kernel in zip(level.channels.tolist(), level.depthwise.kernel, strict=True):
                kernels[channel, kernel.tobytes()] = kernel.size
    return Count(values=sum(kernels.values()), norms_and_biases=others + 2 * len(norms))


def _sums(graph: ChannelGraph, level: Level, pixels: int, done: dict[str, NDArray[np.int64]]) -> Count:
    """The sums of a level over its edges; a product that another level of the stage has made is not made again."""
    edges = level.incoming
    source = np.concatenate([np.full(graph.levels[i].nodes, i) for i in level.sources])
    row = level.channels[edges.rows].astype(np.int64)
    made = done.get(level.stage, np.zeros(0, np.int64))
    # a row of the matrix, the level that it reads from, and the node there
    node = np.concatenate([np.arange(graph.levels[i].nodes) for i in level.sources])
    key = (row * len(graph.levels) + source[edges.indices]) * (1 << 32) + node[edges.indices]
    again = np.isin(key, made)
    taps = np.count_nonzero(edges.weight, axis=(1, 2))
    begun = set(edges.rows[again].tolist())
    fresh = {row for row, new in zip(edges.rows.tolist(), (~again).tolist(), strict=True) if new} - begun
    done[level.stage] = np.concatenate([made, key])
    products = int(taps[~again].sum())
    biases = int(np.count_nonzero(level.bias)) + (0 if level.constant is None else len(level.constant.nodes))
    return Count(multiplications=products * pixels, additions=(products - len(fresh) + biases) * pixels)


def _node_operations(level: Level, sums: Size) -> Count:
    """What the nodes of a level do with their sums."""
    nodes, pixels = level.nodes, prod(sums)
    multiplications = additions = 0
    if level.norm is not None:  # two means, a root, a quotient, and a scale for each value; as many shifts
        multiplications += nodes * (2 * pixels + 5)
        additions += nodes * (4 * pixels - 1)
    if level.relu:
        multiplications += nodes * pixels
    out = level.convolved_size(sums)
    if level.depthwise is not None:
        taps, biases = level.depthwise.kernel[0].size, int(np.count_nonzero(level.depthwise.bias))
        multiplications += nodes * taps * prod(out)
        additions += (nodes * (taps - 1) + biases) * prod(out)
    if level.mean:
        top, bottom, left, right = level.window or (0, out[0], 0, out[1])
        multiplications += nodes
        additions += nodes * ((bottom - top) * (right - left) - 1)
    return Count(multiplications=multiplications, additions=additions)


# ------------------------------------------------------------------------------------------------- layers


def layers_count(network: nn.Module, images: Tensor) -> Count:
    """Of a network of plain layers, without channel graph: its parameters, and torch's operations for one image."""
    counter = _OperationCounter()
    with evaluating(network), torch_form(), parametrize.cached():
        stored = _stored_layers(network)  # with the weights of wired layers, which are kept for the run that follows
        with counter:
            network(images.to(next(network.parameters())))
    return stored + counter.total


def _stored_layers(network: nn.Module) -> Count:
    total = Count()
    for path, module in network.named_modules():
        if "parametrizations" in path.split("."):
            continue
        own = dict(module.named_parameters(recurse=False))
        if isinstance(module, nn.Conv2d | nn.Linear):
            own.pop("weight", None)
            total += weights_count(int(module.weight.count_nonzero()), module.weight.numel())
        total += Count(norms_and_biases=sum(parameter.numel() for parameter in own.values()))
    return total


class _OperationCounter(TorchDispatchMode):
    """Adds up what torch's operations take."""

    def __init__(self) -> None:
        super().__init__()
        self.total = Count()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        cost = _COSTS.get(func.overloadpacket)
        if cost is not None:
            self.total += cost(args, result[0] if isinstance(result, tuple | list) else result)
        return result


def _convolution(args: tuple, result: Tensor) -> Count:
    weight, bias = args[1], args[2]
    each = weight.flatten(1).count_nonzero(dim=1)
    return _products(each, bias is not None, result.numel() // len(weight))


def _linear(args: tuple, result: Tensor) -> Count:
    return _products(args[2].count_nonzero(dim=0), True, result.numel() // args[2].shape[1])


def _products(each: Tensor, bias: bool, times: int) -> Count:
    """Dot products of so many values each, so many times."""
    products, sums = int(each.sum()), int((each > 0).sum())
    return Count(multiplications=products * times, additions=(products - sums + bias * len(each)) * times)


def _mean(args: tuple, result: Tensor) -> Count:
    return Count(multiplications=result.numel(), additions=args[0].numel() - result.numel())


def _pool(args: tuple, result: Tensor) -> Count:
    window = args[1] if len(args) > 1 else [1]
    taps = prod(window) if len(window) > 1 else window[0] ** 2
    return Count(multiplications=result.numel(), additions=(taps - 1) * result.numel())


def _one_multiplication(args: tuple, result: Tensor) -> Count:
    return Count(multiplications=result.numel())


def _one_addition(args: tuple, result: Tensor) -> Count:
    return Count(additions=result.numel())


def _scale_and_shift(args: tuple, result: Tensor) -> Count:
    return Count(multiplications=result.numel(), additions=result.numel())


_ATEN = torch.ops.aten
_COSTS: dict[Any, Callable[[tuple, Tensor], Count]] = {
    _ATEN.convolution: _convolution,
    _ATEN.addmm: _linear,
    _ATEN.native_batch_norm: _scale_and_shift,
    _ATEN.relu: _one_multiplication,
    _ATEN.relu_: _one_multiplication,
    _ATEN.mul: _one_multiplication,
    _ATEN.mul_: _one_multiplication,
    _ATEN.div: _one_multiplication,
    _ATEN.add: _one_addition,
    _ATEN.add_: _one_addition,
    _ATEN.mean: _mean,
    _ATEN.avg_pool2d: _pool,
}
