"""What every rule is: a module that maps the full weights of a graph to its effective ones.

A graph of channels holds one real weight for every edge that can act. A `Wiring` is a small module whose
`forward` maps those weights to the weights that the network computes with: all of them, a fixed random part,
the k of largest magnitude (Discovering Neural Wirings, Wortsman, Farhadi, Rastegari 2019, arXiv 1906.00586),
or a rival's choice. It knows neither networks nor convolutions, so it wires a stage of channels, a convolution or
a linear layer alike, and can serve as a `torch.nn.utils.parametrize` parametrization.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from models.wirings.layout import EdgeLayout


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
        any_count: it can keep any number of edges, as a global budget asks.
        reaches_idle: all edges that do not act get a gradient, too; else it is computed for the others alone.
        marks_reached: of edges that do not act, some get a gradient all the same; their effective weight is -0,
            and so is that of an acting edge whose weight is 0.
    """

    any_count: ClassVar[bool] = True
    reaches_idle: bool = True
    marks_reached: ClassVar[bool] = False

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

    def follows_rate(self, step: int, steps: int) -> bool:
        """Whether another prune rate takes effect, or needs none, in training that goes on after so many steps."""
        return False

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

    def count_acting(self, weight: Tensor) -> int:
        """How many edges act now, at most."""
        return int(self.acting(weight).count_nonzero())

    def effective(self, weight: Tensor) -> Tensor:
        """The weights [possible] that evaluation computes with."""
        return torch.where(self.acting(weight), weight, 0)

    def extra_repr(self) -> str:
        return f"{self.kept} of {self.layout.possible} edges"
