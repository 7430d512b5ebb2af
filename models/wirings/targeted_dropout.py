"""Targeted dropout, over all edges of a graph or within each row."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from models.wirings.layout import EdgeLayout
from models.wirings.learned import Learned
from models.wirings.options import RHO
from models.wirings.selection import keep_largest


class TargetedDropout(Learned):
    """Targeted dropout (Gomez et al. 2019, arXiv 1905.13678), unstructured.

    In training each of the weak edges is dropped with probability rho; in evaluation all of them are.

    Args:
        rho: probability, or "gamma" for the prune rate.
    """

    def __init__(self, layout: EdgeLayout, prune_rate: float, rho: float | Literal["gamma"] = RHO.default) -> None:
        super().__init__(layout, prune_rate)
        self.rho = prune_rate if rho == "gamma" else rho

    def forward(self, weight: Tensor) -> Tensor:
        acting = self.acting(weight)
        if self.training:
            acting = acting | (torch.rand_like(weight) >= self.rho)
        return torch.where(acting, weight, 0)


class RegularTargetedDropout(TargetedDropout):
    """Targeted dropout with the weak edges chosen in each row, so that every node keeps as many inputs."""

    any_count: ClassVar[bool] = False

    def __init__(self, layout: EdgeLayout, prune_rate: float, rho: float | Literal["gamma"] = RHO.default) -> None:
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
