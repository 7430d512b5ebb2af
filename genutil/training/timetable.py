"""When a training validates, when its epochs end, when it is over."""

from __future__ import annotations

import math
from dataclasses import dataclass

from genutil.config import Experiment
from genutil.training.progress import Progress


@dataclass(frozen=True)
class Timetable:
    """The course of a training, in steps. All of it follows from where the training stands.

    Args:
        experiment: gives `num_epochs`, `num_steps` and `val_interval`.
        progress: where training stands at the moment of a question.
    """

    experiment: Experiment
    progress: Progress

    @property
    def steps(self) -> int:
        """Updates of the whole training."""
        return self.experiment.num_steps or self.experiment.num_epochs * self.progress.steps_per_epoch

    @property
    def epochs(self) -> int:
        """Epochs of the whole training, of which the last may be cut short."""
        return math.ceil(self.steps / self.progress.steps_per_epoch)

    @property
    def epoch_end(self) -> int:
        """Steps of the present epoch, which may be the last one and cut short."""
        progress = self.progress
        return min(progress.steps_per_epoch, self.steps - progress.epoch * progress.steps_per_epoch)

    @property
    def next_halt(self) -> int:
        """The step of the present epoch at which a validation follows, or the epoch ends."""
        progress, interval = self.progress, self.experiment.val_interval
        if interval is None:
            return self.epoch_end
        left = 0 if self.validation_due else interval - progress.updates % interval
        return min(self.epoch_end, progress.step + left)

    @property
    def validation_due(self) -> bool:
        """Whether a validation follows the last step, and has not been done yet."""
        progress = self.progress
        done = self.experiment.val_interval is not None and progress.updates == progress.validated
        return self.validates_at(progress.step) and not done

    def validates_at(self, step: int) -> bool:
        """Whether a validation follows that step of the present epoch."""
        progress, interval = self.progress, self.experiment.val_interval
        if interval is None:
            return step >= self.epoch_end
        updates = progress.updates + step - progress.step
        return updates % interval == 0 or updates == self.steps

    def position(self, epoch: int, step: int) -> str:
        """A place in the training for a person: of an epoch, or of a step where validations are counted in steps.

        Args:
            epoch: counted from 1.
            step: updates behind it.
        """
        if self.experiment.val_interval is not None:
            return f"step {step}/{self.steps}"
        return f"epoch {epoch}/{self.epochs}"

    def seconds_left(self, seconds: float) -> float:
        """Seconds that the rest will take if it goes on as since the last validation, which took `seconds`."""
        progress = self.progress
        return seconds * (self.steps - progress.updates) / max(progress.updates - progress.validated, 1)
