"""Wirings: the rules that turn the full weight of a graph into its effective one.

A graph of channels holds one real weight for every edge that can act. A `Wiring` is a small module whose
`forward` maps those weights to the weights that the network computes with: all of them, a fixed random part,
the k of largest magnitude (Discovering Neural Wirings, Wortsman, Farhadi, Rastegari 2019, arXiv 1906.00586),
or a rival's choice. It knows neither networks nor convolutions, so it wires a stage of channels, a convolution or
a linear layer alike, and can serve as a `torch.nn.utils.parametrize` parametrization.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from models.wirings.selection import keep_largest


@dataclass(frozen=True)
class Block:
    """A rectangle of a graph's matrix: rows row0..row1 - 1 by columns column0..column1 - 1."""

    row0: int
    row1: int
    column0: int
    column1: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.row1 - self.row0, self.column1 - self.column0

    @property
    def edges(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class EdgeLayout:
    """Which entries of a graph's matrix can act, as disjoint rectangles, and how their weights lie in one vector.

    Rows are the nodes that edges end in, columns those that they start from. The weights of the rectangles
    follow one another in the order of `blocks`, each row by row.
    """

    rows: int
    columns: int
    blocks: tuple[Block, ...]

    @classmethod
    def full(cls, rows: int, columns: int) -> EdgeLayout:
        """Every entry can act."""
        return cls(rows, columns, (Block(0, rows, 0, columns),))

    @cached_property
    def possible(self) -> int:
        """Number of edges that can act."""
        return sum(block.edges for block in self.blocks)

    def kept(self, prune_rate: float) -> int:
        """Edges that stay when `prune_rate` of the whole matrix is removed, as far as so many can act."""
        entries = self.rows * self.columns
        return min(entries - int(prune_rate * entries), self.possible)

    def split(self, edges: Tensor) -> tuple[Tensor, ...]:
        """Views of a vector [possible] as one matrix a block."""
        parts = edges.split([block.edges for block in self.blocks])
        return tuple(part.view(block.shape) for part, block in zip(parts, self.blocks, strict=True))

    def to_matrix(self, edges: Tensor) -> Tensor:
        """The whole matrix [rows, columns] of a vector [possible]; zero (false) where nothing can act."""
        matrix = edges.new_zeros(self.rows, self.columns)
        for part, block in zip(self.split(edges), self.blocks, strict=True):
            matrix[block.row0 : block.row1, block.column0 : block.column1] = part
        return matrix

    def from_matrix(self, matrix: Tensor) -> Tensor:
        """The vector [possible] of a matrix [rows, columns] or [rows, columns, 1, 1]."""
        matrix = matrix.reshape(self.rows, self.columns)
        return torch.cat(
            [matrix[b.row0 : b.row1, b.column0 : b.column1].reshape(-1) for b in self.blocks],
        )


class StraightThrough(torch.autograd.Function):
    """Zero outside the mask going forward, the identity going backward (arXiv 1906.00586, section 2.2)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, acting: Tensor) -> Tensor:
        return torch.where(acting, weight, 0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class Wiring(nn.Module):
    """A rule on the weights of a graph.

    Args:
        layout: which edges can act.
        prune_rate: share of the whole matrix's entries that is removed, 0 <= prune_rate < 1.

    Attributes:
        kept: edges that the rule lets act.
    """

    def __init__(self, layout: EdgeLayout, prune_rate: float = 0.0) -> None:
        super().__init__()
        if not 0 <= prune_rate < 1:
            raise ValueError(f"prune_rate is the share of edges removed, at least 0 and below 1, not {prune_rate}.")
        self.layout = layout
        self.prune_rate = prune_rate
        self.kept = layout.kept(prune_rate)

    def allot(self, edges: int) -> None:
        """Let so many edges act instead of those that follow from the prune rate."""
        self.kept = edges

    def score(self, weight: Tensor) -> Tensor:
        """What the rule keeps the largest of, [possible], not negative, comparable between graphs."""
        return weight.detach().abs()

    def start(self, weight: Tensor) -> None:
        """Fix what is fixed from the beginning, from the initial weights [possible]."""

    def forward(self, weight: Tensor) -> Tensor:
        """The effective weights [possible] of the full ones, with the rule's gradient."""
        raise NotImplementedError

    def acting(self, weight: Tensor) -> Tensor:
        """Mask [possible] of the edges that act in evaluation."""
        raise NotImplementedError

    def effective(self, weight: Tensor) -> Tensor:
        """The weights [possible] that evaluation computes with."""
        return torch.where(self.acting(weight), weight, 0)

    def extra_repr(self) -> str:
        return f"{self.kept} of {self.layout.possible} edges"


class Complete(Wiring):
    """Every edge that can act does."""

    def __init__(self, layout: EdgeLayout, prune_rate: float = 0.0) -> None:
        super().__init__(layout, prune_rate)
        self.kept = layout.possible

    def forward(self, weight: Tensor) -> Tensor:
        return weight

    def acting(self, weight: Tensor) -> Tensor:
        return torch.ones_like(weight, dtype=torch.bool)


class _Fixed(Wiring):
    """A mask that training does not change; only the edges in it get a gradient."""

    mask: Tensor

    def __init__(self, layout: EdgeLayout, prune_rate: float) -> None:
        super().__init__(layout, prune_rate)
        self.register_buffer("mask", torch.zeros(layout.possible, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(self.mask, weight, 0)

    def acting(self, weight: Tensor) -> Tensor:
        return self.mask


class Random(_Fixed):
    """A part of the edges drawn at random, once, from torch's generator."""

    def score(self, weight: Tensor) -> Tensor:
        return torch.rand(weight.shape)

    def start(self, weight: Tensor) -> None:
        self.mask.copy_(keep_largest(self.score(weight), self.kept))


class FineTune(_Fixed):
    """The strongest edges of a trained complete graph, fixed (`fix_graph`); until then those of the initial weights."""

    def start(self, weight: Tensor) -> None:
        self.fix(weight)

    def fix(self, weight: Tensor) -> None:
        """Keep the edges that are strongest in `weight` [possible] from now on."""
        self.mask.copy_(keep_largest(weight, self.kept))


class Learned(Wiring):
    """The edges of largest magnitude act, chosen anew whenever the weights have changed.

    Attributes:
        active: edges that act in evaluation: `kept`, or fewer where the weights were trained by the code of 2019, which
            spent a part of its budget on edges that cannot act. Training sets it to `kept`.
    """

    def __init__(self, layout: EdgeLayout, prune_rate: float) -> None:
        super().__init__(layout, prune_rate)
        self.active = self.kept
        self._chosen: tuple[tuple[int, int, int], Tensor] | None = None

    def allot(self, edges: int) -> None:
        self.kept = self.active = edges

    def choose(self, weight: Tensor, k: int) -> Tensor:
        """Mask [possible] of the k edges to keep."""
        return keep_largest(weight, k)

    def acting(self, weight: Tensor) -> Tensor:
        if self.training or weight.is_inference():
            return self.choose(weight, self.kept if self.training else self.active)
        state = (weight.data_ptr(), weight._version, self.active)
        if self._chosen is None or self._chosen[0] != state:
            self._chosen = state, self.choose(weight, self.active)
        return self._chosen[1]

    def train(self, mode: bool = True) -> Learned:
        self._chosen = None
        if mode:
            self.active = self.kept
        return super().train(mode)

    def get_extra_state(self) -> dict[str, int]:
        return {"active": self.active}

    def set_extra_state(self, state: Mapping[str, int]) -> None:
        self._chosen = None
        self.active = state["active"]


class DNW(Learned):
    """Discovering Neural Wirings: the strongest k edges act, every edge gets the gradient it would have if it acted."""

    def forward(self, weight: Tensor) -> Tensor:
        return StraightThrough.apply(weight, self.acting(weight))


class DNWNoUpdate(Learned):
    """The ablation of DNW: the strongest k edges act, and only they get a gradient."""

    mask: Tensor

    def __init__(self, layout: EdgeLayout, prune_rate: float) -> None:
        super().__init__(layout, prune_rate)
        self.register_buffer("mask", torch.ones(layout.possible, dtype=torch.bool))

    def score(self, weight: Tensor) -> Tensor:
        return torch.where(self.mask, weight.detach().abs(), 0)

    def choose(self, weight: Tensor, k: int) -> Tensor:
        return keep_largest(self.score(weight), k) & self.mask

    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(self.acting(weight), weight, 0)


class TargetedDropout(Learned):
    """Targeted dropout (Gomez et al. 2019, arXiv 1905.13678), unstructured.

    In training each of the weak edges is dropped with probability rho; in evaluation all of them are.

    Args:
        rho: probability, or "gamma" for the prune rate.
    """

    def __init__(self, layout: EdgeLayout, prune_rate: float, rho: float | Literal["gamma"] = "gamma") -> None:
        super().__init__(layout, prune_rate)
        self.rho = prune_rate if rho == "gamma" else rho

    def forward(self, weight: Tensor) -> Tensor:
        acting = self.acting(weight)
        if self.training:
            acting = acting | (torch.rand_like(weight) >= self.rho)
        return torch.where(acting, weight, 0)


class RegularTargetedDropout(TargetedDropout):
    """Targeted dropout with the weak edges chosen in each row, so that every node keeps as many inputs."""

    def __init__(self, layout: EdgeLayout, prune_rate: float, rho: float | Literal["gamma"] = "gamma") -> None:
        super().__init__(layout, prune_rate, rho)
        self.kept_a_row = layout.columns - int(prune_rate * layout.columns)
        self._count()

    def _count(self) -> None:
        self.kept = self.active = int(self.choose(torch.ones(self.layout.possible), self.kept).count_nonzero())

    def allot(self, edges: int) -> None:
        """As many edges a row as so many allow."""
        self._chosen = None
        self.kept_a_row = edges // self.layout.rows
        self._count()

    def choose(self, weight: Tensor, k: int) -> Tensor:
        rows = keep_largest(self.layout.to_matrix(weight.detach()), self.kept_a_row)
        return self.layout.from_matrix(rows)


WIRINGS: dict[str, type[Wiring]] = {
    "complete": Complete,
    "random": Random,
    "dnw": DNW,
    "dnw_no_update": DNWNoUpdate,
    "fine_tune": FineTune,
    "td": TargetedDropout,
    "reg_td": RegularTargetedDropout,
}


def make_wiring(name: str, layout: EdgeLayout, prune_rate: float, rho: float | Literal["gamma"] = 0.95) -> Wiring:
    """The wiring of that name. Raises ValueError for a name that is not in WIRINGS; only td and reg_td read `rho`."""
    if name not in WIRINGS:
        raise ValueError(f"There is no wiring {name!r}; there are {', '.join(WIRINGS)}.")
    rule = WIRINGS[name]
    if issubclass(rule, TargetedDropout):
        return rule(layout, prune_rate, rho)
    return rule(layout, prune_rate)


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
    """

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        self.wiring = wiring
        self.share: Callable[[], int] | None = None

    def forward(self, weight: Tensor) -> Tensor:
        return self.wiring(self.flat(weight)).view(weight.shape)

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
        self.wired: WiredWeight = parametrized[0]
        self.wiring = self.wired.wiring
        self.layout = self.wiring.layout

    @property
    def parameter(self) -> nn.Parameter:
        """The full weight in the layer's own shape, which is trained."""
        return self._parametrized.original

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
