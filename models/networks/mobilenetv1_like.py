"""MobileNetV1 with its layers relaxed to graphs of channels (arXiv 1906.00586, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.planes import AnyPlanes, enter, leave, make_sources, normalized
from models.sparse.graph import ChannelGraph, Edges, Level
from models.sparse.layers import (
    as_array,
    convolution_edges,
    depthwise_of,
    fold_batch_norm,
    input_level,
    layer_graph,
    linear_level,
    sum_level,
)
from models.wirings.graph import Graph
from models.wirings.layout import Block, EdgeLayout
from models.wirings.registry import make_wiring

STAGES = ((32, 64, 1, 1), (64, 128, 2, 2), (128, 256, 2, 2), (256, 512, 2, 6), (512, 1024, 2, 2))
"""in channels, out channels, stride, blocks of each stage."""


def stage_layout(in_channels: int, out_channels: int, blocks: int) -> EdgeLayout:
    """The edges of a stage that can act: each group of nodes is fed by the input nodes and the groups before it."""
    rectangles = tuple(
        Block(i * out_channels, (i + 1) * out_channels, 0, in_channels + i * out_channels) for i in range(blocks)
    )
    return EdgeLayout(blocks * out_channels, in_channels + (blocks - 1) * out_channels, rectangles)


def stage_prune_rate(in_channels: int, out_channels: int, blocks: int, prune_rate: float) -> float:
    """The share of the stage's matrix to remove for the edge budget of a MobileNet of width 1 - prune_rate."""
    width = 1 - prune_rate
    edges = in_channels * out_channels * width * width
    for _ in range(blocks - 1):
        edges += out_channels * out_channels * width * width
    entries = (in_channels + out_channels * (blocks - 1)) * out_channels * blocks
    return 1 - edges / entries


class WiredStage(nn.Module):
    """BN, ReLU, 3x3 depthwise conv at every input and hidden node; hidden and output nodes sum their edges.

    Input [batch, in_channels, height, width]; output [batch, out_channels, ceil(height/stride), ceil(width/stride)].

    Args:
        in_channels: input nodes.
        out_channels: output nodes, and nodes in each of the blocks - 1 hidden groups.
        stride: of the input nodes' depthwise conv.
        blocks: hidden groups and the output group together.
        wiring: name of the rule.
        prune_rate: of the network; the stage's own follows from `stage_prune_rate`.
        options: of the rule, by their names.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        blocks: int,
        wiring: str,
        prune_rate: float,
        **options: Any,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride
        self.blocks = blocks
        hidden = out_channels * (blocks - 1)
        self.downsample = nn.Sequential(_depthwise(in_channels, stride))
        if hidden:
            self.conv = _depthwise(hidden, 1)
        self.norm = nn.ModuleList([nn.BatchNorm2d(in_channels)])
        self.norm.extend(nn.BatchNorm2d(out_channels) for _ in range(blocks - 1))
        layout = stage_layout(in_channels, out_channels, blocks)
        rate = stage_prune_rate(in_channels, out_channels, blocks, prune_rate)
        self.graph = Graph(layout, make_wiring(wiring, layout, rate, **options))

    def forward(self, x: AnyPlanes) -> AnyPlanes:
        edges = self.graph()
        columns = self.in_channels + self.out_channels * (self.blocks - 1)
        sources = make_sources(x, columns, edges, self.graph, self.stride)
        sources.grow(x, self.norm[0], cast("nn.Conv2d", self.downsample[0]))
        for group in range(self.blocks - 1):
            kernels = slice(group * self.out_channels, (group + 1) * self.out_channels)
            sources.grow(sources.sum(edges[group]), self.norm[group + 1], self.conv, kernels)
        return sources.sum(edges[-1])

    def hidden_levels(self, name: str, inputs: tuple[int, ...]) -> list[Level]:
        """The hidden groups of the channel graph: each is fed by the stage's inputs and by the groups before it.

        Args:
            name: of the stage in its network.
            inputs: the level of the stage's inputs, by its index; the hidden ones follow.
        """
        matrix, levels = as_array(self.graph.matrix()), []
        for group in range(self.blocks - 1):
            rows = slice(group * self.out_channels, (group + 1) * self.out_channels)
            edges = Edges.from_dense(matrix[rows, : self.in_channels + group * self.out_channels])
            sources = (*inputs, *range(inputs[-1] + 1, inputs[-1] + 1 + group))
            level = sum_level(f"{name}.hidden.{group}", f"{name}.graph", sources, edges, None, rows.start)
            level = fold_batch_norm(level, self.norm[group + 1])
            levels.append(replace(level, relu=True, depthwise=depthwise_of(self.conv, rows)))
        return levels


class WiredLinear(nn.Module):
    """A linear layer without bias whose edges are wired: [batch, in_features] to [batch, out_features]."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        wiring: str,
        prune_rate: float,
        **options: Any,
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        layout = EdgeLayout.full(out_features, in_features)
        self.graph = Graph(layout, make_wiring(wiring, layout, prune_rate, **options))

    def forward(self, x: Tensor) -> Tensor:
        (weight,) = self.graph()
        return F.linear(x, weight)

    def edges(self) -> Edges:
        """The edges that act."""
        return Edges.from_dense(as_array(self.graph.matrix()))

    def channel_graph(self) -> ChannelGraph:
        """The layer on its own."""
        return layer_graph(self.edges(), None, flat=True)


class MobileNetV1Like(nn.Module):
    """Conv 3x3, five wired stages, BN, ReLU, global average pool, linear.

    Input [batch, in_channels, height, width]; output [batch, classes].

    Args:
        classes: number of classes.
        image_size: pixels; the first conv has stride 1 up to 64, stride 2 above.
        wiring: name of the rule of every stage (`models.wirings.registry.WIRINGS`).
        prune_rate: share of the channels that the MobileNet of equal edge budget would lack, 0 <= prune_rate < 1.
        small: wire the classifier as well, at `prune_rate` itself.
        in_channels: channels of the images.
        stages: in channels, out channels, stride and blocks of each stage.
        options: of the rule, by their names.

    Raises:
        ValueError: a rule that there is not, or an option that it does not take.
    """

    def __init__(
        self,
        classes: int,
        image_size: int,
        wiring: str = "complete",
        prune_rate: float = 0.0,
        small: bool = False,
        in_channels: int = 3,
        stages: Sequence[tuple[int, int, int, int]] = STAGES,
        **options: Any,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        first, last = stages[0][0], stages[-1][1]
        stride = 1 if image_size <= 64 else 2
        self.conv1 = nn.Conv2d(in_channels, first, kernel_size=3, stride=stride, padding=1, bias=False)
        self.layers = nn.Sequential(*(WiredStage(*stage, wiring, prune_rate, **options) for stage in stages))
        self.bn = nn.BatchNorm2d(last)
        if small:
            self.linear: nn.Module = WiredLinear(last, classes, wiring, prune_rate, **options)
        else:
            self.linear = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)  # 1x1 convs run near the processor's peak in it
        x = self.layers(enter(self.conv1(x), self))
        x = leave(normalized(x, self.bn, relu=True))
        return self.linear(x.mean(dim=(2, 3)))

    def channel_graphs(self) -> dict[str, ChannelGraph]:
        """One graph from the image to the logits: of each stage the inputs and the hidden groups, then the outputs."""
        levels = [input_level(self.conv1.in_channels)]
        sources, stage, edges, first_row = (0,), "conv1", convolution_edges(self.conv1), 0
        kept: dict[str, int] = {}
        for s, layer in enumerate(self.layers):
            assert isinstance(layer, WiredStage)
            name = f"layers.{s}"
            inputs = fold_batch_norm(sum_level(f"{name}.inputs", stage, sources, edges, None, first_row), layer.norm[0])
            depthwise = depthwise_of(layer.downsample[0])
            levels.append(replace(inputs, relu=True, depthwise=depthwise, probe=(f"{name}.downsample.0", 0)))
            sources, stage = (len(levels) - 1,), f"{name}.graph"
            kept[stage] = layer.graph.wiring.kept
            hidden = layer.hidden_levels(name, sources)
            sources = (*sources, *range(len(levels), len(levels) + len(hidden)))
            levels += hidden
            matrix = as_array(layer.graph.matrix())
            edges, first_row = Edges.from_dense(matrix[-layer.out_channels :]), len(matrix) - layer.out_channels
        outputs = fold_batch_norm(sum_level("outputs", stage, sources, edges, None, first_row), self.bn)
        levels += [replace(outputs, relu=True, mean=True), self._classifier_level(len(levels))]
        if isinstance(self.linear, WiredLinear):
            kept["linear.graph"] = self.linear.graph.wiring.kept
        return {"": ChannelGraph(tuple(levels), kept=kept)}

    def _classifier_level(self, source: int) -> Level:
        if isinstance(self.linear, WiredLinear):
            return sum_level("linear", "linear.graph", (source,), self.linear.edges())
        return linear_level("linear", source, self.linear)

    def count_2019(self, image_size: int) -> tuple[int, int]:
        """Parameters and multiply-adds as the code of 2019 counted them, at any image size.

        Edges count as the budget, a real number, whether or not they act; nodes count where they have an output edge
        in their own stage; the last pool and the classifier count the last stage's outputs that have an input edge.
        """
        side = -(-image_size // self.conv1.stride[0])
        parameters = multiply_adds = 0
        alive = 0
        for index, stage in enumerate(self.layers):
            assert isinstance(stage, WiredStage)
            acting = stage.graph.matrix() != 0
            with_output, with_input = acting.any(dim=0), acting.any(dim=1)
            if index == 0:
                stem = 9 * self.conv1.in_channels * int(with_output[: stage.in_channels].sum())
                parameters, multiply_adds = stem, stem * side * side
            side = -(-side // stage.stride)
            cost = 9 * int(with_output.sum()) + (1 - stage.graph.wiring.prune_rate) * acting.numel()
            parameters += int(cost)
            multiply_adds += int(cost * side * side)
            alive = int(with_input[-stage.out_channels :].sum())
        linear = self.linear
        if isinstance(linear, WiredLinear):
            classifier = int(linear.in_features * linear.out_features * (1 - linear.graph.wiring.prune_rate))
        else:
            assert isinstance(linear, nn.Linear)
            classifier = alive * linear.out_features
        return parameters + classifier, multiply_adds + side * side * alive + classifier


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)
