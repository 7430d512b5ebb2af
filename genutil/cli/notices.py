"""Which of the keys that somebody has stated have no effect in a run, and why."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator, Mapping

import models
from genutil.cli.command_line import CommandLine
from genutil.config import KEYS, Experiment
from genutil.settings import app_files, dialect_2019
from genutil.settings.network import Network, RandomWiring
from genutil.settings.recipe import Recipe
from genutil.settings.record import Record
from genutil.settings.resuming import Fate, fates

SCHEDULES = {
    "multistep_lr_milestones": "multistep",
    "multistep_lr_gamma": "multistep",
    "lr_values": "steps",
    "lr_boundaries": "steps",
    "exp_decaying_lr_gamma": "exponential",
}
"""Keys of one schedule of the learning rate, which is named."""
OF_EVERY_NETWORK = {"model", "image_size", "in_channels", "output_size"}
OF_GRAPHS = {"graph_model", "graph_param", "graph_seed", "graph_files", "stage_graphs"}
OF_ENGINES = ("engine", "use_dgl")
OF_TRAINING = (*Recipe.model_fields, *Record.model_fields)


def tell(experiment: Experiment, line: CommandLine, document: int | None = None) -> None:
    """Say on standard error which keys of the command line, or of its file, have no effect; in the first process only.

    Args:
        experiment: that is run.
        line: that asked for it.
        document: of the file, counted from 0, where it has several.
    """
    if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) != "0":
        return
    origins = _stated(line, document)
    for key, reason in idle(experiment, origins):
        print(f"{origins[key]} has no effect: {reason}.", file=sys.stderr, flush=True)


def idle(experiment: Experiment, origins: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Those of the stated keys that have no effect in a run, each with the reason.

    That nothing is trained in this call is a reason for keys of the command line alone.
    """
    for key, origin in origins.items():
        if key not in KEYS or _is_default(experiment, key):
            continue
        here = _in_this_call(experiment, key) if origin.startswith("--") else None
        reason = here or _of_the_network(experiment, key) or _of_the_recipe(experiment, key)
        if reason:
            yield key, reason


def _stated(line: CommandLine, document: int | None) -> dict[str, str]:
    """Of each key that the command line or its file states, how it is stated: "--lr", or "lr (in a.yml)"."""
    app = app_files.read(app_files.find(line.app), document=document) if line.app is not None else None
    in_file = {key: app.origins.get(key, key) for key in app.own} if app else {}
    return in_file | {dialect_2019.KEYS.get(key, key): f"--{key}" for key in line.settings}


def _is_default(experiment: Experiment, key: str) -> bool:
    name = "json_file" if key == "json" else key
    return bool(getattr(experiment, name) == KEYS[key].get_default(call_default_factory=True))


def _in_this_call(experiment: Experiment, key: str) -> str | None:
    if not experiment.trains and experiment.resume:
        fate = fates().get(key)
        if fate in (Fate.TRAINS, Fate.BEGINNING):
            return "nothing is trained, and the checkpoint has its own"
    if experiment.profile and not experiment.resume and key in OF_TRAINING and key != "seed":
        return "a profile trains nothing"
    if key in OF_ENGINES and not experiment.fast_eval:
        return "it is for fast_eval"
    if key == "fast_eval" and not experiment.evaluate:
        return "it is for evaluate"
    return None


def _of_the_network(experiment: Experiment, key: str) -> str | None:
    if key in OF_GRAPHS:
        return None if experiment.model == "randwire" else f"{experiment.model} has no random stages"
    if key in (*Network.model_fields, *RandomWiring.model_fields) and key not in OF_EVERY_NETWORK:
        known = inspect.signature(models.NETWORKS[experiment.model]).parameters
        if key not in known:
            return f"{experiment.model} takes none"
    if key in ("prune_rate", "budget", "dense_layers") and experiment.wiring == "complete":
        return "wiring is complete"
    if experiment.model == "continuous_time" and key == (
        "solver_steps" if experiment.solver == "dopri5" else "tolerance"
    ):
        return f"solver is {experiment.solver}"
    return None


def _of_the_recipe(experiment: Experiment, key: str) -> str | None:
    if key == "num_epochs" and experiment.num_steps is not None:
        return f"num_steps is {experiment.num_steps}"
    if key == "momentum" and experiment.optimizer == "adam":
        return "optimizer is adam"
    if key in SCHEDULES and experiment.lr_scheduler != SCHEDULES[key]:
        return f"lr_scheduler is {experiment.lr_scheduler}"
    warms = experiment.warmup_epochs or experiment.warmup_steps
    if key == "lr" and experiment.lr_scheduler == "steps" and not warms:
        return "lr_scheduler is steps, which takes lr_values"
    if key in ("mean", "std") and experiment.standardise:
        return "standardise is on"
    return None
