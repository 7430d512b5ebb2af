"""The wired networks written plainly, as the code of 2019 did, around the parameters of ours.

Whole matrices, entries that can never act held at zero, every entry sorted at every use of a weight, dense masked
1x1 convolutions, torch's operations.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchdiffeq import odeint

from models.networks.mobilenetv1_like import MobileNetV1Like, WiredStage
from models.networks.neural_graph import ContinuousTimeNeuralGraph, DiscreteTimeNeuralGraph, StaticNeuralGraph
from models.wirings.fixed import Random
from models.wirings.graph import Graph


class FullSort(torch.autograd.Function):
    """Zero the smallest entries, found by sorting all of them; straight-through gradient."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, prune_rate: float) -> Tensor:
        effective = weight.clone()
        order = weight.abs().flatten().sort().indices
        effective.view(-1)[order[: int(prune_rate * weight.numel())]] = 0
        return effective

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class PlainGraph(nn.Module):
    """The whole matrix [rows, columns, 1, 1] of a graph; called, its effective weight.

    Attributes:
        mask: of the edges that act, where those are fixed.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.prune_rate = graph.wiring.prune_rate
        self.weight = nn.Parameter(graph.layout.to_matrix(graph.weight.detach())[:, :, None, None].clone())
        fixed = isinstance(graph.wiring, Random)
        self.mask = graph.layout.to_matrix(graph.acting())[:, :, None, None].clone() if fixed else None

    def forward(self) -> Tensor:
        return FullSort.apply(self.weight, self.prune_rate) if self.mask is None else self.weight * self.mask


class PlainStage(nn.Module):
    """A stage of the MobileNet-like network, run group by group of source nodes."""

    def __init__(self, stage: WiredStage) -> None:
        super().__init__()
        self.norm, self.downsample, self.graph = stage.norm, stage.downsample, PlainGraph(stage.graph)
        if stage.blocks > 1:
            self.conv = stage.conv
        self.in_channels, self.out_channels, self.blocks = stage.in_channels, stage.out_channels, stage.blocks

    def forward(self, x: Tensor) -> Tensor:
        weight = self.graph()
        x = F.conv2d(self.downsample(F.relu(self.norm[0](x))), weight[:, : self.in_channels])
        for group in range(self.blocks - 1):
            nodes = slice(group * self.out_channels, (group + 1) * self.out_channels)
            planes = F.relu(self.norm[group + 1](x[:, : self.out_channels]))
            planes = F.conv2d(planes, self.conv.weight[nodes], padding=1, groups=self.out_channels)
            columns = slice(self.in_channels + nodes.start, self.in_channels + nodes.stop)
            x = x[:, self.out_channels :] + F.conv2d(planes, weight[nodes.stop :, columns])
        return x


class PlainMobileNet(nn.Module):
    def __init__(self, network: MobileNetV1Like) -> None:
        super().__init__()
        self.conv1, self.bn, self.linear = network.conv1, network.bn, network.linear
        self.layers = nn.Sequential(*(PlainStage(stage) for stage in network.layers))

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(F.relu(self.bn(self.layers(self.conv1(images)))).mean(dim=(2, 3)))


class _PlainTiny(nn.Module):
    """Stem and read-out of the tiny classifiers."""

    def __init__(self, network: StaticNeuralGraph | DiscreteTimeNeuralGraph | ContinuousTimeNeuralGraph) -> None:
        super().__init__()
        self.downsample, self.fc = network.downsample, network.fc
        self.dim, self.feature_dim = network.dim, network.feature_dim
        self.window = slice(*network.window[:2])

    def start(self, images: Tensor) -> Tensor:
        stem = self.downsample(images)
        return F.pad(stem, (0, 0, 0, 0, 0, self.dim - stem.shape[1]))

    def read_out(self, state: Tensor) -> Tensor:
        return self.fc(state[:, -self.feature_dim :, self.window, self.window].mean(dim=(2, 3)))


class PlainStatic(_PlainTiny):
    def __init__(self, network: StaticNeuralGraph) -> None:
        super().__init__(network)
        self.norm, self.conv, self.graph = network.norm, network.conv, PlainGraph(network.graph)
        self.bounds = network.bounds

    def forward(self, images: Tensor) -> Tensor:
        state, weight = self.start(images), self.graph()
        for norm, (start, stop) in zip(self.norm, pairwise(self.bounds), strict=True):
            planes = F.relu(norm(state[:, : stop - start]))
            planes = F.conv2d(planes, self.conv.weight[start:stop], padding=1, groups=stop - start)
            first = min(stop, self.dim - self.feature_dim)
            state = state[:, first - self.dim :] + F.conv2d(planes, weight[first:, start:stop])
        return self.read_out(state)


class PlainStep(nn.Module):
    """A step in time, whose edges are chosen anew at every call."""

    def __init__(self, network: DiscreteTimeNeuralGraph | ContinuousTimeNeuralGraph, in_place: bool = False) -> None:
        super().__init__()
        self.norm, self.conv, self.graph = network.step.norm, network.step.conv, PlainGraph(network.step.graph)
        self.in_place = in_place

    def forward(self, state: Tensor) -> Tensor:
        return self.norm(F.conv2d(self.conv(F.relu(state, inplace=self.in_place)), self.graph()))


class PlainDiscreteTime(_PlainTiny):
    def __init__(self, network: DiscreteTimeNeuralGraph) -> None:
        super().__init__(network)
        self.step, self.layers = PlainStep(network), network.layers

    def forward(self, images: Tensor) -> Tensor:
        state = self.start(images)
        for _ in range(self.layers):
            state = self.step(state)
        return self.read_out(state)


class PlainContinuousTime(_PlainTiny):
    def __init__(self, network: ContinuousTimeNeuralGraph, solver: str, steps: int) -> None:
        super().__init__(network)
        self.step, self.solver, self.options = PlainStep(network, in_place=True), solver, {"step_size": 1 / steps}

    def forward(self, images: Tensor) -> Tensor:
        times = torch.tensor([0.0, 1.0], dtype=images.dtype)
        path = odeint(
            lambda _, state: self.step(state), self.start(images), times, method=self.solver, options=self.options
        )
        return self.read_out(path[1])
