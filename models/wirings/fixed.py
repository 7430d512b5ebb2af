"""Rules whose edges training does not choose: all of them, a random part, or the strongest of a trained graph."""

from __future__ import annotations

import torch
from torch import Tensor

from models.wirings.layout import EdgeLayout
from models.wirings.selection import keep_largest
from models.wirings.wiring import Wiring


class Complete(Wiring):
    """Every edge that can act does."""

    def __init__(self, layout: EdgeLayout, prune_rate: float = 0.0) -> None:
        super().__init__(layout, prune_rate)
        self.kept = layout.possible

    def follows_rate(self, step: int, steps: int) -> bool:
        return True

    def forward(self, weight: Tensor) -> Tensor:
        return weight

    def acting(self, weight: Tensor) -> Tensor:
        return torch.ones_like(weight, dtype=torch.bool)


class _Fixed(Wiring):
    """A mask that training does not change; only the edges in it get a gradient."""

    mask: Tensor
    reaches_idle = False

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
