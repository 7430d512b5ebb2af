"""Learning rates as pure functions of the step, so that a resumed run needs nothing saved to go on with its own.

A step is the number of updates made before the one in question: `lr(0)` is the rate of the first update.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Protocol

from genutil.config import Experiment


class LearningRate(Protocol):
    """A learning rate for every step."""

    def lr(self, step: int) -> float: ...


@dataclass(frozen=True)
class Constant:
    """The same rate throughout."""

    lr0: float

    def lr(self, step: int) -> float:
        return self.lr0


@dataclass(frozen=True)
class MultiStep:
    """A rate that is multiplied by `gamma` at each boundary (in steps, rising)."""

    lr0: float
    boundaries: tuple[int, ...]
    gamma: float

    def lr(self, step: int) -> float:
        return self.lr0 * self.gamma ** bisect_right(self.boundaries, step)


@dataclass(frozen=True)
class Piecewise:
    """One rate after the other: `rates[i]` until `boundaries[i]` steps are done, and the last one from then on."""

    rates: tuple[float, ...]
    boundaries: tuple[int, ...]

    def lr(self, step: int) -> float:
        return self.rates[min(bisect_right(self.boundaries, step), len(self.rates) - 1)]


@dataclass(frozen=True)
class Cosine:
    """Half a cosine: lr0/2 * (1 + cos(pi*t/T)) before update t = 1..T (Loshchilov, Hutter 2017, arXiv 1608.03983)."""

    lr0: float
    steps: int

    def lr(self, step: int) -> float:
        t = min(step + 1, self.steps)
        return 0.5 * self.lr0 * (1 + math.cos(math.pi * t / self.steps))


@dataclass(frozen=True)
class CosineByEpoch:
    """Half a cosine in steps of an epoch: lr0/2 * (1 + cos(pi*e/E)) throughout epoch e = 0..E-1."""

    lr0: float
    steps: int
    steps_per_epoch: int

    def lr(self, step: int) -> float:
        begun = min(step, self.steps) // self.steps_per_epoch * self.steps_per_epoch
        return 0.5 * self.lr0 * (1 + math.cos(math.pi * begun / self.steps))


@dataclass(frozen=True)
class Linear:
    """lr0/T less before every update t = 1..T, so that the last one has 0."""

    lr0: float
    steps: int

    def lr(self, step: int) -> float:
        t = min(step + 1, self.steps)
        return self.lr0 * (1 - t / self.steps)


@dataclass(frozen=True)
class Exponential:
    """lr0 * gamma^epoch, epochs counted from 0."""

    lr0: float
    gamma: float
    steps_per_epoch: int

    def lr(self, step: int) -> float:
        return self.lr0 * self.gamma ** (step // self.steps_per_epoch)


@dataclass(frozen=True)
class WarmUp:
    """lr0*t/W for the updates t = 1..W, then another schedule (Goyal et al. 2017, arXiv 1706.02677, 2.2).

    Args:
        lr0: the rate warmed up to.
        steps: W.
        then: the schedule from then on.
        delay: steps that `then` starts later than the run: W for a schedule that is laid over what remains (cosine,
            linear), 0 for one that is tied to epochs (multistep, exponential).
    """

    lr0: float
    steps: int
    then: LearningRate
    delay: int

    def lr(self, step: int) -> float:
        if step < self.steps:
            return self.lr0 * (step + 1) / self.steps
        return self.then.lr(step - self.delay)


def linear_scale(experiment: Experiment) -> float:
    """What the rates are multiplied by for the size of the batches (Goyal et al. 2017, arXiv 1706.02677, 2.1)."""
    return 1.0 if experiment.lr_batch_size is None else experiment.batch_size / experiment.lr_batch_size


def make_schedule(experiment: Experiment, steps_per_epoch: int) -> LearningRate:
    """The schedule of an experiment.

    Cosine and linear run from the end of the warm-up to the end of the run. The epochs of multistep and exponential
    count from the start of the run, warm-up included; so do milestones that are shares of its steps.

    Args:
        experiment: `epoch_len`, where given, takes the place of `steps_per_epoch`.
        steps_per_epoch: of the data.
    """
    scale = linear_scale(experiment)
    lr0 = experiment.lr * scale
    epoch = experiment.epoch_len or steps_per_epoch
    steps = experiment.num_steps or experiment.num_epochs * epoch
    warm_up = _steps(experiment.warmup_steps or 0, 1, steps) or round(experiment.warmup_epochs * epoch)
    remaining = max(1, steps - warm_up)
    delay = 0
    schedule: LearningRate
    match experiment.lr_scheduler:
        case "constant":
            schedule = Constant(lr0)
        case "multistep":
            boundaries = sorted(_steps(milestone, epoch, steps) for milestone in experiment.multistep_lr_milestones)
            schedule = MultiStep(lr0, tuple(boundaries), experiment.multistep_lr_gamma)
        case "steps":
            schedule = Piecewise(tuple(scale * rate for rate in experiment.lr_values), tuple(experiment.lr_boundaries))
        case "exponential":
            schedule = Exponential(lr0, experiment.exp_decaying_lr_gamma, epoch)
        case "cosine":
            schedule, delay = Cosine(lr0, remaining), warm_up
        case "cosine_by_epoch":
            schedule, delay = CosineByEpoch(lr0, remaining, epoch), warm_up
        case "linear":
            schedule, delay = Linear(lr0, remaining), warm_up
    return WarmUp(lr0, warm_up, schedule, delay) if warm_up else schedule


def _steps(length: float, unit: int, training: int) -> int:
    """Steps of a length in units of so many steps or, below 1, of that share of the training."""
    return round(length * (training if length < 1 else unit))
