"""Weights under a rule: the graphs that a network has of its own, and the layers that are wired from outside."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from models.native.training import Reached
from models.wirings.fixed import FineTune
from models.wirings.layout import EdgeLayout
from models.wirings.learned import Learned
from models.wirings.wiring import Wiring


class Graph(nn.Module):
    """The edges of a graph of channels: one weight for each that can act, and the wiring that decides which do.

    Weights start uniform in +-1/sqrt(columns of the whole matrix), as a 1x1 convolution's do in PyTorch.

    Args:
        layout: which edges can act.
        wiring: the rule, made for that layout.
    """

    def __init__(self, layout: EdgeLayout, wiring: Wiring) -> None:
        super().__init__()
        self.layout = layout
        self.weight = nn.Parameter(torch.empty(layout.possible))
        self.wiring = wiring
        bound = 1 / math.sqrt(layout.columns)
        nn.init.uniform_(self.weight, -bound, bound)
        wiring.start(self.weight.detach())

    def forward(self) -> tuple[Tensor, ...]:
        """The effective weights, one matrix a block of the layout."""
        return self.layout.split(self.wiring(self.weight))

    @torch.no_grad()
    def reached(self, edges: Sequence[Tensor]) -> Reached:
        """Which entries of effective weights want a gradient.

        Args:
            edges: what `forward` gave. An acting edge of weight 0 wants a gradient too, and where it is not marked it
                cannot be told from idle ones: then all get one.
        """
        if self.wiring.reaches_idle:
            return Reached.ALL
        if self.wiring.marks_reached:
            return Reached.MARKED
        seen = sum(int(weight.count_nonzero()) for weight in edges)
        return Reached.NONZERO if seen == self.wiring.count_acting(self.weight) else Reached.ALL

    @torch.no_grad()
    def acting(self) -> Tensor:
        """Mask [possible] of the edges that act in evaluation."""
        return self.wiring.acting(self.weight)

    @torch.no_grad()
    def matrix(self) -> Tensor:
        """The effective weights of evaluation as the whole matrix [rows, columns]."""
        return self.layout.to_matrix(self.wiring.effective(self.weight))


class WiredWeight(nn.Module):
    """A wiring over the entries of a layer's weight, as its parametrization (`torch.nn.utils.parametrize`).

    Attributes:
        share: of a budget that layers have together, the edges of this one now; None where it has a budget of its own.
        channels_last: lay out the effective weights of a two-dimensional convolution so, though the full ones are not:
            the wiring reads these as one vector.
    """

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        self.wiring = wiring
        self.share: Callable[[], int] | None = None
        self.channels_last = False

    def forward(self, weight: Tensor) -> Tensor:
        """The effective weights, in the shape of the full ones, and in their memory format or the one asked for."""
        effective = self.wiring(self.flat(weight)).view(weight.shape)
        asked = self.channels_last or weight.is_contiguous(memory_format=torch.channels_last)
        if weight.dim() == 4 and asked:
            return effective.contiguous(memory_format=torch.channels_last)
        return effective

    def settle(self) -> None:
        """Take the share of a common budget that is due now."""
        if self.share is not None:
            self.wiring.allot(self.share())

    def flat(self, weight: Tensor) -> Tensor:
        """The full weights [possible], ready for the wiring."""
        flat = weight.reshape(-1)
        if isinstance(self.wiring, Learned):
            self.settle()
            if flat.data_ptr() != weight.data_ptr():  # a copy: what was chosen for another one is not its own
                self.wiring.train(self.wiring.training)
        return flat


class LayerGraph:
    """The weight of a wired convolution or linear layer, seen as a graph: row = output channel.

    Args:
        parametrized: the layer's parametrized weight.
    """

    def __init__(self, parametrized: ParametrizationList) -> None:
        self._parametrized = parametrized
        self.wired = cast("WiredWeight", parametrized[0])
        self.wiring = self.wired.wiring
        self.layout = self.wiring.layout

    @property
    def parameter(self) -> nn.Parameter:
        """The full weight in the layer's own shape, which is trained."""
        return cast("nn.Parameter", self._parametrized.original)

    @property
    def weight(self) -> Tensor:
        """The full weights [possible]."""
        return self.wired.flat(self.parameter)

    @torch.no_grad()
    def acting(self) -> Tensor:
        """Mask [possible] of the edges that act in evaluation."""
        return self.wiring.acting(self.weight)

    @torch.no_grad()
    def matrix(self) -> Tensor:
        """The effective weights of evaluation as the whole matrix [rows, columns]."""
        return self.layout.to_matrix(self.wiring.effective(self.weight))


def graphs(network: nn.Module) -> Iterator[tuple[str, Graph | LayerGraph]]:
    """Every wired graph of a network with its name, in the order of the network's modules.

    The graph of a layer that was wired from outside is called after its weight, as layer1.0.conv1.weight.
    """
    for name, module in network.named_modules():
        if isinstance(module, Graph):
            yield name, module
        elif isinstance(module, ParametrizationList) and isinstance(module[0], WiredWeight):
            yield name.replace("parametrizations.", ""), LayerGraph(module)


def fix_graph(network: nn.Module) -> None:
    """Fix every `FineTune` wiring of a network to the edges that are strongest now."""
    for _, graph in graphs(network):
        if isinstance(graph.wiring, FineTune):
            if isinstance(graph, LayerGraph):
                graph.wired.settle()
            graph.wiring.fix(graph.weight.detach())
