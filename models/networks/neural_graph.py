"""Tiny classifiers whose channels form one graph: static, in discrete and in continuous time (arXiv 1906.00586, 3.1).

All have the same stem and read-out. At every node: instance norm, ReLU and a 3x3 depthwise conv, in the
order that each network's docstring gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.native.tape import Window
from models.networks.planes import (
    UNCHANGED,
    AnyPlanes,
    axes_in_memory,
    enter,
    enter_first,
    leave,
    make_sources,
    normalized,
    part,
    width,
    within,
)
from models.networks.solvers import SOLVERS
from models.networks.tiny_classifier import TinyClassifier, depthwise
from models.sparse.graph import ChannelGraph, Edges
from models.sparse.layers import (
    as_array,
    depthwise_of,
    input_level,
    instance_norm_of,
    linear_level,
    sum_level,
)
from models.wirings.layout import Block, EdgeLayout


def static_layout(dim: int, downsample_dim: int, feature_dim: int, layers: int) -> EdgeLayout:
    """The edges that can act in the static network: from each block of channels to all later ones.

    The last block feeds the channels that are read out, which are part of itself.
    """
    bounds = _block_bounds(dim, downsample_dim, layers)
    blocks = (Block(min(stop, dim - feature_dim), dim, start, stop) for start, stop in pairwise(bounds))
    return EdgeLayout(dim, dim, tuple(blocks))


class StaticNeuralGraph(TinyClassifier):
    """Blocks of channels one after another: instance norm, ReLU, depthwise conv, then edges to all later channels.

    Args: as `TinyClassifier`, and
        layers: blocks; the first is the stem's channels, the others share the rest evenly.
    """

    def __init__(self, *args: Any, layers: int = 5, **shared: Any) -> None:
        super().__init__(*args, **shared)
        self.bounds = _block_bounds(self.dim, self.downsample_dim, layers)
        self.conv = depthwise(self.dim)
        self.graph = self.wired_graph(static_layout(self.dim, self.downsample_dim, self.feature_dim, layers))
        self.norm = nn.ModuleList(nn.InstanceNorm2d(b - a, affine=True) for a, b in pairwise(self.bounds))

    def forward(self, images: Tensor) -> Tensor:
        edges = self.graph()
        features = slice(self.dim - self.feature_dim, self.dim)
        # with many features, blocks begin before their own channels, perhaps among those of the stem
        stem_is_fed = features.start < self.downsample_dim
        state = enter(self.start(images) if stem_is_fed else self.stem(images), self)

        def summed(weights: Sequence[Tensor], rows: slice, window: Window | None = None) -> AnyPlanes:
            onto = part(state, rows) if stem_is_fed else None
            if onto is not None and window is not None:
                onto = within(onto, window)
            return sources.sum(self._ending_in(rows, weights), onto=onto, window=window)

        sources = make_sources(state, self.dim, edges, self.graph)
        planes, rows = state, slice(0, self.downsample_dim)
        for i, (start, stop) in enumerate(pairwise(self.bounds)):
            if i:
                rows = slice(self.dim - len(edges[i - 1]), self.dim - len(edges[i - 1]) + stop - start)
                planes = summed(edges[:i], rows)
            sources.grow(part(planes, slice(0, stop - start)), self.norm[i], self.conv, slice(start, stop))
        if rows.start <= features.start and rows.stop == self.dim:  # the last block feeds features that it holds
            held = part(planes, slice(features.start - rows.start, None))
            held = within(held, self.window)
            return self.classify(leave(sources.sum(edges[-1], self.bounds[-2], held, self.window)))
        return self.classify(leave(summed(edges, features, self.window)))

    def _ending_in(self, rows: slice, weights: Sequence[Tensor]) -> Tensor:
        """The weights [rows, sources] of the edges from the first blocks that end in these channels."""
        firsts = [self.dim - len(weight) for weight in weights]
        blocks = zip(weights, firsts, strict=True)
        return torch.cat([weight[rows.start - first : rows.stop - first] for weight, first in blocks], dim=1)

    def channel_graphs(self) -> dict[str, ChannelGraph]:
        """One graph from the image to the logits: each block is fed by the stem and by every block before it."""
        levels = list(self.stem_graph().levels)
        stem = len(levels) - 1
        stem_width = levels[stem].nodes
        weights = [as_array(weight) for weight in self.graph()]
        first_row = [0, *(self.dim - len(weight) for weight in weights)]
        for i in range(len(weights) + 1):
            last = i == len(weights)
            width = self.feature_dim if last else self.bounds[i + 1] - self.bounds[i]
            rows = slice(first_row[i], first_row[i] + width)
            parts = [np.eye(self.dim, stem_width, dtype=np.float32)[rows]]
            for weight, row in zip(weights[:i], first_row[1:], strict=False):
                parts.append(weight[rows.start - row : rows.stop - row])
            edges = Edges.from_dense(np.concatenate(parts, axis=1))
            level = sum_level(f"block.{i}", "graph", tuple(range(stem, len(levels))), edges, None, rows.start)
            if last:
                level = replace(level, mean=True, window=self.window)
            else:
                kernels = depthwise_of(self.conv, slice(self.bounds[i], self.bounds[i + 1]))
                level = replace(level, norm=instance_norm_of(self.norm[i]), relu=True, depthwise=kernels)
            levels.append(level)
        levels.append(linear_level("fc", len(levels) - 1, self.fc))
        return {"": ChannelGraph(tuple(levels), kept={"graph": self.graph.wiring.kept})}


class _Step(nn.Module):
    """ReLU, depthwise conv, graph, instance norm: [batch, dim, height, width] to the same shape."""

    def __init__(self, network: TinyClassifier) -> None:
        super().__init__()
        dim = network.dim
        self.conv = depthwise(dim)
        self.graph = network.wired_graph(EdgeLayout.full(dim, dim))
        self.norm = nn.InstanceNorm2d(dim, affine=True)

    def axes(self, state: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """As `axes_in_memory`, of the states that the step takes and gives."""
        return axes_in_memory(state, self)

    def forward(self, state: Tensor, weight: Tensor) -> Tensor:
        planes = enter(state, self)
        sources = make_sources(planes, len(weight), (weight,), self.graph)
        sources.grow(planes, None, self.conv)
        return leave(normalized(sources.sum(weight), self.norm))

    def edges(self) -> Edges:
        """The edges that act."""
        return Edges.from_dense(as_array(self.graph.matrix()))


class _EngineStep(nn.Module):
    """A step that an engine computes: it is called as `_Step`, and has no use for the weights."""

    def __init__(self, engine: nn.Module) -> None:
        super().__init__()
        self.engine = engine

    def graph(self) -> tuple[None]:
        return (None,)

    def axes(self, _: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return UNCHANGED, UNCHANGED

    def forward(self, state: Tensor, _: None) -> Tensor:
        return self.engine(state)


class DiscreteTimeNeuralGraph(TinyClassifier):
    """The same step `layers` times with shared weights: ReLU, depthwise conv, graph, instance norm.

    Args: as `TinyClassifier`, and
        layers: number of steps.
    """

    def __init__(self, *args: Any, layers: int = 5, **shared: Any) -> None:
        super().__init__(*args, **shared)
        self.layers = layers
        self.step = _Step(self)

    def forward(self, images: Tensor) -> Tensor:
        step, norm = self.step, None
        (weight,) = step.graph()
        read = slice(self.dim - self.feature_dim, self.dim)
        planes = enter_first(self.stem(images), self, self.dim)
        for i in range(self.layers):
            count = width(planes)  # at first perhaps those of the stem alone, for all others are zero
            sources = make_sources(planes, count, (weight,), step.graph)
            sources.grow(planes, norm, step.conv, None if count == self.dim else slice(count))
            ending = weight if i + 1 < self.layers else weight[read]
            planes, norm = sources.sum(ending if count == self.dim else ending[:, :count]), step.norm
        return self.classify(leave(within(normalized(planes, step.norm, read), self.window)))

    def channel_graphs(self) -> dict[str, ChannelGraph]:
        """One graph from the image to the logits: the same edges again and again, the last time only those that end in
        the channels read out."""
        stem, step = self.stem_graph(), self.step
        state = stem.levels[-1]
        idle = self.dim - state.nodes
        edges = replace(state.incoming, indptr=np.pad(state.incoming.indptr, (0, idle), mode="edge"))
        start = sum_level("step.0", "downsample", state.sources, edges, np.pad(state.bias, (0, idle)))
        depthwise, norm = depthwise_of(step.conv), instance_norm_of(step.norm)
        levels = [*stem.levels[:-1], replace(start, relu=True, depthwise=depthwise, probe=("step.conv", 0))]
        step_edges = step.edges()
        for i in range(1, self.layers + 1):
            level = sum_level(f"step.{i}", "step.graph", (len(levels) - 1,), step_edges)
            levels.append(replace(level, norm=norm, relu=True, depthwise=depthwise, probe=("step.conv", i)))
        read = np.arange(self.dim) >= self.dim - self.feature_dim
        last = replace(levels[-1], relu=False, depthwise=None, mean=True, window=self.window, probe=None)
        levels[-1] = last.select(read, np.ones(self.dim, dtype=bool))
        levels.append(linear_level("fc", len(levels) - 1, self.fc))
        return {"": ChannelGraph(tuple(levels), kept={"step.graph": step.graph.wiring.kept})}


class ContinuousTimeNeuralGraph(TinyClassifier):
    """The state follows x' = norm(graph(depthwise(relu(x)))) from time 0 to 1.

    Args: as `TinyClassifier`, and
        solver: a name in `models.networks.solvers.SOLVERS`; an adaptive one chooses its steps by `tolerance`, the
            others take `solver_steps` even ones.
        solver_steps: steps of a fixed-step solver.
        tolerance: relative and absolute tolerance of dopri5.
        relu_in_place: the ReLU works on the solver's own tensor, so that the initial state and the result of every
            step are replaced by their ReLU before the solver goes on; so the published networks were trained.

    Attributes:
        function_evaluations: evaluations of x' in the last forward pass.
    """

    def __init__(
        self,
        *args: Any,
        solver: str = "dopri5",
        solver_steps: int = 10,
        tolerance: float = 1e-3,
        relu_in_place: bool = True,
        **shared: Any,
    ) -> None:
        super().__init__(*args, **shared)
        self.step = _Step(self)
        self.relu_in_place = relu_in_place
        self.solver = solver
        self.tolerance = tolerance
        self._options = None if SOLVERS.choose(solver).adaptive else {"step_size": 1 / solver_steps}
        self.function_evaluations = 0

    def forward(self, images: Tensor) -> Tensor:
        from torchdiffeq import odeint  # imports scipy, which the other networks do without

        (weight,) = self.step.graph()
        self.function_evaluations = 0

        state = self.start(images)
        axes, back = self.step.axes(state)
        state = state.permute(axes).contiguous()

        def derivative(_: Tensor, state: Tensor) -> Tensor:
            self.function_evaluations += 1
            state = F.relu_(state) if self.relu_in_place else state
            return self.step(state.permute(back), weight).permute(axes)

        times = torch.tensor([0.0, 1.0], dtype=state.dtype, device=state.device)
        path = odeint(
            derivative,
            state,
            times,
            rtol=self.tolerance,
            atol=self.tolerance,
            method=self.solver,
            options=self._options,
        )
        return self.read_out(path[1].permute(back))

    def channel_graphs(self) -> dict[str, ChannelGraph]:
        """Two graphs: the stem, and the derivative x' of the state x.

        Of the derivative no node is removed: the solver's step size follows the error of them all.
        """
        step = self.step
        state = sum_level("state", "step.conv", (0,), Edges.from_dense(np.eye(self.dim)))
        state = replace(state, relu=True, depthwise=depthwise_of(step.conv), probe=("conv", 0))
        level = sum_level("derivative", "step.graph", (1,), step.edges())
        levels = (input_level(self.dim), state, replace(level, norm=instance_norm_of(step.norm)))
        kept = {"step.graph": step.graph.wiring.kept}
        derivative = ChannelGraph(levels, flat=False, kept=kept, removable=False)
        return {"downsample": self.stem_graph(), "step": derivative}

    def take_engine(self, name: str, engine: nn.Module) -> None:
        """Let an engine compute the stem ("downsample") or the derivative ("step") from now on."""
        setattr(self, name, _EngineStep(engine) if name == "step" else engine)

    def measures(self) -> dict[str, float]:
        """`function_evaluations` of the last forward pass."""
        return {"function_evaluations": self.function_evaluations}


def _block_bounds(dim: int, downsample_dim: int, layers: int) -> list[int]:
    """Where the blocks of the static network begin, and where the last ends."""
    if layers < 2 or (dim - downsample_dim) % (layers - 1):
        raise ValueError(
            f"The static network's {dim - downsample_dim} channels after the stem do not split evenly "
            f"into {layers - 1} blocks."
        )
    width = (dim - downsample_dim) // (layers - 1)
    return [0, *range(downsample_dim, dim + 1, width)]
