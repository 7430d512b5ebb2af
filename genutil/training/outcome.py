"""What a finished training has to show, from itself or from its last checkpoint, for its results file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from data import Data
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.evaluation.batches import readable
from genutil.evaluation.scores import evaluate
from genutil.reports import results
from genutil.saved import loading
from genutil.saved.source import Source, open_source
from genutil.settings import app_files
from genutil.system.conditions import machine
from genutil.system.one_process import Runtime
from genutil.training.progress import Progress
from genutil.training.timetable import Timetable


@dataclass(frozen=True)
class Outcome:
    """A finished training.

    Attributes:
        experiment: as it was trained; its name in results is `experiment.experiment`.
        progress: as a checkpoint has it (`Progress.to_saved`).
        checkpoint: its last one; the best one lies beside it.
    """

    experiment: Experiment
    progress: Mapping[str, Any]
    checkpoint: Path

    @classmethod
    def of_checkpoint(cls, source: Source, experiment: Experiment, data: Data) -> Outcome:
        """The outcome of the training that a checkpoint is the end of.

        Args:
            source: the checkpoint.
            experiment: that evaluates it; may give the experiment's name.
            data: that it is evaluated on.

        Raises:
            UserError: the checkpoint is not ours; the training is not finished; its epochs were other ones.
        """
        saved = source.training_state()["progress"]
        trained = Experiment.from_saved(source.settings(), {"evaluate": True})
        name = experiment.experiment or trained.name
        outcome = cls(trained.but(experiment=name), saved, Path(str(source)))
        if saved["steps_per_epoch"] != len(data.train):
            raise UserError(
                f"{source} was trained in epochs of {saved['steps_per_epoch']} steps, and an epoch of these data has "
                f"{len(data.train)}: results_dir keeps trainings on all of the data."
            )
        run, planned = outcome.steps, outcome.planned_steps(trained)
        if run < planned:
            raise UserError(f"{source} is {run} of {planned} steps trained: results_dir keeps finished trainings.")
        return outcome

    @property
    def steps(self) -> int:
        """Updates done."""
        return self.progress["epoch"] * self.progress["steps_per_epoch"] + self.progress["step"]

    def planned_steps(self, experiment: Experiment) -> int:
        """Updates of an experiment on the same data."""
        return Timetable(experiment, Progress(self.progress["steps_per_epoch"])).steps

    def result(
        self, fabric: Runtime, network: nn.Module, data: Data, figures: Mapping[str, Any], profile: Any, edges: Any
    ) -> dict[str, Any]:
        """What the results file holds (see `docs/experiments.md`).

        Args:
            fabric: of this process, which is the first one.
            network: with the last weights. It may have the best ones afterwards.
            data: for the best weights, where they were chosen on other images than all of the test ones.
            figures: `top1`, `top5` and `loss` of the last weights on the test images, and the number of `images`.
            profile: `Profile.to_dict`, or None.
            edges: those that act, as `run` returns them.
        """
        best = results.best(self.progress, *self._validation(data))
        if best and best["test_top1"] is None:
            best["test_top1"] = self._best_on_test_images(fabric, network, data)
        costs = profile and {key: value for key, value in profile.items() if key != "layers"}
        settings = self.experiment.to_saved()
        curve = results.curve(self.progress.get("history", []))
        now = {"date": results.today(), **machine(fabric.device, fabric.world_size)}
        return {
            "version": results.VERSION,
            "experiment": self.experiment.experiment or self.experiment.name or "experiment",
            "seed": self.experiment.seed,
            **self._length(),
            "last": {key: figures[key] for key in ("top1", "top5", "loss")},
            "best": best,
            "test_images": figures["images"],
            "seconds": results.seconds(self.progress),
            "profile": costs,
            "edges": edges,
            "pieces": self.progress.get("pieces", []),
            "recorded": now,
            "settings": results.portable(settings),
            "curve_from_epoch": next(iter(curve.get("epoch", [])), None),
            "curve": curve,
        }

    def _length(self) -> dict[str, Any]:
        """Epochs and steps that were run, those of the app file, and whether the run is shorter."""
        per_epoch = self.progress["steps_per_epoch"]
        run = {"epochs": self.steps / per_epoch, "steps": self.steps, "steps_per_epoch": per_epoch}
        app = self._app()
        if app is None:
            return {"run": run, "planned": None, "shortened": None}
        planned = self.planned_steps(app)
        return {
            "run": run,
            "planned": {"epochs": planned / per_epoch, "steps": planned},
            "shortened": self.steps < planned,
        }

    def _app(self) -> Experiment | None:
        """The experiment as its app file has it, where there is one."""
        try:
            path = app_files.find(self.experiment.experiment or "")
            return Experiment.from_settings({**app_files.read(path).settings, "evaluate": True})
        except UserError:
            return None

    def _validation(self, data: Data) -> tuple[bool, str]:
        """Whether validations were on all of the test images, and the name of their images."""
        chosen_on = "test" if data.validation is None else "validation"
        return data.validation is None and not self.experiment.max_eval_steps, chosen_on

    def _best_on_test_images(self, fabric: Runtime, network: nn.Module, data: Data) -> float | None:
        """Top-1 of the best weights in percent; None where they are gone, or where there are several processes."""
        path = self.checkpoint.with_name("best.pt")
        if fabric.world_size > 1 or not path.exists():
            return None
        loading.load_weights(open_source(path), network)
        return evaluate(fabric, network, readable(data.test.epoch(0))).top1
