"""Other forms of a randomly wired network in evaluation, for export: node by node, and as one channel graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.node_graphs import NodeGraph
from models.sparse.graph import ChannelGraph, Edges, Level
from models.sparse.layers import (
    convolution_level,
    depthwise_of,
    fold_batch_norm,
    input_level,
    linear_level,
    sum_level,
)

if TYPE_CHECKING:
    from models.networks.randwire import RandomStage, RandWire


def stage_graphs(network: RandWire) -> dict[str, NodeGraph]:
    """The graph of each random stage by its module's name, with the weights of its edges."""
    found = {}
    for i, module in enumerate(network.stages):
        stage = cast("RandomStage", module)
        order = torch.tensor(stage.order, device=stage.at.device)
        edges = torch.stack([order[stage.at[:, 1]], order[stage.at[:, 0]]], dim=1)
        weight = stage.edge_weights().detach()
        found[f"stages.{i}"] = NodeGraph(stage.graph.name or f"stage {i}", stage.graph.levels, edges, weight)
    return found


def acting_sources(stage: RandomStage) -> list[list[tuple[int, float]]]:
    """Of each slot of a stage's plan the slots that feed it with their weights; none: it takes the stage's input.

    A node that has lost all its edges keeps one of weight 0.
    """
    ends, weights = stage.at.tolist(), stage.edge_weights().detach().tolist()
    known = {(to, start): weight for (to, start), weight in zip(ends, weights, strict=True)}
    found = []
    for to, starts in enumerate(stage.plan.sources):
        fed = [(start, known[to, start]) for start in starts]
        found.append([source for source in fed if source[1]] or fed[:1])
    return found


class PlainStage(nn.Module):
    """A random stage whose weights are numbers: no branch depends on a tensor. Input and output as `RandomStage`."""

    def __init__(self, stage: RandomStage) -> None:
        super().__init__()
        self.sources = acting_sources(stage)
        self.ends = [slot for slot, targets in enumerate(stage.plan.targets) if not targets]
        self.nodes = nn.ModuleList(stage.nodes[node] for node in stage.order)
        self.share = 1 / len(self.ends) if stage.regime.stage_output == "mean" else 1.0

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        states: list[Tensor] = []
        for sources, node in zip(self.sources, self.nodes, strict=True):
            if sources:
                states.append(node(F.relu(reduce(torch.add, (states[start] * weight for start, weight in sources)))))
            else:
                states.append(node(x))
        return reduce(torch.add, (states[end] for end in self.ends)) * self.share


class PlainRandWire(nn.Module):
    """A randomly wired network in evaluation. Input and output as `RandWire`, whose layers it shares."""

    def __init__(self, network: RandWire) -> None:
        super().__init__()
        self.conv1, self.conv2 = network.conv1, network.conv2
        self.stages = nn.Sequential(*(PlainStage(cast("RandomStage", stage)) for stage in network.stages))
        self.conv_last, self.norm_last, self.linear = network.conv_last, network.norm_last, network.linear

    def forward(self, images: Tensor) -> Tensor:
        x = self.stages(self.conv2(self.conv1(images)))
        x = self.norm_last(self.conv_last(F.relu(x))).mean(dim=(2, 3))
        return self.linear(x)


def whole_graph(network: RandWire) -> ChannelGraph:
    """One channel graph from the image to the logits; the edges between nodes are one for every channel."""
    levels = [input_level(_first_convolution(network.conv1).in_channels)]
    _add_stem(levels, "conv1", network.conv1)
    if len(network.conv2):
        _add_stem(levels, "conv2", network.conv2)
    for number, stage in enumerate(network.stages):
        _add_stage(levels, f"stages.{number}", cast("RandomStage", stage))
    levels[-1] = replace(levels[-1], relu=True)
    last = convolution_level("conv_last", "conv_last", len(levels) - 1, network.conv_last)
    levels.append(replace(fold_batch_norm(last, network.norm_last), mean=True))
    levels.append(linear_level("linear", len(levels) - 1, network.linear))
    return ChannelGraph(tuple(levels))


def _first_convolution(stem: nn.Module) -> nn.Conv2d:
    return next(module for module in stem.modules() if isinstance(module, nn.Conv2d))


def _add_stem(levels: list[Level], name: str, stem: nn.Sequential) -> None:
    """A convolution or a separable one, and a batch norm, perhaps with a ReLU ahead."""
    for module in stem:
        if isinstance(module, nn.ReLU):
            levels[-1] = replace(levels[-1], relu=True)
        elif isinstance(module, nn.BatchNorm2d):
            levels[-1] = fold_batch_norm(levels[-1], module)
        elif isinstance(module, nn.Conv2d):
            levels.append(convolution_level(name, name, len(levels) - 1, module))
        else:
            _add_separable(levels, name, [(len(levels) - 1, 1.0)], module, relu=False)


def _add_stage(levels: list[Level], name: str, stage: RandomStage) -> None:
    levels[-1] = replace(levels[-1], relu=True)
    given = len(levels) - 1
    state: dict[int, int] = {}
    for slot, sources in enumerate(acting_sources(stage)):
        node = cast("nn.Sequential", stage.nodes[stage.order[slot]])
        fed = [(state[start], weight) for start, weight in sources] or [(given, 1.0)]
        _add_separable(levels, f"{name}.{stage.order[slot]}", fed, node[0], relu=bool(sources))
        levels[-1] = fold_batch_norm(levels[-1], node[1])
        state[slot] = len(levels) - 1
    ends = [slot for slot, targets in enumerate(stage.plan.targets) if not targets]
    share = 1 / len(ends) if stage.regime.stage_output == "mean" else 1.0
    levels.append(_weighted(levels, f"{name}.out", [(state[end], share) for end in ends]))


def _add_separable(
    levels: list[Level], name: str, sources: Sequence[tuple[int, float]], separable: nn.Module, relu: bool
) -> None:
    """The weighted sum of some levels, perhaps a ReLU, a depthwise convolution; then a 1x1 convolution."""
    spread, mix = (cast("nn.Conv2d", getattr(separable, part)) for part in ("depthwise", "pointwise"))
    summed = _weighted(levels, f"{name}.sum", sources)
    levels.append(replace(summed, relu=relu, depthwise=depthwise_of(spread)))
    levels.append(convolution_level(name, name, len(levels) - 1, mix))


def _weighted(levels: list[Level], name: str, sources: Sequence[tuple[int, float]]) -> Level:
    """Sums of levels of the same width, channel by channel."""
    sources = sorted(sources)
    width, count = levels[sources[0][0]].nodes, len(sources)
    acting = [(place, weight) for place, (_, weight) in enumerate(sources) if weight]
    columns = np.array([place for place, _ in acting], np.int32) * width
    weights = np.array([weight for _, weight in acting], np.float32)
    edges = Edges(
        columns=count * width,
        indptr=np.arange(width + 1, dtype=np.int64) * len(acting),
        indices=(np.arange(width, dtype=np.int32)[:, None] + columns).reshape(-1),
        weight=np.tile(weights, width)[:, None, None],
    )
    return sum_level(name, name.removesuffix(".sum"), tuple(source for source, _ in sources), edges)
