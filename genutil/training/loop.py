"""The training loop: our own, short, over Lightning Fabric. What it calls it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from data import Batch, Data, Loader
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.evaluation.batches import readable, watched
from genutil.evaluation.scores import Scores, evaluate
from genutil.reports.logs import RunLog, validation_line
from genutil.saved import checkpoints
from genutil.system.distributed import agree, share_buffers, sum_over_processes
from genutil.system.interruption import Interrupted, StopRequest
from genutil.system.randomness import reseed
from genutil.training.progress import Meter, Progress, Totals
from genutil.training.schedules import Schedule
from genutil.training.wiring_watch import WiringWatch
from models.wirings.wire import update_wirings

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
    """

    fabric: Fabric
    experiment: Experiment
    network: nn.Module
    module: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    data: Data
    progress: Progress
    watch: WiringWatch
    log: RunLog
    stop: StopRequest
    folder: Path | None
    settings: dict[str, Any]
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self.meter = Meter(self.progress.totals)

    @property
    def steps(self) -> int:
        """Updates of the whole training."""
        return self.experiment.num_steps or self.experiment.num_epochs * self.progress.steps_per_epoch

    @property
    def epochs(self) -> int:
        """Epochs of the whole training, of which the last may be cut short."""
        return math.ceil(self.steps / self.progress.steps_per_epoch)

    def run(self) -> Scores | None:
        """Train to the end; returns the scores of the last validation, None where there was nothing left to train.

        Raises:
            Interrupted: after a request to stop; what was reached is in last.pt then.
            UserError: the loss is not finite, or a checkpoint cannot be written.
        """
        scores = None
        try:
            while self.progress.epoch < self.epochs:
                self.train(self._next_halt())
                if due := self._validation_due():
                    loader = self.data.test if self.data.validation is None else self.data.validation
                    scores = self.evaluate(loader, self.experiment.max_eval_steps)
                self.finish(scores if due else None)
        except Interrupted:
            self.look()
            self.progress.totals = self._totals_of_all()
            self.save("last")
            raise
        return scores

    def train(self, halt: int) -> None:
        """Go on training until so many steps of the present epoch are done."""
        progress, loader = self.progress, self.data.train
        if not progress.totals.images:
            progress.acting = self.watch.acting()
        if progress.step >= halt:
            return
        self.module.train()
        self.meter = Meter(progress.totals)
        title = f"epoch {progress.epoch + 1}/{self.epochs}"
        with self.log.bar(title, self._epoch_end(), progress.step) as bar:
            for batch in self.stoppable(loader.epoch(progress.epoch, progress.step)):
                reseed(self.experiment.seed, "step", progress.updates, self.fabric.global_rank)
                loss, correct = self.update(batch, self.schedule.lr(progress.updates))
                self.meter.add(loss, correct, len(batch.labels))
                progress.step += 1
                if progress.step % self._look_every == 0 or progress.step == halt:
                    self.look()
                    bar.set_postfix_str(self.meter.summary(self.fabric.world_size), refresh=False)
                if progress.updates % self._log_interval == 0:
                    self.note_steps()
                bar.update()
                if progress.step == halt:
                    break

    def update(self, batch: Batch, lr: float) -> tuple[Tensor, Tensor]:
        """One step of the optimizer. Returns the batch's summed loss and its number of correct guesses."""
        experiment, fabric = self.experiment, self.fabric
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        logits = self.module(batch.images)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=experiment.label_smoothing, reduction="sum")
        self.optimizer.zero_grad()
        fabric.backward(loss * (fabric.world_size / batch.total))  # DDP takes the mean over processes
        if experiment.clip_grad_norm is not None:
            fabric.clip_gradients(
                self.module, self.optimizer, max_norm=experiment.clip_grad_norm, error_if_nonfinite=False
            )
        self.optimizer.step()
        update_wirings(self.network, self.optimizer, self.progress.updates, self.steps)
        return loss.detach(), (logits.detach().argmax(1) == batch.labels).sum()

    def evaluate(self, loader: Loader, steps: int | None = None) -> Scores:
        """Scores of the network as it is now on the images of a loader, or of its first steps."""
        share_buffers(self.fabric, self.network)
        steps = min(steps or len(loader), len(loader))
        batches = watched(islice(loader.epoch(0), steps), self.log.bar("evaluating", steps, delay=2))
        return evaluate(self.fabric, self.network, self.stoppable(batches))

    def finish(self, scores: Scores | None) -> None:
        """Note a validation, where there was one, in the log; end an epoch that is over; write the checkpoints due."""
        progress, interval = self.progress, self.experiment.checkpoint_interval
        names = [] if scores is None else self._note(scores)
        if progress.step >= self._epoch_end():
            progress.epoch, progress.step = progress.epoch + 1, 0
            names += [f"epoch_{progress.epoch}"] * bool(interval and progress.epoch % interval == 0)
        self.save(*names)

    def _note(self, scores: Scores) -> list[str]:
        """Note a validation and what was trained since the one before; returns the names of checkpoints due."""
        progress = self.progress
        record = self._record(scores)
        better = progress.best is None or scores.top1 > progress.best["top1"]
        if better:
            progress.best = {"epoch": record["epoch"], "step": record["step"], "top1": scores.top1, "loss": scores.loss}
        progress.history.append(record)
        self.log.epoch(record, self.watch.pictures() if self.log.folder else None)
        by_steps = self.experiment.val_interval is not None
        position = f"step {record['step']}/{self.steps}" if by_steps else f"epoch {record['epoch']}/{self.epochs}"
        left = record["seconds"] * (self.steps - progress.updates) / max(progress.updates - progress.validated, 1)
        self.say(validation_line(position, record, progress.best["top1"], left))
        progress.validated = progress.updates
        progress.totals, progress.noted, progress.acting = Totals(), Totals(), {}
        return ["last", *["best"] * better]

    def note_steps(self) -> None:
        """Note the means of the steps since the last such note or validation, in the log."""
        self.look()
        progress, totals = self.progress, self._totals_of_all()
        images = totals.images - progress.noted.images
        record = {
            "epoch": progress.epoch + 1,
            "step": progress.updates,
            "lr": self.schedule.lr(progress.updates - 1),
            "train_loss": (totals.loss - progress.noted.loss) / images,
            "train_top1": 100 * (totals.correct - progress.noted.correct) / images,
        }
        progress.noted = totals
        if self.experiment.log_interval:
            progress.history.append(record)
        self.log.steps(record, in_metrics=bool(self.experiment.log_interval))

    def save(self, *names: str) -> None:
        """Write checkpoints of the present state, in the first process."""
        if self.folder is None:
            return
        for name in names:
            path = self.folder / f"{name}.pt"
            saved = self.progress.to_saved()
            checkpoints.save(path, self.fabric, self.network, self.optimizer, saved, self.settings)

    def stoppable(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; a request to stop that any process got ends them before the next.

        Raises:
            Interrupted: in all processes at the same batch.
        """
        for number, batch in enumerate(readable(batches)):
            look = self.fabric.world_size == 1 or number % self._look_every == 0
            if look and agree(self.fabric, self.stop.requested):
                raise Interrupted
            yield batch

    def look(self) -> None:
        """Read the losses since the last look, and stop if one of them is not finite."""
        progress = self.progress
        losses = self.meter.read()
        for step, loss in enumerate(losses, progress.step - len(losses)):
            if not math.isfinite(loss):
                rate = self.schedule.lr(progress.epoch * progress.steps_per_epoch + step)
                kept = f" The last good checkpoint is {self.folder / 'last.pt'}." if self._has_last() else ""
                raise UserError(
                    f"The loss is {loss} at step {step + 1} of epoch {progress.epoch + 1}, with a learning rate of "
                    f"{rate:g}: try a lower one, warmup_epochs or clip_grad_norm.{kept}"
                )

    def _epoch_end(self) -> int:
        """Steps of the present epoch, which may be the last one and cut short."""
        progress = self.progress
        return min(progress.steps_per_epoch, self.steps - progress.epoch * progress.steps_per_epoch)

    def _next_halt(self) -> int:
        """The step of the present epoch at which a validation follows, or the epoch ends."""
        progress, interval = self.progress, self.experiment.val_interval
        if interval is None:
            return self._epoch_end()
        left = 0 if self._validation_due() else interval - progress.updates % interval
        return min(self._epoch_end(), progress.step + left)

    def _validation_due(self) -> bool:
        """Whether a validation follows the last step, and has not been done yet."""
        progress, interval = self.progress, self.experiment.val_interval
        if interval is None:
            return progress.step >= self._epoch_end()
        here = progress.updates % interval == 0 or progress.updates == self.steps
        return here and progress.updates != progress.validated

    @cached_property
    def _log_interval(self) -> int:
        return self.experiment.log_interval or CURVE_EVERY

    @cached_property
    def _look_every(self) -> int:
        return 1 if self.fabric.device.type == "cpu" else LOOK_EVERY

    def _has_last(self) -> bool:
        return self.folder is not None and (self.folder / "last.pt").exists()

    def _totals_of_all(self) -> Totals:
        """The sums of all processes together, in each of them."""
        totals = self.progress.totals
        sums = torch.tensor([totals.loss, totals.correct, totals.images], dtype=torch.float64)
        if self.fabric.world_size > 1:
            sums = sum_over_processes(self.fabric, sums.to(self.fabric.device))
        return Totals(*sums.tolist(), totals.seconds)

    def _record(self, scores: Scores) -> dict[str, Any]:
        progress = self.progress
        totals = self._totals_of_all()
        record = {
            "epoch": progress.epoch + 1,
            "step": progress.updates,
            "lr": self.schedule.lr(progress.updates - 1),
            "train_loss": totals.loss / totals.images,
            "train_top1": 100 * totals.correct / totals.images,
            "validation_top1": scores.top1,
            "validation_top5": scores.top5,
            "validation_loss": scores.loss,
            "validated_on": "test" if self.data.validation is None else "validation",
            "images_per_second": totals.images / totals.seconds,
            "seconds": totals.seconds + scores.seconds,
        }
        return record if self.folder is None else record | self.watch.measures(progress.acting)
