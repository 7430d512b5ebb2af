"""Rival rules of sparse training: gradual magnitude pruning, SET, RigL and STR.

Unlike the other wirings they change at certain steps of training:
`models.wirings.wire.update_wirings` tells them after every step of the optimizer. Steps are counted from 0. After the
last one each keeps exactly its budget of edges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.wirings.layout import EdgeLayout
from models.wirings.options import BEGIN, DECAY, END, FRACTION, INITIAL, INTERVAL
from models.wirings.selection import keep_largest
from models.wirings.wiring import StraightThrough, Wiring


class Scheduled(Wiring):
    """A wiring that changes after certain steps of training."""

    def due(self, step: int, steps: int) -> bool:
        """Whether the wiring changes after this step of so many."""
        raise NotImplementedError

    def progress(self, step: int, steps: int) -> float:
        """How much of the removal is done after this step: from 0, every edge acts, to 1, only the budget does."""
        return 1.0

    def change(
        self, weight: Tensor, gradient: Tensor | None, states: Sequence[Tensor], edges: int, step: int, steps: int
    ) -> None:
        """Change the wiring after a step at which it is due.

        Args:
            weight: full weights [possible], changed in place.
            gradient: of the loss in this step, [possible]; None where there was none.
            states: what the optimizer keeps for each weight (momentum), each [possible], changed in place.
            edges: how many may act from now on.
            step, steps: the step just done, from 0, and how many there are.
        """
        raise NotImplementedError

    def prepare(self, step: int, steps: int) -> None:
        """Look at the step that comes next."""


class _Masked(Scheduled):
    """Only the edges of a mask act and get a gradient; the mask changes every `interval` steps.

    Args:
        layout, prune_rate: see Wiring.
        interval: steps between two changes.
        end: share of the training after which nothing changes.
    """

    mask: Tensor
    reaches_idle = False

    def __init__(
        self, layout: EdgeLayout, prune_rate: float, *, interval: int = INTERVAL.default, end: float = END.default
    ) -> None:
        super().__init__(layout, prune_rate)
        self.interval, self.end = interval, end
        self.register_buffer("mask", torch.ones(layout.possible, dtype=torch.bool))

    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(self.mask, weight, 0)

    def acting(self, weight: Tensor) -> Tensor:
        return self.mask

    def last_change(self, steps: int) -> int:
        """The step after which nothing changes."""
        return max(math.ceil(self.end * steps) - 1, 0)

    def due(self, step: int, steps: int) -> bool:
        return step < self.last_change(steps) and (step + 1) % self.interval == 0


class GradualMagnitude(_Masked):
    """Gradual magnitude pruning (Zhu and Gupta 2017, arXiv 1710.01878).

    The weakest edges are masked; how many rises with the cube of time from none at `begin` (a share of the
    training) to the budget at `end`. A masked edge keeps its weight and may come back at the next change.
    """

    def __init__(
        self,
        layout: EdgeLayout,
        prune_rate: float,
        *,
        begin: float = BEGIN.default,
        end: float = END.default,
        interval: int = INTERVAL.default,
    ) -> None:
        super().__init__(layout, prune_rate, interval=interval, end=end)
        self.begin = begin

    def due(self, step: int, steps: int) -> bool:
        return super().due(step, steps) or step == self.last_change(steps)

    def follows_rate(self, step: int, steps: int) -> bool:
        return step <= self.last_change(steps)

    def progress(self, step: int, steps: int) -> float:
        length = self.last_change(steps) + 1 - self.begin * steps
        time = (step + 1 - self.begin * steps) / length if length > 0 else 1.0
        return 1 - (1 - min(max(time, 0.0), 1.0)) ** 3

    def change(
        self, weight: Tensor, gradient: Tensor | None, states: Sequence[Tensor], edges: int, step: int, steps: int
    ) -> None:
        self.mask.copy_(keep_largest(weight, edges))


class _Regrown(_Masked):
    """A random part of the edges, of which now and then some are dropped and as many grown.

    Args:
        fraction: of the acting edges, dropped at a change.
    """

    seed: Tensor

    def __init__(
        self,
        layout: EdgeLayout,
        prune_rate: float,
        *,
        fraction: float = FRACTION.default,
        interval: int = INTERVAL.default,
        end: float = END.default,
    ) -> None:
        super().__init__(layout, prune_rate, interval=interval, end=end)
        self.fraction = fraction
        # every process has to grow the same edges, whatever its own generator has drawn
        self.register_buffer("seed", torch.zeros((), dtype=torch.int64))

    def score(self, weight: Tensor) -> Tensor:
        return torch.rand(weight.shape)

    def start(self, weight: Tensor) -> None:
        self.seed.copy_(torch.randint(2**62, ()))
        self.mask.copy_(keep_largest(self.score(weight), self.kept))

    def _replace(self, weight: Tensor, states: Sequence[Tensor], dropped: Tensor, appeal: Tensor) -> None:
        """Drop edges (a mask) and grow as many of those that then do not act, by falling appeal, at weight 0."""
        mask = self.mask & ~dropped
        idle = (~mask).nonzero().squeeze(1)
        mask[idle[keep_largest(appeal[idle], int(dropped.count_nonzero()))]] = True
        new = mask & ~self.mask
        for tensor in (weight, *states):
            tensor.masked_fill_(new, 0)
        self.mask.copy_(mask)


class SET(_Regrown):
    """Sparse evolutionary training (Mocanu et al. 2018, arXiv 1707.04780).

    At a change the given fraction of the positive edges, those nearest to 0, and of the negative ones is
    dropped, and as many edges are grown at random.
    """

    def change(
        self, weight: Tensor, gradient: Tensor | None, states: Sequence[Tensor], edges: int, step: int, steps: int
    ) -> None:
        dropped = torch.zeros_like(self.mask)
        for sign in (weight > 0, weight < 0):
            dropped |= _weakest(weight, self.mask & sign, self.fraction)
        generator = torch.Generator().manual_seed((int(self.seed) + step) % 2**62)
        appeal = torch.rand(weight.shape, generator=generator).to(weight.device)
        self._replace(weight, states, dropped, appeal)


class RigL(_Regrown):
    """Rigging the lottery (Evci et al. 2020, arXiv 1911.11134).

    At a change the weakest edges are dropped, and those edges grown whose weight has the largest gradient.
    The fraction falls as a cosine from `fraction` to 0 at `end`.
    """

    def __init__(
        self,
        layout: EdgeLayout,
        prune_rate: float,
        *,
        fraction: float = FRACTION.default,
        interval: int = INTERVAL.default,
        end: float = END.default,
    ) -> None:
        super().__init__(layout, prune_rate, fraction=fraction, interval=interval, end=end)
        self.reaches_idle = True

    def forward(self, weight: Tensor) -> Tensor:
        # idle edges get a gradient only in steps that a change follows
        return StraightThrough.apply(weight, self.mask) if self.reaches_idle else super().forward(weight)

    def change(
        self, weight: Tensor, gradient: Tensor | None, states: Sequence[Tensor], edges: int, step: int, steps: int
    ) -> None:
        if gradient is None:
            raise ValueError("RigL grows edges by their gradient, and this step has left none.")
        fraction = self.fraction / 2 * (1 + math.cos(math.pi * (step + 1) / (self.end * steps)))
        self._replace(weight, states, _weakest(weight, self.mask, fraction), gradient)

    def prepare(self, step: int, steps: int) -> None:
        self.reaches_idle = self.due(step, steps)

    def get_extra_state(self) -> dict[str, bool]:
        return {"dense_gradient": self.reaches_idle}

    def set_extra_state(self, state: Mapping[str, bool]) -> None:
        self.reaches_idle = state["dense_gradient"]


def _weakest(weight: Tensor, among: Tensor, fraction: float) -> Tensor:
    """Mask of the given fraction (rounded down) of the edges `among` that have the smallest magnitude."""
    positions = among.nonzero().squeeze(1)
    staying = keep_largest(weight[positions], len(positions) - int(fraction * len(positions)))
    weakest = torch.zeros_like(among)
    weakest[positions[~staying]] = True
    return weakest


class _Decayed(torch.autograd.Function):
    """The identity; adds decay * value to the gradient, as weight decay does."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, decay: float) -> Tensor:
        ctx.save_for_backward(value)
        ctx.decay = decay
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (value,) = ctx.saved_tensors
        return gradient + ctx.decay * value, None


class STR(Scheduled):
    """Soft threshold weight reparameterization (Kusupati et al. 2020, arXiv 2002.03231).

    The effective weight is sign(w) * max(|w| - sigmoid(s), 0), with an s for each layer that is learned. How
    many edges act is a result; a cut after the last step, by |w| - sigmoid(s), then meets the budget. Where
    fewer act than that, the budget is filled with edges whose effective weight is 0.

    Args:
        layout, prune_rate: see Wiring.
        initial: s at the start; below 0.
        decay: weight decay of s, which drives the threshold up. This is the strength to search.

    Attributes:
        natural: edges that acted before the cut; None until then.
    """

    mask: Tensor

    def __init__(
        self, layout: EdgeLayout, prune_rate: float, *, initial: float = INITIAL.default, decay: float = DECAY.default
    ) -> None:
        super().__init__(layout, prune_rate)
        self.threshold = nn.Parameter(torch.tensor(float(initial)))
        self.decay = decay
        self.natural: int | None = None
        self.register_buffer("mask", torch.ones(layout.possible, dtype=torch.bool))

    def score(self, weight: Tensor) -> Tensor:
        # plus 1, for a score has to be positive and a sigmoid is below 1
        return weight.detach().abs().double() + 1 - torch.sigmoid(self.threshold.detach().double())

    def forward(self, weight: Tensor) -> Tensor:
        if self.training:
            return _soften(weight, _Decayed.apply(self.threshold, self.decay))
        return self.effective(weight)

    def effective(self, weight: Tensor) -> Tensor:
        return torch.where(self.mask, _soften(weight, self.threshold), 0)

    def acting(self, weight: Tensor) -> Tensor:
        return self.mask if self.natural is not None else _soften(weight, self.threshold) != 0

    def due(self, step: int, steps: int) -> bool:
        return step + 1 == steps

    def follows_rate(self, step: int, steps: int) -> bool:
        return step < steps

    def change(
        self, weight: Tensor, gradient: Tensor | None, states: Sequence[Tensor], edges: int, step: int, steps: int
    ) -> None:
        self.natural = int(torch.count_nonzero(_soften(weight, self.threshold)))
        self.mask.copy_(keep_largest(self.score(weight), edges))

    def prepare(self, step: int, steps: int) -> None:
        if step < steps and self.natural is not None:
            self.natural = None
            self.mask.fill_(True)

    def get_extra_state(self) -> dict[str, int | None]:
        return {"natural": self.natural}

    def set_extra_state(self, state: Mapping[str, int | None]) -> None:
        self.natural = state["natural"]


def _soften(weight: Tensor, threshold: Tensor) -> Tensor:
    return weight.sign() * torch.relu(weight.abs() - torch.sigmoid(threshold))
