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
from genutil import checkpoints
from genutil.batches import readable, watched
from genutil.config import Experiment
from genutil.distributed import agree, share_buffers, sum_over_processes
from genutil.errors import UserError
from genutil.evaluation import Scores, evaluate
from genutil.interruption import Interrupted, StopRequest
from genutil.logs import RunLog, epoch_line
from genutil.progress import Meter, Progress, Totals
from genutil.randomness import reseed
from genutil.schedules import Schedule
from genutil.wiring_watch import WiringWatch
from models.wire import update_wirings

LOOK_EVERY = 20
"""Steps between looks at the loss, and at requests to stop in other processes, where a look waits for a GPU."""


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
        data: the best epoch is chosen on `validation`, where there is none on `test`.
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
        """Train to the end; returns the scores of the last epoch trained, None where there was none left.

        Raises:
            Interrupted: after a request to stop; what was reached is in last.pt then.
            UserError: the loss is not finite, or a checkpoint cannot be written.
        """
        scores = None
        try:
            for epoch in range(self.progress.epoch, self.epochs):
                self.train_epoch(epoch)
                loader = self.data.test if self.data.validation is None else self.data.validation
                scores = self.evaluate(loader, self.experiment.max_eval_steps)
                self.finish_epoch(scores)
        except Interrupted:
            self.look()
            self.progress.totals = self._totals_of_all()
            self.save("last")
            raise
        return scores

    def train_epoch(self, epoch: int) -> None:
        """Go through the training images once, or through the rest of them in an epoch that was interrupted."""
        progress, loader = self.progress, self.data.train
        if progress.step == 0:
            progress.acting = self.watch.acting()
        last = min(progress.steps_per_epoch, self.steps - epoch * progress.steps_per_epoch)
        if progress.step >= last:
            return
        self.module.train()
        self.meter = Meter(progress.totals)
        title = f"epoch {epoch + 1}/{self.epochs}"
        with self.log.bar(title, last, progress.step) as bar:
            for batch in self.stoppable(loader.epoch(epoch, progress.step)):
                reseed(self.experiment.seed, "step", progress.updates, self.fabric.global_rank)
                loss, correct = self.update(batch, self.schedule.lr(progress.updates))
                self.meter.add(loss, correct, len(batch.labels))
                progress.step += 1
                if progress.step % self._look_every == 0 or progress.step == last:
                    self.look()
                    bar.set_postfix_str(self.meter.summary(self.fabric.world_size), refresh=False)
                bar.update()
                if progress.step == last:
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

    def finish_epoch(self, scores: Scores) -> None:
        """Note what the epoch brought, in the log and in checkpoints."""
        progress, experiment = self.progress, self.experiment
        record = self._record(scores)
        better = progress.best is None or scores.top1 > progress.best["top1"]
        if better:
            progress.best = {"epoch": record["epoch"], "top1": scores.top1, "loss": scores.loss}
        progress.history.append(record)
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.totals, progress.acting = Totals(), {}
        self.log.epoch(record, self.watch.pictures() if self.log.folder else None)
        self.say(epoch_line(record, self.epochs, progress.best["top1"]))
        interval = experiment.checkpoint_interval
        names = ["last", *["best"] * better]
        names += [f"epoch_{progress.epoch}"] * bool(interval and progress.epoch % interval == 0)
        self.save(*names)

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
        if losses:
            mean = progress.totals.loss / progress.totals.images
            self.log.step(progress.updates, mean, self.schedule.lr(progress.updates - 1))

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
