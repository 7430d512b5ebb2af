"""The records of a training: means over its steps, and its validations; made here and noted in progress and log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from genutil.evaluation.scores import Scores
from genutil.reports.logs import RunLog, validation_line
from genutil.system.distributed import sum_over_processes
from genutil.training.progress import Progress, Totals
from genutil.training.schedules import LearningRate
from genutil.training.timetable import Timetable
from genutil.training.wiring_watch import WiringWatch

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Records:
    """Makes and notes the records of a training. All processes take part in it; only the first one has a log.

    Args:
        fabric: launched.
        progress: gets the records, and the best validation.
        timetable: of the training.
        schedule: the learning rate of every step.
        watch: of the wirings.
        log: gets the records.
        say: prints a line, in the first process only.
        validated_on: the name of the images of validations, "validation" or "test".
        measured: whether the network is measured, which the first process alone need do.
    """

    fabric: Fabric
    progress: Progress
    timetable: Timetable
    schedule: LearningRate
    watch: WiringWatch
    log: RunLog
    say: Callable[[str], None]
    validated_on: str
    measured: bool

    def note_steps(self, in_metrics: bool) -> None:
        """Note the means of the steps since the last such note or validation.

        Args:
            in_metrics: whether they belong to the run's history, and so into metrics.jsonl.
        """
        progress, totals = self.progress, self.totals()
        record = self._position() | _means(totals, progress.noted)
        progress.noted = totals
        if in_metrics:
            progress.history.append(record)
        self.log.steps(record, in_metrics=in_metrics)

    def note_validation(self, scores: Scores, average: Scores | None = None) -> bool:
        """Note a validation and what was trained since the one before. Returns whether it is the best so far.

        Args:
            scores: of the weights, which decide that.
            average: of the averaged weights, where they are averaged.
        """
        progress = self.progress
        record = self._of_validation(scores)
        if average is not None:
            record |= {"average_top1": average.top1, "average_top5": average.top5, "average_loss": average.loss}
        best = progress.best
        better = best is None or scores.top1 > best["top1"]
        if best is None or better:
            best = {"epoch": record["epoch"], "step": record["step"], "top1": scores.top1, "loss": scores.loss}
            progress.best = best
        progress.history.append(record)
        self.log.epoch(record, self.watch.pictures() if self.log.folder else None)
        position = self.timetable.position(record["epoch"], record["step"])
        left = self.timetable.seconds_left(record["seconds"])
        self.say(validation_line(position, record, best["top1"], left))
        progress.validated = progress.updates
        progress.totals, progress.noted, progress.acting = Totals(), Totals(), {}
        return better

    def totals(self) -> Totals:
        """The sums of all processes together, in each of them."""
        totals = self.progress.totals
        sums = torch.tensor([totals.loss, totals.correct, totals.images], dtype=torch.float64)
        if self.fabric.world_size > 1:
            sums = sum_over_processes(self.fabric, sums.to(self.fabric.device))
        loss, correct, images = sums.tolist()
        return Totals(loss, correct, images, totals.seconds)

    def _of_validation(self, scores: Scores) -> dict[str, Any]:
        totals = self.totals()
        record = {
            **self._position(),
            **_means(totals, Totals()),
            "validation_top1": scores.top1,
            "validation_top5": scores.top5,
            "validation_loss": scores.loss,
            "validated_on": self.validated_on,
            "images_per_second": totals.images / totals.seconds,
            "seconds": totals.seconds + scores.seconds,
        }
        return record | self.watch.measures(self.progress.acting) if self.measured else record

    def _position(self) -> dict[str, Any]:
        progress = self.progress
        return {"epoch": progress.epoch + 1, "step": progress.updates, "lr": self.schedule.lr(progress.updates - 1)}


def _means(totals: Totals, before: Totals) -> dict[str, float]:
    """Of the images since then: mean loss in nats, accuracy in percent."""
    images = totals.images - before.images
    return {
        "train_loss": (totals.loss - before.loss) / images,
        "train_top1": 100 * (totals.correct - before.correct) / images,
    }
