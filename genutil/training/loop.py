"""The training loop: our own, short, over Lightning Fabric. What it calls it is given."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from data import Batch, Data, Loader
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.evaluation.batches import stoppable, watched
from genutil.evaluation.scores import Scores, evaluate
from genutil.reports.logs import RunLog
from genutil.saved import checkpoints
from genutil.system.distributed import agree, share_buffers
from genutil.system.interruption import Interrupted, StopRequest
from genutil.system.randomness import reseed
from genutil.training.agreement import require_same_edges
from genutil.training.averages import Average
from genutil.training.gradients import backward
from genutil.training.keeper import Keeper
from genutil.training.progress import Meter, Progress
from genutil.training.records import Records
from genutil.training.schedules import LearningRate
from genutil.training.snapshots import Snapshots
from genutil.training.timetable import Timetable
from genutil.training.wiring_watch import WiringWatch
from models.native.allocator import memory_kept
from models.wirings.wire import update_wirings

if TYPE_CHECKING:
    from lightning_fabric import Fabric

LOOK_EVERY = 20
"""Steps between looks at the loss, and at requests to stop in other processes, where a look waits for a GPU."""

CURVE_EVERY = 50
"""Steps between points of TensorBoard's curve of the training loss, where no log_interval is given."""


@dataclass
class Training:
    """A training run: its parts, and the loop over them.

    Args:
        fabric: launched.
        experiment: the recipe and the seed are read here.
        network: the plain network, on its device; this is what is saved and evaluated.
        module: the network as Fabric set it up for training.
        optimizer: over the network's parameters, as Fabric set it up.
        schedule: learning rate of every step.
        data: the best weights are chosen on `validation`, where there is none on `test`.
        progress: where to go on.
        watch: of the wirings.
        log: silent in all processes but the first.
        stop: a request to stop.
        folder: for checkpoints; None in all processes but the first.
        settings: for checkpoints.
        say: prints a line, in the first process only.
        images: what the data say of themselves, for checkpoints.
        average: of the weights, where they are averaged.
    """

    fabric: Fabric
    experiment: Experiment
    network: nn.Module
    module: nn.Module
    optimizer: Optimizer
    schedule: LearningRate
    data: Data
    progress: Progress
    watch: WiringWatch
    log: RunLog
    stop: StopRequest
    folder: Path | None
    settings: dict[str, Any]
    say: Callable[[str], None]
    images: Mapping[str, Any] = field(default_factory=dict)
    average: Average | None = None

    def __post_init__(self) -> None:
        self.meter = Meter(self.progress.totals)
        self.timetable = Timetable(self.experiment, self.progress)
        self.records = Records(
            fabric=self.fabric,
            progress=self.progress,
            timetable=self.timetable,
            schedule=self.schedule,
            watch=self.watch,
            log=self.log,
            say=self.say,
            validated_on="test" if self.data.validation is None else "validation",
            measured=self.folder is not None,
        )
        self.snapshots = Snapshots(self.folder, self.watch, self.timetable, self.experiment.snapshots, self.say)
        self.average_scores: Scores | None = None
        self.keeper = Keeper(self.folder, self._contents, self.say)
        self._saved_at = time.monotonic()
        self._look_every = 1 if self.fabric.device.type == "cpu" else LOOK_EVERY

    def run(self) -> Scores | None:
        """Train to the end; returns the scores of the last validation, None where there was nothing left to train.

        Raises:
            Interrupted: after a request to stop; what was reached is in last.pt then.
            UserError: the loss is not finite, or last.pt cannot be written at the end.
        """
        scores = None
        self.snapshots.look()
        try:
            with memory_kept(self.experiment.keep_memory and self.fabric.device.type == "cpu"):
                while self.progress.epoch < self.timetable.epochs:
                    self.train(self.timetable.next_halt)
                    due = self.timetable.validation_due
                    if due:
                        scores = self.validate()
                    self.finish(scores if due else None)
        except Interrupted:
            self.look()
            self.progress.totals = self.records.totals()
            self.keeper.require_last()
            raise
        self.keeper.end()
        return scores

    def train(self, halt: int) -> None:
        """Go on training until so many steps of the present epoch are done."""
        progress, timetable = self.progress, self.timetable
        if not progress.totals.images:
            progress.acting = self.watch.acting()
        if progress.step >= halt:
            return
        self.module.train()
        self.meter = Meter(progress.totals)
        title, told = f"epoch {progress.epoch + 1}/{timetable.epochs}", timetable.validates_at(halt)
        with self.log.bar(title, timetable.epoch_end, progress.step, told=told) as bar:
            for batch in self._stoppable(self.data.train.epoch(progress.epoch, progress.step)):
                reseed(self.experiment.seed, "step", progress.updates, self.fabric.global_rank)
                self.meter.add(*self.update(batch, self.schedule.lr(progress.updates)), len(batch.labels))
                progress.step += 1
                self.snapshots.look()
                look = progress.step % self._look_every == 0 or progress.step == halt
                if look:
                    self.look()
                    bar.set_postfix_str(self.meter.summary(self.fabric.world_size), refresh=False)
                if progress.updates % (self.experiment.log_interval or CURVE_EVERY) == 0:
                    self.look()
                    self.records.note_steps(in_metrics=self.experiment.log_interval is not None)
                bar.update()
                if progress.step == halt:
                    break
                if look:
                    self.save_by_the_clock()

    def update(self, batch: Batch, lr: float) -> tuple[Tensor, Tensor]:
        """One step of the optimizer. Returns the batch's summed loss and its number of correct guesses."""
        experiment, fabric = self.experiment, self.fabric
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        loss, correct = backward(fabric, self.module, batch, experiment)
        if experiment.clip_grad_norm is not None:
            fabric.clip_gradients(
                self.module, self.optimizer, max_norm=experiment.clip_grad_norm, error_if_nonfinite=False
            )
        self.optimizer.step()
        update_wirings(self.network, self.optimizer, self.progress.updates, self.timetable.steps)
        if self.average:
            self.average.update()
        return loss, correct

    def validate(self) -> Scores:
        """Scores of the network as it is now; those of the average, where there is one, are kept beside them."""
        loader = self.data.test if self.data.validation is None else self.data.validation
        steps = self.experiment.max_eval_steps
        scores = self.evaluate(loader, steps)
        self.average_scores = self.evaluate(loader, steps, averaged=True) if self.average else None
        return scores

    def evaluate(self, loader: Loader, steps: int | None = None, averaged: bool = False) -> Scores:
        """Scores of the network as it is now, or of the average, on the images of a loader or of its first steps."""
        network = self.average.settled() if self.average and averaged else self.network
        share_buffers(self.fabric, network)
        steps = min(steps or len(loader), len(loader))
        batches = watched(islice(loader.epoch(0), steps), self.log.bar("evaluating", steps, delay=2))
        return evaluate(self.fabric, network, self._stoppable(batches))

    def finish(self, scores: Scores | None) -> None:
        """Note a validation, where there was one; end an epoch that is over; write the checkpoints due."""
        progress, interval = self.progress, self.experiment.checkpoint_interval
        names = []
        if scores is not None:
            names = ["last", "best"] if self.records.note_validation(scores, self.average_scores) else ["last"]
        if progress.step >= self.timetable.epoch_end:
            progress.epoch, progress.step = progress.epoch + 1, 0
            require_same_edges(self.fabric, self.watch.acting(), progress.epoch)
            names += [f"epoch_{progress.epoch}"] * bool(interval and progress.epoch % interval == 0)
        self.save(*names)
        if "last" not in names:
            self.save_by_the_clock()

    def save(self, *names: str) -> None:
        """Write checkpoints of the present state, in the first process, last.pt behind the others."""
        if not names:
            return
        own = self.progress.totals
        self.progress.totals = self.records.totals()  # of all processes, as a run that is resumed expects them
        self.keeper.save(*names)
        self.progress.totals = own
        if "last" in names:
            self._saved_at = time.monotonic()

    def save_by_the_clock(self) -> None:
        """Write last.pt where `checkpoint_minutes` have passed since it was written. All processes take part."""
        minutes = self.experiment.checkpoint_minutes
        if minutes is None:
            return
        due = self.fabric.global_rank == 0 and time.monotonic() - self._saved_at >= 60 * minutes
        if agree(self.fabric, due):
            self.save("last")

    def _contents(self) -> dict[str, Any]:
        saved = self.progress.to_saved()
        average = self.average.to_saved() if self.average else None
        return checkpoints.contents(
            self.fabric, self.network, self.optimizer, saved, self.settings, self.images, average
        )

    def look(self) -> None:
        """Read the losses since the last look, and stop if one of them is not finite."""
        progress = self.progress
        losses = self.meter.read()
        for step, loss in enumerate(losses, progress.step - len(losses)):
            if not math.isfinite(loss):
                rate = self.schedule.lr(progress.epoch * progress.steps_per_epoch + step)
                last = self.folder and self.folder / "last.pt"
                kept = f" The last good checkpoint is {last}." if last and last.exists() else ""
                raise UserError(
                    f"The loss is {loss} at step {step + 1} of epoch {progress.epoch + 1}, with a learning rate of "
                    f"{rate:g}: try a lower one, warmup_epochs or clip_grad_norm.{kept}"
                )

    def _stoppable(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        return stoppable(self.fabric, batches, self.stop, self._look_every)
