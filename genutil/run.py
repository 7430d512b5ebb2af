"""A run from its experiment to its results: profile, evaluation or training."""

from __future__ import annotations

import inspect
import multiprocessing
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

import data as data_sets
import models
from genutil import checkpoints, model_profiling
from genutil.batches import readable, watched
from genutil.config import Experiment, Machine
from genutil.distributed import (
    first_here,
    launch,
    make_fabric,
    starts_processes,
    stop_signals,
    synchronise_batchnorm,
)
from genutil.errors import UserError
from genutil.evaluation import Scores, evaluate
from genutil.files import claim_folder, claim_log_folder, to_json, write_text
from genutil.interruption import Interrupted, StopRequest, announce
from genutil.logs import RunLog, progress_bar
from genutil.optimizers import make_optimizer
from genutil.progress import Progress, Totals
from genutil.randomness import reseed
from genutil.schedules import make_schedule
from genutil.training import Training
from genutil.wiring_watch import WiringWatch
from models.wire import wire
from models.wiring import WIRINGS, fix_graph, graphs


@dataclass
class Parts:
    """What a run works with, built before anything is written.

    Attributes:
        experiment: with the normalisation that the data are given.
        network: the plain network, on its device, with the weights that the run starts from.
        data: None where the run only profiles.
        optimizer: None where the run does not train.
        progress: the same.
    """

    experiment: Experiment
    network: nn.Module
    data: Any | None = None
    optimizer: Optimizer | None = None
    progress: Progress | None = None


def run(experiment: Experiment) -> dict[str, Any]:
    """Do what an experiment says, and return its results.

    Returns:
        `settings`, `profile` (with `parameters` and `multiply_adds`), `top1`, `top5` (percent), `loss` (nats) of the
        weights that the run ends with on the test images, `checkpoint` (the file that holds or held those weights),
        `best` (`epoch`, `top1`, `checkpoint`), `log` (folder) and `seconds`; None for what the run does not do. They
        are written to `experiment.json_file` too.

    Raises:
        UserError: the experiment asks for something that cannot be. Nothing is written then, unless training had begun.
        Interrupted: after a request to stop. What training had reached is saved then, and how to go on is printed.
    """
    started = time.perf_counter()
    if experiment.json_file and not Path(experiment.json_file).parent.is_dir():
        raise UserError(f"There is no folder {Path(experiment.json_file).parent} for the JSON file.")
    fabric = make_fabric(experiment)
    if starts_processes(fabric):
        build(experiment, fabric, torch.device("cpu"))  # a mistake shows, and data are fetched, before they start
    results = launch(fabric, work, experiment)
    results["seconds"] = time.perf_counter() - started
    if experiment.json_file and fabric.global_rank == 0:
        write_text(Path(experiment.json_file), to_json(results, indent=2) + "\n")
    return results


def work(fabric: Fabric, experiment: Experiment) -> dict[str, Any]:
    """What each process of a run does (see `run`)."""
    if experiment.threads is not None:
        torch.set_num_threads(experiment.threads)
    torch.backends.cudnn.benchmark = True
    with first_here(fabric):
        parts = build(experiment, fabric, fabric.device)
    results: dict[str, Any] = {
        "settings": parts.experiment.to_dict(),
        "profile": None,
        "top1": None,
        "top5": None,
        "loss": None,
        "checkpoint": experiment.resume or experiment.init_from,
        "best": None,
        "log": None,
    }
    if experiment.evaluate and not experiment.profile:
        results |= _evaluate(fabric, parts)
    elif not experiment.profile:
        results |= train(fabric, parts)
    if experiment.profiles:
        results["profile"] = _profile(fabric, parts)
    return results


def build(experiment: Experiment, fabric: Fabric, device: torch.device) -> Parts:
    """Make the parts of a run: network, weights, data, optimizer.

    Raises:
        UserError: one of them cannot be made, or they do not fit one another.
    """
    if experiment.evaluate and not experiment.profile and not (experiment.resume or experiment.init_from):
        raise UserError("There is nothing to evaluate: --evaluate needs --resume CHECKPOINT.")
    source = experiment.resume or experiment.init_from
    if source:
        experiment = experiment.but(**checkpoints.foreign_settings(source))
    network = build_network(experiment).to(device)
    _load_weights(experiment, fabric, network)
    parts = Parts(experiment, network)
    if not experiment.profile:
        parts.data = load_data(experiment, fabric, device)
        parts.experiment = experiment.but(mean=_plain(parts.data.mean), std=_plain(parts.data.std))
    if experiment.trains:
        parts.optimizer = make_optimizer(experiment, network)
        parts.progress = Progress(len(parts.data.train))
        if experiment.resume:
            saved = checkpoints.resume(experiment.resume, fabric, network, parts.optimizer)
            parts.progress.restore(saved, experiment.resume)
    return parts


def build_network(experiment: Experiment, **changes: Any) -> nn.Module:
    """The untrained network of an experiment, its weights drawn by the experiment's seed.

    Args:
        changes: other arguments for the network than the experiment's.

    Raises:
        UserError: there is no such network.
    """
    factory = models.NETWORKS.get(experiment.model)
    known = inspect.signature(factory).parameters if factory else {}
    if factory and "in_channels" not in known and experiment.in_channels != 3:
        raise UserError(f"{experiment.model} takes images of 3 channels, not {experiment.in_channels}.")
    values = {**experiment.to_dict(), "classes": experiment.output_size, **changes}
    reseed(experiment.seed, "initial weights")
    with _as_user_error():
        network = models.build_network(experiment.model, **{name: values[name] for name in known if name in values})
        if "graph" not in known and experiment.graph != "complete":
            wire(
                network,
                experiment.graph,
                experiment.prune_rate,
                skip=experiment.dense_layers,
                budget=experiment.budget,
                **_wiring_options(experiment),
            )
        return network


def _wiring_options(experiment: Experiment) -> dict[str, Any]:
    """The arguments that the experiment's wiring takes beside the prune rate."""
    values = {
        "rho": experiment.rho,
        "interval": experiment.wiring_interval,
        "begin": experiment.wiring_begin,
        "end": experiment.wiring_end,
        "fraction": experiment.wiring_fraction,
        "initial": experiment.str_initial,
        "decay": experiment.str_decay,
    }
    known = inspect.signature(WIRINGS[experiment.graph]).parameters
    return {name: value for name, value in values.items() if name in known}


def load_data(experiment: Experiment, fabric: Fabric, device: torch.device) -> Any:
    """The data of an experiment for this process (`data.Data`).

    Raises:
        UserError: they are missing, damaged, or do not fit the network.
    """
    with _as_user_error():
        loaded = data_sets.load(
            experiment.data,
            experiment.data_dir,
            image_size=experiment.image_size,
            in_channels=experiment.in_channels,
            batch_size=experiment.batch_size,
            test_batch_size=experiment.test_batch_size or experiment.batch_size,
            workers=experiment.workers,
            seed=experiment.seed,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
            device=device,
            download=experiment.download,
            verify=experiment.verify,
            augment=experiment.augment,
            mean=experiment.mean,
            std=experiment.std,
            validation_share=experiment.validation_share,
            skip_unreadable=experiment.skip_unreadable,
        )
    if loaded.classes != experiment.output_size:
        raise UserError(
            f"{experiment.data} has {loaded.classes} classes and the network {experiment.output_size} outputs: "
            f"set output_size to {loaded.classes}."
        )
    return loaded


def train(fabric: Fabric, parts: Parts) -> dict[str, Any]:
    """Train, evaluate the last weights on the test images, and say where everything is."""
    experiment, network, data, progress = parts.experiment, parts.network, parts.data, parts.progress
    if fabric.world_size > 1 and experiment.sync_batchnorm:
        synchronise_batchnorm(network)
    module, optimizer = fabric.setup(network, parts.optimizer)
    first = fabric.global_rank == 0
    if not first:
        progress.totals = Totals()  # the sums of an epoch that is resumed are those of all processes
    folder, log_folder = _claim_folders(experiment, progress) if first else (None, None)
    with StopRequest(stop_signals(), first=_announcer(fabric)) as stop, RunLog(log_folder, progress.history) as log:
        training = Training(
            fabric=fabric,
            experiment=experiment,
            network=network,
            module=module,
            optimizer=optimizer,
            schedule=make_schedule(experiment, progress.steps_per_epoch),
            data=data,
            progress=progress,
            watch=WiringWatch(network, _measure),
            log=log,
            stop=stop,
            folder=folder,
            settings=experiment.to_saved(),
            say=fabric.print,
        )
        fabric.print(f"Checkpoints go to {folder}, logs to {log_folder}.")
        try:
            if not progress.updates:
                training.save("init")
            scores = training.run()
            if folder and not (folder / "last.pt").exists():
                training.save("last")
            if scores is None or data.validation is not None:
                scores = training.evaluate(data.test)
        except Interrupted:
            command = _command(experiment, f"{folder}/last.pt")
            fabric.print(f"Stopped after {_position(progress)}, and saved. Go on with:\n{command}")
            raise
    fabric.print(f"test, last epoch: {scores}")
    return {**_figures(scores), **_places(progress, folder, log_folder)}


def _evaluate(fabric: Fabric, parts: Parts) -> dict[str, Any]:
    loader = parts.data.test
    bar = progress_bar("evaluating", len(loader), shown=fabric.global_rank == 0)
    scores = evaluate(fabric, parts.network, watched(readable(loader.epoch(0)), bar))
    fabric.print(f"test: {scores} ({scores.images / scores.seconds:.0f} images/s)")
    return _figures(scores)


def _profile(fabric: Fabric, parts: Parts) -> dict[str, Any]:
    experiment = parts.experiment
    profile = model_profiling.profile(parts.network, experiment.image_size, experiment.in_channels)
    fabric.print(profile)
    return profile.to_dict()


def _load_weights(experiment: Experiment, fabric: Fabric, network: nn.Module) -> None:
    """Give the network the weights that the run starts from. Resuming training does so with all else (`build`)."""
    if experiment.resume:
        if not experiment.trains:
            checkpoints.load_weights(experiment.resume, network)
    elif experiment.init_from:
        fresh = checkpoints.start_from(experiment.init_from, network, lambda: _classifier(experiment, network))
        if fresh:
            fabric.print(f"{experiment.init_from} has another number of classes: {', '.join(fresh)} start afresh.")
    elif experiment.use_graph:
        wirings = [f"{name}.wiring." for name, _ in graphs(network)]
        own = [name for name in network.state_dict() if name.startswith(tuple(wirings))]
        checkpoints.load_weights(experiment.use_graph, network, keep=own)
        fix_graph(network)
        if experiment.use_init:
            checkpoints.load_weights(experiment.use_init, network, keep=own)


def _classifier(experiment: Experiment, network: nn.Module) -> set[str]:
    """Names of the entries of a network's state whose shape depends on the number of classes."""
    other = build_network(experiment, classes=experiment.output_size + 1).state_dict()
    tensors = {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    return {name for name, value in tensors.items() if value.shape != other[name].shape}


def _claim_folders(experiment: Experiment, progress: Progress) -> tuple[Path, Path]:
    """The folders of checkpoints and logs; the first holds the settings from then on."""
    name = experiment.name or "experiment"
    folder = _folder_to_go_on_in(experiment, progress) or claim_folder(Path(experiment.save_dir), name)
    write_text(folder / "settings.yml", yaml.safe_dump(experiment.to_saved(), sort_keys=False))
    return folder, claim_log_folder(Path(experiment.log_dir), name)


def _folder_to_go_on_in(experiment: Experiment, progress: Progress) -> Path | None:
    """The folder of the checkpoint that a run resumes, if it is the run's own and nothing in it lies further on."""
    if not experiment.resume:
        return None
    folder, own = Path(experiment.resume).resolve().parent, Path(experiment.save_dir, experiment.name or "experiment")
    if folder.parent != own.resolve().parent or not folder.name.startswith(own.name):
        return None
    last = folder / "last.pt"
    if last.exists():
        saved = checkpoints.read(last)["progress"]
        if (saved["epoch"], saved["step"]) > (progress.epoch, progress.step):
            return None
    return folder


def _announcer(fabric: Fabric) -> Callable[[], None]:
    """What tells that a request to stop was heard: where processes were started for the run, their parent tells."""
    alone = multiprocessing.parent_process() is None and fabric.global_rank == 0
    return announce if alone else lambda: None


def _position(progress: Progress) -> str:
    epochs = f"{progress.epoch} epoch{'' if progress.epoch == 1 else 's'}"
    return f"{epochs} and {progress.step} of {progress.steps_per_epoch} steps" if progress.step else epochs


def _command(experiment: Experiment, checkpoint: str) -> str:
    """The command that resumes a run on the same machine: what belongs to the machine is not in its checkpoint."""
    words = ["python", "runner.py", "--resume", checkpoint]
    for key, field in Machine.model_fields.items():
        value = getattr(experiment, key)
        if value != field.get_default(call_default_factory=True):
            values = value if isinstance(value, list) else [str(value).lower() if isinstance(value, bool) else value]
            words += [f"--{key}", *map(str, values)]
    return shlex.join(words)


def _measure(network: nn.Module) -> dict[str, float]:
    """What is noted of a network after each epoch."""
    measured: dict[str, float] = {}
    if any(True for _ in graphs(network)):
        measured["live_nodes"] = model_profiling.live_nodes(network)
    if hasattr(network, "function_evaluations"):
        measured["function_evaluations"] = network.function_evaluations
    return measured


def _figures(scores: Scores) -> dict[str, float]:
    return {"top1": scores.top1, "top5": scores.top5, "loss": scores.loss}


def _places(progress: Progress, folder: Path | None, log_folder: Path | None) -> dict[str, Any]:
    best = progress.best and {**progress.best, "checkpoint": _if_there(folder, "best.pt")}
    return {"checkpoint": _if_there(folder, "last.pt"), "best": best, "log": log_folder and str(log_folder)}


def _if_there(folder: Path | None, name: str) -> str | None:
    return str(folder / name) if folder and (folder / name).exists() else None


def _plain(values: Any) -> list[float] | None:
    return None if values is None else [float(value) for value in values]


@contextmanager
def _as_user_error() -> Iterator[None]:
    """What `data` and `models` say of impossible requests, as the user's mistake."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise UserError(str(error)) from error
