"""From an experiment to the parts of its run: network, weights, data, optimizer."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import data as data_sets
import models
from data import Data, Loader
from genutil import model_profiling
from genutil.config import Experiment
from genutil.errors import UserError, shortened
from genutil.evaluation.batches import Doubled, First
from genutil.saved import loading
from genutil.saved.source import OwnCheckpoint, Source
from genutil.saved.sources import Sources
from genutil.settings import resuming
from genutil.system.memory import available, bounded, is_out_of_memory
from genutil.system.one_process import OneProcess, Runtime
from genutil.system.randomness import reseed
from genutil.training.acceleration import lay_out
from genutil.training.averages import Average
from genutil.training.optimizers import make_optimizer
from genutil.training.progress import Progress
from genutil.training.timetable import Timetable
from models.inspection import evaluating
from models.wirings.graph import fix_graph, graphs
from models.wirings.wire import wire

WIDE = 16
"""Factor on the widths from which a network is measured before it is built."""


@dataclass
class Parts:
    """What a run works with, built before anything is written.

    Attributes:
        experiment: with the normalisation that the data are given.
        network: the plain network, on its device, with the weights that the run starts from.
        data: None where the run only profiles.
        optimizer: None where the run does not train.
        progress: the same.
        average: the same; None too where the weights are not averaged.
    """

    experiment: Experiment
    network: nn.Module
    data: Data | None = None
    optimizer: Optimizer | None = None
    progress: Progress | None = None
    average: Average | None = None

    def of_training(self) -> tuple[Data, Optimizer, Progress]:
        """The parts that a run has if it trains."""
        assert self.data is not None
        assert self.optimizer is not None
        assert self.progress is not None
        return self.data, self.optimizer, self.progress


def build(
    experiment: Experiment,
    fabric: Runtime,
    device: torch.device,
    say: Callable[[str], None],
    sources: Sources | None = None,
    *,
    laid_out: bool = False,
) -> Parts:
    """Make the parts of a run: network, weights, data, optimizer.

    Args:
        experiment: what is run.
        fabric: of the run.
        device: where the parts are to be.
        say: prints a line.
        sources: the checkpoints of the run, where some of them are open.
        laid_out: whether weights lie in memory as suits the device (`genutil.training.acceleration.lay_out`).

    Raises:
        UserError: one of them cannot be made, or they do not fit one another.
    """
    sources = sources or Sources()
    if experiment.evaluate and not experiment.profile and not experiment.resume:
        raise UserError("There is nothing to evaluate: --evaluate needs --resume CHECKPOINT.")
    checkpoint = experiment.resume or experiment.init_from
    if checkpoint:
        experiment = experiment.but(**sources.open(checkpoint).network_settings())
    if experiment.model == "randwire":
        experiment = _with_graphs(experiment, sources, say)
    saved = saved_experiment(experiment, sources)
    if saved and experiment.resume:
        resuming.check(experiment, saved, experiment.resume)
    network = build_network(experiment).to(device).train(experiment.trains)
    if experiment.precision == "64" and not experiment.profile:
        network.double()
    if laid_out:
        lay_out(network, experiment, device)
    _load_weights(experiment, sources, network, say)
    if checkpoint and (told := sources.open(checkpoint).understood(network)):
        say(told)
    parts = Parts(experiment, network)
    if experiment.profile:
        return parts
    parts.data = data = load_data(experiment, fabric, device)
    parts.experiment = experiment.but(mean=_plain(data.mean), std=_plain(data.std))
    if experiment.trains:
        _add_training(parts, fabric, sources, saved)
    return parts


def _add_training(parts: Parts, fabric: Runtime, sources: Sources, saved: Experiment | None) -> None:
    """Make what training needs beside network and data, as the checkpoint that is resumed left it.

    Raises:
        UserError: it cannot be made.
    """
    experiment, network = parts.experiment, parts.network
    assert parts.data is not None
    parts.optimizer = make_optimizer(experiment, network)
    parts.progress = Progress(len(parts.data.train))
    if experiment.ema_decay is not None:
        parts.average = Average(network, experiment.ema_decay)
    if experiment.resume:
        assert not isinstance(fabric, OneProcess)
        source = sources.open(experiment.resume)
        parts.progress.restore(loading.resume(source, fabric, network, parts.optimizer), experiment.resume)
        _check_resumed(parts, saved, experiment.resume)
        if parts.average:
            parts.average.restore(source.training_state().get("average"), experiment.resume)
    _check_batch_norms(parts, fabric.world_size)
    if experiment.profiles and fabric.global_rank == 0:
        profile(parts)  # so that what cannot be profiled at the end is told at the start


def _with_graphs(experiment: Experiment, sources: Sources, say: Callable[[str], None]) -> Experiment:
    """With the graphs of its random stages; what is remarkable about them is said."""
    from genutil.saved import graph_files  # imports networkx

    experiment = graph_files.resolve(experiment, sources)
    for notice in graph_files.notices(experiment):
        say(notice)
    return experiment


def saved_experiment(experiment: Experiment, sources: Sources) -> Experiment | None:
    """The experiment of the checkpoint that is resumed; None where there is none, or where other code wrote it.

    Raises:
        UserError: its settings are damaged.
    """
    source = sources.open(experiment.resume) if experiment.resume else None
    return Experiment.from_saved(source.settings(), {"evaluate": True}) if isinstance(source, OwnCheckpoint) else None


def _check_resumed(parts: Parts, saved: Experiment | None, checkpoint: str) -> None:
    """Raises UserError where the wirings cannot follow a new prune rate, or the progress is of other graphs."""
    experiment, (_, _, progress) = parts.experiment, parts.of_training()
    wired = dict(graphs(parts.network))
    sizes = {name: graph.layout.possible for name, graph in wired.items()}
    if progress.acting and {name: mask.numel() for name, mask in progress.acting.items()} != sizes:
        raise UserError(f"{checkpoint} is damaged: the edges in its progress are not those of its network.")
    if saved is None or saved.prune_rate == experiment.prune_rate:
        return
    steps = Timetable(experiment, progress).steps
    if not all(graph.wiring.follows_rate(progress.updates, steps) for graph in wired.values()):
        keeps = f"{experiment.wiring} keeps the edges that it has now"
        why = keeps if progress.updates < steps else "training has no steps left"
        raise resuming.refusal("prune_rate", experiment, saved, checkpoint, why)


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
    settings = {name: value for name, value in experiment.to_dict().items() if value is not None}
    values = {**settings, "classes": experiment.output_size, **changes}
    arguments = {name: values[name] for name in known if name in values}
    wires_itself = "wiring" in known
    _check_size(experiment, arguments)
    reseed(experiment.seed, "initial weights")
    with _as_user_error("The network cannot be built"), bounded(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # a layer without channels is refused
        if wires_itself:
            return models.build_network(experiment.model, **arguments, **experiment.rule_options)
        network = models.build_network(experiment.model, **arguments)
        if any(0 in weight.shape for weight in network.parameters()):
            raise ValueError(f"{experiment.model} would have layers without channels: width_mult is too small")
        if experiment.wiring != "complete":
            wire(
                network,
                experiment.wiring,
                experiment.prune_rate,
                skip=experiment.dense_layers,
                budget=experiment.budget,
                **experiment.rule_options,
            )
        return network


def _check_size(experiment: Experiment, arguments: Mapping[str, Any]) -> None:
    """Raises UserError where a network far wider than any would not fit into memory, before its weights are drawn."""
    free = available()
    widths = experiment.width_mult > WIDE or experiment.cardinality * experiment.base_width > WIDE * 512
    if not widths or free is None:
        return
    try:
        with torch.device("meta"):
            network = models.build_network(experiment.model, **arguments)
    except (RuntimeError, ValueError, TypeError, NotImplementedError):  # told where it is built
        return
    needed = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    if needed > free:
        raise UserError(
            f"{experiment.model} would have {needed / 1e9:,.0f} GB of weights, which is more memory than there is."
        )


def _check_batch_norms(parts: Parts, processes: int) -> None:
    """Raises UserError where a training batch gives a batch norm a single value a channel, which has no variance."""
    experiment = parts.experiment
    if experiment.batch_size // (processes * experiment.accumulate) != 1:  # a last, smaller batch is never that small
        return
    norms = [module for module in parts.network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    planes: list[int] = []
    hooks = [norm.register_forward_pre_hook(lambda _, given: planes.append(given[0][0, 0].numel())) for norm in norms]
    try:
        size = experiment.image_size
        with evaluating(parts.network), _as_user_error("The network cannot be tried out"), torch.no_grad():
            parts.network(
                torch.zeros(1, experiment.in_channels, size, size, device=next(parts.network.parameters()).device)
            )
    finally:
        for hook in hooks:
            hook.remove()
    if 1 in planes:
        raise UserError(
            f"A batch of one image gives a batch norm of {experiment.model} a single value a channel at {size} pixels: "
            f"choose another batch_size than {experiment.batch_size}, so that each batch has two images at least."
        )


def load_data(experiment: Experiment, fabric: Runtime, device: torch.device) -> Data:
    """The data of an experiment for this process.

    Raises:
        UserError: they are missing, damaged, or do not fit the network; that is told before they are fetched where the
            table of data sets has their number of classes.
    """
    named = data_sets.SETS.get(experiment.data)
    if named and named.classes is not None:
        _check_classes(experiment, named.classes)
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
            standardise=experiment.standardise,
            decode_on_device=experiment.decode == "gpu",
            train_records=experiment.train_records,
            test_records=experiment.test_records,
            label_offset=experiment.label_offset,
            max_image_pixels=experiment.max_image_pixels,
        )
    _check_classes(experiment, loaded.classes)
    if experiment.precision == "64":
        loaded = _with_loaders(loaded, Doubled)
    return loaded if experiment.only_batches is None else _shortened(loaded, experiment.only_batches)


def _check_classes(experiment: Experiment, classes: int) -> None:
    if classes != experiment.output_size:
        raise UserError(
            f"{experiment.data} has {classes} classes and the network {experiment.output_size} outputs: "
            f"set output_size to {classes}."
        )


def _shortened(data: Data, batches: int) -> Data:
    return _with_loaders(data, lambda loader: First(loader, batches))


def _with_loaders(data: Data, change: Callable[[Loader], Loader]) -> Data:
    """The same data behind other loaders."""
    validation = None if data.validation is None else change(data.validation)
    return replace(data, train=change(data.train), validation=validation, test=change(data.test))


def profile(parts: Parts) -> model_profiling.Profile:
    """What the network of a run costs.

    Raises:
        UserError: the images are too small for it.
    """
    experiment = parts.experiment
    size = f"{experiment.model} cannot compute images of {experiment.image_size} x {experiment.image_size} pixels"
    with _as_user_error(size), bounded() if _on_cpu(parts.network) else nullcontext():
        return model_profiling.profile(parts.network, experiment.image_size, experiment.in_channels)


def _load_weights(experiment: Experiment, sources: Sources, network: nn.Module, say: Callable[[str], None]) -> None:
    """Give the network the weights that the run starts from. Resuming training does so with all else (`build`)."""
    if experiment.resume:
        if not experiment.trains:
            loading.load_weights(_chosen(sources.open(experiment.resume), experiment), network)
    elif experiment.init_from:
        source = _chosen(sources.open(experiment.init_from), experiment)
        fresh = loading.start_from(source, network, lambda: _classifier(experiment, network))
        if fresh:
            say(f"{experiment.init_from} has another number of classes: {', '.join(fresh)} start afresh.")
    elif experiment.use_graph:
        wirings = [f"{name}.wiring." for name, _ in graphs(network)]
        own = [name for name in network.state_dict() if name.startswith(tuple(wirings))]
        loading.load_weights(sources.open(experiment.use_graph), network, keep=own)
        fix_graph(network)
        if experiment.use_init:
            loading.load_weights(sources.open(experiment.use_init), network, keep=own)


def _chosen(source: Source, experiment: Experiment) -> Source:
    return source.averaged() if experiment.averaged else source


def _classifier(experiment: Experiment, network: nn.Module) -> set[str]:
    """Names of the entries of a network's state whose shape depends on the number of classes."""
    other = build_network(experiment, classes=experiment.output_size + 1).state_dict()
    tensors = {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    return {name for name, value in tensors.items() if value.shape != other[name].shape}


def _plain(values: Any) -> list[float] | None:
    return None if values is None else [float(value) for value in values]


def _on_cpu(network: nn.Module) -> bool:
    return all(weight.device.type == "cpu" for weight in network.parameters())


@contextmanager
def _as_user_error(begin: str | None = None) -> Iterator[None]:
    """What `data` and `models` say of impossible requests, as the user's mistake.

    Args:
        begin: of a sentence about sizes that torch refuses; without it torch's own errors are errors of ours.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        raise UserError(f"{str(error).removesuffix('.')}.") from error
    except (RuntimeError, MemoryError, TypeError, IndexError, ZeroDivisionError, AssertionError) as error:
        if is_out_of_memory(error):
            raise UserError(f"{begin or 'The data cannot be read'}: that takes more memory than there is.") from error
        if begin is None:
            raise
        said = " ".join(str(error).split("Exception raised from")[0].split())
        raise UserError(f"{begin}: {shortened(said, 200).removesuffix('.')}.") from error
