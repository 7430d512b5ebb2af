"""MobileNetV1 with its layers relaxed to graphs of channels (arXiv 1906.00586, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.edge_sums import DenseSums, EdgeSums, SparseSums, sparse_sums_pay
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

    def forward(self, x: Tensor) -> Tensor:
        edges = self.graph()
        sums: type[EdgeSums] = SparseSums if sparse_sums_pay(edges, x) else DenseSums
        sources = sums(self.downsample(F.relu(self.norm[0](x))))
        for group in range(self.blocks - 1):
            planes = F.relu(self.norm[group + 1](sources.sum(edges[group])))
            kernel = self.conv.weight[group * self.out_channels : (group + 1) * self.out_channels]
            sources.append(F.conv2d(planes, kernel, padding=1, groups=self.out_channels))
        return sources.sum(edges[-1])


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
        x = self.layers(self.conv1(x))
        x = F.relu(self.bn(x)).mean(dim=(2, 3))
        return self.linear(x)


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)
