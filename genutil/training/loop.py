"""The training loop: our own, short, over Lightning Fabric. What it calls it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from data import Batch, Data, Loader
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.evaluation.batches import stoppable, watched
from genutil.evaluation.scores import Scores, evaluate
from genutil.reports.logs import RunLog
from genutil.saved import checkpoints
from genutil.system.arithmetic import matmul_precision
from genutil.system.distributed import share_buffers
from genutil.system.interruption import Interrupted, StopRequest
from genutil.system.randomness import reseed
from genutil.training.progress import Meter, Progress
from genutil.training.records import Records
from genutil.training.schedules import LearningRate
from genutil.training.snapshots import Snapshots
from genutil.training.timetable import Timetable
from genutil.training.wiring_watch import WiringWatch
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
        self._look_every = 1 if self.fabric.device.type == "cpu" else LOOK_EVERY

    def run(self) -> Scores | None:
        """Train to the end; returns the scores of the last validation, None where there was nothing left to train.

        Raises:
            Interrupted: after a request to stop; what was reached is in last.pt then.
            UserError: the loss is not finite, or a checkpoint cannot be written.
        """
        scores = None
        self.snapshots.look()
        try:
            while self.progress.epoch < self.timetable.epochs:
                self.train(self.timetable.next_halt)
                if due := self.timetable.validation_due:
                    loader = self.data.test if self.data.validation is None else self.data.validation
                    scores = self.evaluate(loader, self.experiment.max_eval_steps)
                self.finish(scores if due else None)
        except Interrupted:
            self.look()
            self.progress.totals = self.records.totals()
            self.save("last")
            raise
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
        with self.log.bar(f"epoch {progress.epoch + 1}/{timetable.epochs}", timetable.epoch_end, progress.step) as bar:
            for batch in self._stoppable(self.data.train.epoch(progress.epoch, progress.step)):
                reseed(self.experiment.seed, "step", progress.updates, self.fabric.global_rank)
                self.meter.add(*self.update(batch, self.schedule.lr(progress.updates)), len(batch.labels))
                progress.step += 1
                self.snapshots.look()
                if progress.step % self._look_every == 0 or progress.step == halt:
                    self.look()
                    bar.set_postfix_str(self.meter.summary(self.fabric.world_size), refresh=False)
                if progress.updates % (self.experiment.log_interval or CURVE_EVERY) == 0:
                    self.look()
                    self.records.note_steps(in_metrics=self.experiment.log_interval is not None)
                bar.update()
                if progress.step == halt:
                    break

    def update(self, batch: Batch, lr: float) -> tuple[Tensor, Tensor]:
        """One step of the optimizer. Returns the batch's summed loss and its number of correct guesses."""
        experiment, fabric = self.experiment, self.fabric
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with matmul_precision(experiment.matmul_precision):
            logits = self.module(batch.images)
            loss = F.cross_entropy(logits, batch.labels, label_smoothing=experiment.label_smoothing, reduction="sum")
            self.optimizer.zero_grad()
            fabric.backward(loss * (fabric.world_size / batch.total))  # DDP takes the mean over processes
        if experiment.clip_grad_norm is not None:
            fabric.clip_gradients(
                self.module, self.optimizer, max_norm=experiment.clip_grad_norm, error_if_nonfinite=False
            )
        self.optimizer.step()
        update_wirings(self.network, self.optimizer, self.progress.updates, self.timetable.steps)
        return loss.detach(), (logits.detach().argmax(1) == batch.labels).sum()

    def evaluate(self, loader: Loader, steps: int | None = None) -> Scores:
        """Scores of the network as it is now on the images of a loader, or of its first steps."""
        share_buffers(self.fabric, self.network)
        steps = min(steps or len(loader), len(loader))
        batches = watched(islice(loader.epoch(0), steps), self.log.bar("evaluating", steps, delay=2))
        return evaluate(self.fabric, self.network, self._stoppable(batches))

    def finish(self, scores: Scores | None) -> None:
        """Note a validation, where there was one; end an epoch that is over; write the checkpoints due."""
        progress, interval = self.progress, self.experiment.checkpoint_interval
        names = []
        if scores is not None:
            names = ["last", "best"] if self.records.note_validation(scores) else ["last"]
        if progress.step >= self.timetable.epoch_end:
            progress.epoch, progress.step = progress.epoch + 1, 0
            names += [f"epoch_{progress.epoch}"] * bool(interval and progress.epoch % interval == 0)
        self.save(*names)

    def save(self, *names: str) -> None:
        """Write checkpoints of the present state, in the first process."""
        if self.folder is None:
            return
        for name in names:
            path = self.folder / f"{name}.pt"
            saved = self.progress.to_saved()
            checkpoints.save(path, self.fabric, self.network, self.optimizer, saved, self.settings, self.images)

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
