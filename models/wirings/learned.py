"""Rules that keep the edges of largest magnitude, chosen anew whenever the weights have changed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.wirings.layout import EdgeLayout
from models.wirings.selection import keep_largest
from models.wirings.wiring import StraightThrough, Wiring


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

    def follows_rate(self, step: int, steps: int) -> bool:
        return step < steps

    def choose(self, weight: Tensor, k: int) -> Tensor:
        """Mask [possible] of the k edges to keep."""
        return keep_largest(weight, k)

    def acting(self, weight: Tensor) -> Tensor:
        if self.training or torch.compiler.is_exporting() or weight.is_inference():
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
    reaches_idle = False

    def __init__(self, layout: EdgeLayout, prune_rate: float) -> None:
        super().__init__(layout, prune_rate)
        self.register_buffer("mask", torch.ones(layout.possible, dtype=torch.bool))

    def score(self, weight: Tensor) -> Tensor:
        return torch.where(self.mask, weight.detach().abs(), 0)

    def choose(self, weight: Tensor, k: int) -> Tensor:
        return keep_largest(self.score(weight), k) & self.mask

    def count_acting(self, weight: Tensor) -> int:
        return self.kept if self.training else super().count_acting(weight)

    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(self.acting(weight), weight, 0)
