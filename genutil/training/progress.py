"""Where training stands, and the sums of the epoch that it is in."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt
from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from torch import Tensor

from genutil.errors import UserError

_Number = Annotated[int, Ge(0), Lt(2**53)]


@dataclass
class Totals:
    """Sums over the images trained on since the last validation, in this process."""

    loss: float = 0.0
    correct: float = 0.0
    images: float = 0.0
    seconds: float = 0.0


@dataclass
class Progress:
    """Where training stands: all that a resumed run has to know beside weights and optimizer.

    Attributes:
        epoch: epochs behind it.
        step: updates behind it in the epoch that it is in.
        steps_per_epoch: of the data.
        validated: updates that were behind it at the last validation.
        best: `epoch`, `step`, `top1` and `loss` of the best validation so far; top1 in percent.
        history: every record that metrics.jsonl has.
        totals: since the last validation.
        noted: what these sums, over all processes, were when the log last got the means of some steps.
        acting: which edges of each graph acted at the last validation.
        pieces: of a training that was stopped and resumed, or of one that was not: the machine of each
            (`system.conditions.machine`) and the `step`, counted in updates, at which it took over. What was done
            before the first of them is not known.
    """

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)

    steps_per_epoch: Annotated[int, Ge(1)]
    epoch: _Number = 0
    step: _Number = 0
    validated: _Number = 0
    best: Annotated[dict[str, int | float] | None, AfterValidator(lambda best: _check_best(best))] = None
    history: list[dict[str, Any]] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)
    noted: Totals = field(default_factory=Totals)
    acting: dict[str, Tensor] = field(default_factory=dict)
    pieces: list[dict[str, Any]] = field(default_factory=list)

    @property
    def updates(self) -> int:
        """Updates behind it."""
        return self.epoch * self.steps_per_epoch + self.step

    def begin_piece(self, machine: Mapping[str, Any]) -> None:
        """Note the machine that goes on from here, where it is another one."""
        before = self.pieces and {key: value for key, value in self.pieces[-1].items() if key != "step"}
        if before != machine:
            self.pieces.append({"step": self.updates, **machine})

    def to_saved(self) -> dict[str, Any]:
        """As plain values and tensors, for a checkpoint."""
        return asdict(self)

    def restore(self, saved: dict[str, Any], source: str | Path) -> None:
        """Take over what a checkpoint saved.

        Raises:
            UserError: it was saved within an epoch of another number of steps, or is not what this program saves.
        """
        try:
            found = _SAVED.validate_python(saved)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            place = ".".join(map(str, ("progress", *fault["loc"])))
            raise UserError(f"{source} is damaged: {place}: {fault['msg']}.") from None
        if found.step and found.steps_per_epoch != self.steps_per_epoch:
            raise UserError(
                f"{source} was saved within an epoch of {found.steps_per_epoch} steps, and an epoch has "
                f"{self.steps_per_epoch} now: resume with the same data and batch_size."
            )
        found.steps_per_epoch = self.steps_per_epoch
        for part in fields(found):
            setattr(self, part.name, getattr(found, part.name))


def _check_steps(progress: Progress) -> Progress:
    if progress.step > progress.steps_per_epoch:
        raise PydanticCustomError("steps", "is more than an epoch has")
    return progress


def _check_best(best: dict[str, Any] | None) -> dict[str, Any] | None:
    if best is not None and not {"epoch", "top1"} <= best.keys():
        raise PydanticCustomError("best", "has no epoch or no top1")
    return best


_SAVED = TypeAdapter(Annotated[Progress, AfterValidator(_check_steps)])
"""Reads what `to_saved` gave."""


class Meter:
    """Adds up losses and guesses without waiting for the device, until read.

    Args:
        totals: what it adds to.
    """

    def __init__(self, totals: Totals) -> None:
        self.totals = totals
        self._unread: list[Tensor] = []
        self._images = 0
        self._before = totals.seconds
        self._started = time.perf_counter()

    def add(self, loss: Tensor, correct: Tensor, images: int) -> None:
        """A step's summed loss, number of correct guesses, and number of images."""
        self._unread.append(torch.stack([loss.double(), correct.double()]))
        self._images += images

    def read(self) -> list[float]:
        """Add what has come since the last time to the totals; returns the summed loss of each of those steps."""
        steps = torch.stack(self._unread).tolist() if self._unread else []
        for loss, correct in steps:  # one by one, so that the sum does not depend on when it is read
            self.totals.loss += loss
            self.totals.correct += correct
        self.totals.images += self._images
        self.totals.seconds = self._before + time.perf_counter() - self._started
        self._unread, self._images = [], 0
        return [loss for loss, _ in steps]

    def summary(self, processes: int) -> str:
        """Mean loss, accuracy in percent, and images a second (of all processes, from this one's)."""
        totals = self.totals
        images, speed = max(totals.images, 1), processes * totals.images / max(totals.seconds, 1e-9)
        return f"loss {totals.loss / images:.4f}, top-1 {100 * totals.correct / images:.2f} %, {speed:.0f} images/s"
