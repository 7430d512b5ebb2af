"""Discovering Neural Wirings at less than the cost of all gradients: most idle edges get theirs now and then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.wirings.layout import EdgeLayout
from models.wirings.learned import DNW
from models.wirings.options import EVERY, NEAR
from models.wirings.scheduled import Scheduled
from models.wirings.selection import keep_largest


class _Reaching(torch.autograd.Function):
    """The weights of the edges that act going forward, the gradient of the edges at `places` alone going backward.

    Of edges at these places that do not act the effective weight is -0, which sums do not see and the kernels of
    training do.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, places: Tensor, acting: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        values = weight[places]
        marked = torch.where(acting & (values != 0), values, -0.0)
        return torch.zeros_like(weight).index_copy_(0, places, marked)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return torch.zeros_like(gradient).index_copy_(0, places, gradient[places]), None, None


class DNWNear(DNW, Scheduled):
    """DNW that gives idle edges near the threshold a gradient in every step, and the others one every few steps.

    Only edges near the threshold can soon take the place of acting ones. The gradient of the others is not multiplied
    by the steps that were left out: updates that large let edges act by chance.

    Args:
        layout, prune_rate: see Wiring.
        near: idle edges that get a gradient in every step, those of largest magnitude; in numbers of acting edges.
        every: steps from one gradient of all edges to the next.
    """

    marks_reached = True

    def __init__(
        self, layout: EdgeLayout, prune_rate: float, *, near: float = NEAR.default, every: int = EVERY.default
    ) -> None:
        super().__init__(layout, prune_rate)
        self.near, self.every = near, every

    @property
    def reached_count(self) -> int:
        """Edges that get a gradient in every step."""
        return min(self.kept + round(min(self.near * self.kept, self.layout.possible)), self.layout.possible)

    def forward(self, weight: Tensor) -> Tensor:
        if self.reaches_idle or not torch.is_grad_enabled():
            return super().forward(weight)
        return _Reaching.apply(weight, *self.choose_reached(weight.detach()))

    def choose_reached(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The edges that get a gradient in every step: their places [reached_count] and which of them act, bool."""
        places = keep_largest(weight, self.reached_count).nonzero().squeeze(1)
        return places, self.choose(weight[places], self.kept if self.training else self.active)

    def due(self, step: int, steps: int) -> bool:
        return False

    def prepare(self, step: int, steps: int) -> None:
        self.reaches_idle = step % self.every == 0

    def get_extra_state(self) -> dict[str, int]:
        return {**super().get_extra_state(), "reaches_idle": self.reaches_idle}

    def set_extra_state(self, state: Mapping[str, int]) -> None:
        super().set_extra_state(state)
        self.reaches_idle = bool(state["reaches_idle"])
