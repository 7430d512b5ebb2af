"""Tiny classifiers whose channels form one graph: static, in discrete and in continuous time (arXiv 1906.00586, 3.1).

All have the same stem and read-out. At every node: instance norm, ReLU and a 3x3 depthwise conv, in the
order that each network's docstring gives.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchdiffeq import odeint

from models.networks.solvers import SOLVERS
from models.signatures import extended
from models.wirings.graph import Graph
from models.wirings.layout import Block, EdgeLayout
from models.wirings.registry import make_wiring


def static_layout(dim: int, downsample_dim: int, feature_dim: int, layers: int) -> EdgeLayout:
    """The edges that can act in the static network: from each block of channels to all later ones.

    The last block feeds the channels that are read out, which are part of itself.
    """
    bounds = _block_bounds(dim, downsample_dim, layers)
    blocks = (Block(min(stop, dim - feature_dim), dim, start, stop) for start, stop in pairwise(bounds))
    return EdgeLayout(dim, dim, tuple(blocks))


class _TinyClassifier(nn.Module):
    """Stem and read-out, and the rule of the graph between them.

    Input [batch, in_channels, image_size, image_size]; output [batch, classes]. The state has `dim` channels at a
    quarter of the image's size, the stem's `downsample_dim` first, the others zero at the start. The last
    `feature_dim` channels are read out: their mean over the four positions before the centre, then a linear layer.

    Args:
        classes: number of classes.
        image_size: pixels, at least 16.
        wiring: name of the rule (`models.wirings.registry.WIRINGS`).
        prune_rate: share of the dim x dim matrix that is removed.
        in_channels: channels of the images.
        dim, downsample_dim, feature_dim: channels of the state, of the stem, and read out.
        options: of the rule, by their names.

    Raises:
        ValueError: an image too small for the read-out, widths that do not fit one another, or a rule or an option that
            there is not.
    """

    def __init_subclass__(cls) -> None:
        cls.__signature__ = extended(cls.__init__, _TinyClassifier.__init__)  # type: ignore[attr-defined]

    def __init__(
        self,
        classes: int,
        image_size: int,
        wiring: str = "complete",
        prune_rate: float = 0.0,
        in_channels: int = 3,
        dim: int = 800,
        downsample_dim: int = 32,
        feature_dim: int = 100,
        **options: Any,
    ) -> None:
        super().__init__()
        if image_size < 16:
            raise ValueError(f"The tiny classifiers need images of at least 16 pixels, not {image_size}.")
        if downsample_dim % 2 or not downsample_dim < dim:
            raise ValueError(f"downsample_dim must be even and below dim ({dim}), not {downsample_dim}.")
        if feature_dim > dim:
            raise ValueError(f"feature_dim ({feature_dim}) cannot exceed dim ({dim}).")
        self.dim = dim
        self.downsample_dim = downsample_dim
        self.feature_dim = feature_dim
        half = downsample_dim // 2
        self.downsample = nn.Sequential(
            nn.Conv2d(in_channels, half, 3, stride=2, padding=1),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, stride=2, padding=1, groups=half),
            nn.Conv2d(half, downsample_dim, 1),
            nn.BatchNorm2d(downsample_dim),
        )
        self.fc = nn.Linear(feature_dim, classes)
        centre = image_size // 4 // 2
        self._centre = slice(centre - 2, centre)
        self._rule = wiring, prune_rate, options

    def wired_graph(self, layout: EdgeLayout) -> Graph:
        """A graph of that layout under the network's rule."""
        wiring, prune_rate, options = self._rule
        return Graph(layout, make_wiring(wiring, layout, prune_rate, **options))

    def start(self, images: Tensor) -> Tensor:
        """The state [batch, dim, height, width] that the graph starts from."""
        stem = self.downsample(images)
        return F.pad(stem, (0, 0, 0, 0, 0, self.dim - stem.shape[1]))

    def read_out(self, state: Tensor) -> Tensor:
        """Logits [batch, classes] of a final state whose last channels are the features."""
        features = state[:, -self.feature_dim :, self._centre, self._centre]
        return self.fc(features.mean(dim=(2, 3)))


class StaticNeuralGraph(_TinyClassifier):
    """Blocks of channels one after another: instance norm, ReLU, depthwise conv, then edges to all later channels.

    Args: as `_TinyClassifier`, and
        layers: blocks; the first is the stem's channels, the others share the rest evenly.
    """

    def __init__(self, *args: Any, layers: int = 5, **shared: Any) -> None:
        super().__init__(*args, **shared)
        self.bounds = _block_bounds(self.dim, self.downsample_dim, layers)
        self.conv = _depthwise(self.dim)
        self.graph = self.wired_graph(static_layout(self.dim, self.downsample_dim, self.feature_dim, layers))
        self.norm = nn.ModuleList(nn.InstanceNorm2d(b - a, affine=True) for a, b in pairwise(self.bounds))

    def forward(self, images: Tensor) -> Tensor:
        state = self.start(images)
        for i, weight in enumerate(self.graph()):
            start, stop = self.bounds[i], self.bounds[i + 1]
            planes = F.relu(self.norm[i](state[:, : stop - start]))
            planes = F.conv2d(planes, self.conv.weight[start:stop], padding=1, groups=stop - start)
            state = state[:, -len(weight) :] + F.conv2d(planes, weight[:, :, None, None])
        return self.read_out(state)


class _Step(nn.Module):
    """ReLU, depthwise conv, graph, instance norm: [batch, dim, height, width] to the same shape."""

    def __init__(self, network: _TinyClassifier, relu_in_place: bool = False) -> None:
        super().__init__()
        dim = network.dim
        self.conv = _depthwise(dim)
        self.graph = network.wired_graph(EdgeLayout.full(dim, dim))
        self.norm = nn.InstanceNorm2d(dim, affine=True)
        self.relu_in_place = relu_in_place

    def forward(self, state: Tensor, weight: Tensor) -> Tensor:
        planes = self.conv(F.relu(state, inplace=self.relu_in_place))
        return self.norm(F.conv2d(planes, weight[:, :, None, None]))


class DiscreteTimeNeuralGraph(_TinyClassifier):
    """The same step `layers` times with shared weights: ReLU, depthwise conv, graph, instance norm.

    Args: as `_TinyClassifier`, and
        layers: number of steps.
    """

    def __init__(self, *args: Any, layers: int = 5, **shared: Any) -> None:
        super().__init__(*args, **shared)
        self.layers = layers
        self.step = _Step(self)

    def forward(self, images: Tensor) -> Tensor:
        state = self.start(images)
        (weight,) = self.step.graph()
        for _ in range(self.layers):
            state = self.step(state, weight)
        return self.read_out(state)


class ContinuousTimeNeuralGraph(_TinyClassifier):
    """The state follows x' = norm(graph(depthwise(relu(x)))) from time 0 to 1.

    Args: as `_TinyClassifier`, and
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
        self.step = _Step(self, relu_in_place)
        self.solver = solver
        self.tolerance = tolerance
        self._options = None if SOLVERS.choose(solver).adaptive else {"step_size": 1 / solver_steps}
        self.function_evaluations = 0

    def forward(self, images: Tensor) -> Tensor:
        (weight,) = self.step.graph()
        self.function_evaluations = 0

        def derivative(_: Tensor, state: Tensor) -> Tensor:
            self.function_evaluations += 1
            return self.step(state, weight)

        state = self.start(images)
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
        return self.read_out(path[1])


def _depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)


def _block_bounds(dim: int, downsample_dim: int, layers: int) -> list[int]:
    """Where the blocks of the static network begin, and where the last ends."""
    if layers < 2 or (dim - downsample_dim) % (layers - 1):
        raise ValueError(
            f"The static network's {dim - downsample_dim} channels after the stem do not split evenly "
            f"into {layers - 1} blocks."
        )
    width = (dim - downsample_dim) // (layers - 1)
    return [0, *range(downsample_dim, dim + 1, width)]
