"""Services that follow runs: Weights & Biases and MLflow, both optional packages, each behind a few calls.

What they get is what TensorBoard gets: scalars by step, and pictures of the wiring. Where they keep it, and whether
they send it anywhere, is theirs to say: WANDB_MODE=offline, MLFLOW_TRACKING_URI.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from genutil.errors import UserError

PROJECT = "neural-wirings"
"""The project, or experiment, under which the services list the runs."""


class Tracker(Protocol):
    """A run at a service."""

    def scalars(self, values: Mapping[str, float], step: int) -> None: ...

    def pictures(self, pictures: Mapping[str, Tensor], step: int) -> None:
        """Grey images [height, width] with values in 0..1, by name."""

    def close(self, finished: bool) -> None: ...


class WandbRun:
    """A run of Weights & Biases; its files lie in the folder of the log."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, Any]) -> None:
        import wandb

        self._wandb = wandb
        self._run = wandb.init(project=PROJECT, name=name, dir=str(folder), config=dict(settings))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def pictures(self, pictures: Mapping[str, Tensor], step: int) -> None:
        self._run.log({name: self._wandb.Image(_grey(picture)) for name, picture in pictures.items()}, step=step)

    def close(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


class MlflowRun:
    """A run of MLflow, in the store that MLFLOW_TRACKING_URI names or, without it, in MLflow's own default."""

    LONGEST = 500
    """Characters of a setting's value, which every version of MLflow takes."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric, Param, RunStatus
        from mlflow.tracking import MlflowClient

        self._metric, self._status = Metric, RunStatus
        self._client = MlflowClient()
        experiment = self._client.get_experiment_by_name(PROJECT)
        number = experiment.experiment_id if experiment else self._client.create_experiment(PROJECT)
        self._run = self._client.create_run(number, run_name=name).info.run_id
        params = [Param(key, str(value)[: self.LONGEST]) for key, value in settings.items()]
        for begin in range(0, len(params), 100):
            self._client.log_batch(self._run, params=params[begin : begin + 100])

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        metrics = [self._metric(name, float(value), 0, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def pictures(self, pictures: Mapping[str, Tensor], step: int) -> None:
        for name, picture in pictures.items():
            self._client.log_image(self._run, _grey(picture), artifact_file=f"{name}/{step:08d}.png")

    def close(self, finished: bool) -> None:
        status = self._status.FINISHED if finished else self._status.FAILED
        self._client.set_terminated(self._run, self._status.to_string(status))


TRACKERS: dict[str, type[WandbRun] | type[MlflowRun]] = {"wandb": WandbRun, "mlflow": MlflowRun}
"""The services by the names of their packages."""


def require(names: Sequence[str]) -> None:
    """See to it that the packages of some trackers are there.

    Raises:
        UserError: one is missing.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"tracker: {name} needs the package {name}, which is not installed: pip install {name}.")


class Trackers:
    """Several trackers as one. A service that fails while training runs is told of once and left out from then on.

    Args:
        names: of TRACKERS; none for no tracker.
        run: what the services call the run.
        folder: of the log.
        settings: of the run.

    Raises:
        UserError: a service refuses to begin: no login, no such store.
    """

    def __init__(self, names: Sequence[str], run: str, folder: Path, settings: Mapping[str, Any]) -> None:
        self._open: dict[str, Tracker] = {}
        for name in names:
            try:
                self._open[name] = TRACKERS[name](run, folder, settings)
            except Exception as error:  # each package has kinds of its own
                self.close(finished=False)
                raise UserError(f"tracker: {name} does not begin: {_first_line(error)}") from error

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._each("scalars", values, step)

    def pictures(self, pictures: Mapping[str, Tensor], step: int) -> None:
        if pictures:
            self._each("pictures", pictures, step)

    def close(self, finished: bool) -> None:
        self._each("close", finished)
        self._open.clear()

    def _each(self, call: str, *arguments: Any) -> None:
        for name, tracker in list(self._open.items()):
            try:
                getattr(tracker, call)(*arguments)
            except Exception as error:
                del self._open[name]
                print(f"{name} fails, and training goes on without it: {_first_line(error)}", file=sys.stderr)


def follow(names: Sequence[str], run: str, folder: Path | None, settings: Mapping[str, Any]) -> Trackers | None:
    """The trackers of a run (see `Trackers`); None without names, and in processes that keep no log."""
    return Trackers(names, run, folder, settings) if names and folder is not None else None


def _grey(picture: Tensor) -> Any:
    """As bytes [height, width]."""
    return (picture.cpu().numpy() * 255).round().astype(np.uint8)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
