"""Trained networks as channel graphs. The only place that knows how a network's modules are wired together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.inspection import evaluating
from models.networks.mobilenetv1_like import MobileNetV1Like, WiredLinear, WiredStage
from models.networks.neural_graph import ContinuousTimeNeuralGraph, DiscreteTimeNeuralGraph, StaticNeuralGraph
from models.sparse.graph import ChannelGraph, Depthwise, Edges, InstanceNorm, Level
from models.wirings.rules import Wiring


def channel_graph(network: nn.Module) -> ChannelGraph:
    """The channel graph of a whole network, or of one wired convolution or linear layer, in evaluation mode.

    Raises ValueError where a part of the network lies outside any channel graph; `channel_graphs` gives its wired
    parts.
    """
    graphs = channel_graphs(network)
    if list(graphs) != [""]:
        raise ValueError(
            f"{type(network).__name__} as a whole is no channel graph; its wired parts are "
            f"{', '.join(graphs) or 'none'}."
        )
    return graphs[""]


def channel_graphs(network: nn.Module) -> dict[str, ChannelGraph]:
    """The channel graphs that make up a network's wired part, by the name of the module that each one computes.

    A network that is a channel graph from the image to the logits has one, under the name "". The continuous-time
    network has two, its stem and the derivative of its state. Of an otherwise dense network every wired convolution
    and linear layer has its own.
    """
    with evaluating(network):
        if isinstance(network, MobileNetV1Like):
            return {"": _mobilenet(network)}
        if isinstance(network, StaticNeuralGraph):
            return {"": _static(network)}
        if isinstance(network, DiscreteTimeNeuralGraph):
            return {"": _discrete_time(network)}
        if isinstance(network, ContinuousTimeNeuralGraph):
            return {"downsample": _stem(network), "step": _derivative(network)}
        return {name: _wired_layer(module) for name, module in network.named_modules() if is_wired_layer(module)}


def is_wired_layer(module: nn.Module) -> bool:
    """A convolution or linear layer whose weight goes through a wiring, and which a channel graph can express."""
    if isinstance(module, WiredLinear):
        return True
    if isinstance(module, nn.Conv2d):
        if type(module).forward is not nn.Conv2d.forward:
            return False
        one = len(set(module.stride)) == 1 and not isinstance(module.padding, str) and len(set(module.padding)) == 1
        if not one or module.padding_mode != "zeros" or set(module.dilation) != {1}:
            return False
    elif not isinstance(module, nn.Linear) or type(module).forward is not nn.Linear.forward:
        return False
    if not parametrize.is_parametrized(module, "weight"):
        return False
    rules = module.parametrizations["weight"].modules()  # type: ignore[union-attr, index]
    return any(isinstance(rule, Wiring) for rule in rules)


def _wired_layer(module: nn.Module) -> ChannelGraph:
    """The graph of one wired convolution or linear layer."""
    if isinstance(module, WiredLinear):
        weight, bias = _array(module.graph.matrix()), None
    else:
        weight, bias = _array(module.weight), module.bias
    if isinstance(module, nn.Conv2d):
        per_group, group_out = weight.shape[1], weight.shape[0] // module.groups
        whole = np.zeros((weight.shape[0], module.in_channels, *weight.shape[2:]), np.float32)
        for group in range(module.groups):
            rows = slice(group * group_out, (group + 1) * group_out)
            whole[rows, group * per_group : (group + 1) * per_group] = weight[rows]
        edges = Edges.from_dense(whole, module.stride[0], int(module.padding[0]))
    else:
        edges = Edges.from_dense(weight)
    level = Level("output", "", _channels(edges.nodes), (0,), edges, _bias(bias, edges.nodes))
    return ChannelGraph((_input(edges.columns), level), flat=not isinstance(module, nn.Conv2d))


def _mobilenet(network: MobileNetV1Like) -> ChannelGraph:
    conv1 = network.conv1
    levels = [_input(conv1.in_channels)]
    edges = Edges.from_dense(_array(conv1.weight), conv1.stride[0], int(conv1.padding[0]))
    bias = np.zeros(edges.nodes, np.float32)
    sources, stage, first_row = (0,), "conv1", 0
    kept = {}
    for s, layer in enumerate(network.layers):
        assert isinstance(layer, WiredStage)
        name = f"layers.{s}"
        kept[f"{name}.graph"] = layer.graph.wiring.kept
        level = _fold(_level(f"{name}.inputs", stage, sources, edges, bias, first_row), layer.norm[0])
        convolution = layer.downsample[0]
        level = replace(level, relu=True, depthwise=_depthwise(convolution), probe=(f"{name}.downsample.0", 0))
        levels.append(level)
        sources, stage = (len(levels) - 1,), f"{name}.graph"
        matrix, width = _array(layer.graph.matrix()), layer.out_channels
        for group in range(layer.blocks - 1):
            rows = slice(group * width, (group + 1) * width)
            edges = Edges.from_dense(matrix[rows, : layer.in_channels + group * width])
            bias = np.zeros(width, np.float32)
            level = _level(f"{name}.hidden.{group}", stage, sources, edges, bias, rows.start)
            level = _fold(level, layer.norm[group + 1])
            levels.append(replace(level, relu=True, depthwise=_depthwise(layer.conv, rows)))
            sources = (*sources, len(levels) - 1)
        edges = Edges.from_dense(matrix[-width:])
        bias, first_row = np.zeros(width, np.float32), len(matrix) - width
    level = _fold(_level("outputs", stage, sources, edges, bias, first_row), network.bn)
    levels.append(replace(level, relu=True, mean=True))
    levels.append(_classifier(network.linear, len(levels) - 1, "linear"))
    if isinstance(network.linear, WiredLinear):
        kept["linear.graph"] = network.linear.graph.wiring.kept
    return ChannelGraph(tuple(levels), kept=kept)


def _classifier(linear: nn.Module, source: int, name: str) -> Level:
    if isinstance(linear, WiredLinear):
        edges, bias = Edges.from_dense(_array(linear.graph.matrix())), None
    else:
        assert isinstance(linear, nn.Linear)
        edges, bias = Edges.from_dense(_array(linear.weight)), linear.bias
    stage = f"{name}.graph" if isinstance(linear, WiredLinear) else name
    return _level(name, stage, (source,), edges, _bias(bias, edges.nodes))


def _stem(network: StaticNeuralGraph | DiscreteTimeNeuralGraph | ContinuousTimeNeuralGraph) -> ChannelGraph:
    """The tiny classifiers' stem: conv, BN, ReLU, depthwise conv, 1x1 conv, BN."""
    first, first_norm, _, spread, mix, mix_norm = network.downsample
    edges = Edges.from_dense(_array(first.weight), first.stride[0], int(first.padding[0]))
    level = _level("downsample.0", "downsample", (0,), edges, _bias(first.bias, edges.nodes))
    level = replace(_fold(level, first_norm), relu=True, depthwise=_depthwise(spread), probe=("downsample.3", 0))
    edges = Edges.from_dense(_array(mix.weight))
    state = _fold(_level("downsample.4", "downsample", (1,), edges, _bias(mix.bias, edges.nodes)), mix_norm)
    return ChannelGraph((_input(first.in_channels), level, replace(state, probe=("downsample", 0))), flat=False)


def _static(network: StaticNeuralGraph) -> ChannelGraph:
    """Block i's nodes are fed by the stem and by every block before it."""
    levels = list(_stem(network).levels)
    stem = len(levels) - 1
    weights = [_array(weight) for weight in network.graph()]
    first_row = [0, *(network.dim - len(weight) for weight in weights)]
    stem_width = levels[stem].nodes
    for i in range(len(weights) + 1):
        last = i == len(weights)
        width = network.feature_dim if last else network.bounds[i + 1] - network.bounds[i]
        rows = slice(first_row[i], first_row[i] + width)
        parts = [np.eye(network.dim, stem_width, dtype=np.float32)[rows]]
        for weight, row in zip(weights[:i], first_row[1:], strict=False):
            parts.append(weight[rows.start - row : rows.stop - row])
        sources = tuple(range(stem, len(levels)))
        edges = Edges.from_dense(np.concatenate(parts, axis=1))
        level = _level(f"block.{i}", "graph", sources, edges, np.zeros(width, np.float32))
        if not last:
            kernels = slice(network.bounds[i], network.bounds[i + 1])
            level = replace(
                level, norm=_instance_norm(network.norm[i]), relu=True, depthwise=_depthwise(network.conv, kernels)
            )
        levels.append(replace(level, channels=np.arange(rows.start, rows.stop, dtype=np.int64)))
    levels[-1] = replace(levels[-1], mean=True, window=_read_out(network))
    levels.append(_classifier(network.fc, len(levels) - 1, "fc"))
    return ChannelGraph(tuple(levels), kept={"graph": network.graph.wiring.kept})


def _discrete_time(network: DiscreteTimeNeuralGraph) -> ChannelGraph:
    """The same edges again and again; the last time only those that end in the channels read out."""
    stem, step = _stem(network), network.step
    weight, norm = _array(step.graph.matrix()), _instance_norm(step.norm)
    depthwise = _depthwise(step.conv)
    idle = network.dim - stem.levels[-1].nodes
    state = stem.levels[-1]
    assert state.edges is not None
    indptr = np.concatenate([state.edges.indptr, np.full(idle, state.edges.count)])
    start = _level(
        "step.0", "downsample", state.sources, replace(state.edges, indptr=indptr), np.pad(state.bias, (0, idle))
    )
    levels = [*stem.levels[:-1], replace(start, relu=True, depthwise=depthwise, probe=("step.conv", 0))]
    for i in range(1, network.layers + 1):
        level = _level(
            f"step.{i}",
            "step.graph",
            (len(levels) - 1,),
            Edges.from_dense(weight),
            np.zeros(network.dim, np.float32),
        )
        level = replace(level, norm=norm, relu=True, depthwise=depthwise, probe=("step.conv", i))
        levels.append(level)
    read = np.arange(network.dim) >= network.dim - network.feature_dim
    last = replace(level, relu=False, depthwise=None, mean=True, window=_read_out(network), probe=None)
    levels[-1] = last.select(read, np.ones(network.dim, dtype=bool))
    levels.append(_classifier(network.fc, len(levels) - 1, "fc"))
    return ChannelGraph(tuple(levels), kept={"step.graph": step.graph.wiring.kept})


def _derivative(network: ContinuousTimeNeuralGraph) -> ChannelGraph:
    """x' of the state x. No node is removed: the solver's step size follows the error of them all."""
    step, dim = network.step, network.dim
    bias = np.zeros(dim, np.float32)
    state = _level("state", "step.conv", (0,), Edges.from_dense(np.eye(dim)), bias)
    state = replace(state, relu=True, depthwise=_depthwise(step.conv), probe=("conv", 0))
    level = _level("derivative", "step.graph", (1,), Edges.from_dense(_array(step.graph.matrix())), bias)
    levels = (_input(dim), state, replace(level, norm=_instance_norm(step.norm)))
    return ChannelGraph(levels, flat=False, kept={"step.graph": step.graph.wiring.kept}, removable=False)


def _read_out(network: StaticNeuralGraph | DiscreteTimeNeuralGraph) -> tuple[int, int, int, int]:
    """The rows and columns of the state that the features are the mean of."""
    centre = network._centre
    return centre.start, centre.stop, centre.start, centre.stop


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().cpu().numpy()


def _channels(nodes: int) -> NDArray[np.int64]:
    return np.arange(nodes, dtype=np.int64)


def _bias(bias: Tensor | None, nodes: int) -> NDArray[np.float32]:
    return np.zeros(nodes, np.float32) if bias is None else _array(bias).copy()


def _input(channels: int) -> Level:
    return Level("input", "", _channels(channels), bias=np.zeros(channels, np.float32))


def _level(name: str, stage: str, sources: tuple[int, ...], edges: Edges, bias: NDArray, first_row: int = 0) -> Level:
    return Level(name, stage, _channels(edges.nodes) + first_row, sources, edges, bias)


def _fold(level: Level, norm: nn.BatchNorm2d) -> Level:
    """The level with a batch norm folded into its edges and bias."""
    assert level.edges is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    bias = -norm.running_mean.double() * scale
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    factor = scale.cpu().numpy()
    folded = level.edges.weight * factor[level.edges.rows][:, None, None]
    return replace(
        level,
        edges=_without_zeros(replace(level.edges, weight=folded.astype(np.float32))),
        bias=(level.bias * factor + bias.cpu().numpy()).astype(np.float32),
    )


def _without_zeros(edges: Edges) -> Edges:
    """The edges that still act after folding: a norm of weight 0 cuts its node off."""
    acting = edges.weight.any(axis=(1, 2))
    counts = np.bincount(edges.rows[acting], minlength=edges.nodes)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return replace(edges, indptr=indptr, indices=edges.indices[acting], weight=edges.weight[acting])


def _depthwise(convolution: nn.Conv2d, channels: slice = slice(None)) -> Depthwise:
    kernel = _array(convolution.weight)[channels, 0]
    return Depthwise(
        kernel.copy(),
        _bias(convolution.bias, convolution.out_channels)[channels],
        convolution.stride[0],
        int(convolution.padding[0]),
    )


def _instance_norm(norm: nn.InstanceNorm2d) -> InstanceNorm:
    return InstanceNorm(_array(norm.weight).copy(), _array(norm.bias).copy(), norm.eps)
