"""A run from its experiment to its results: profile, evaluation or training."""

from __future__ import annotations

import multiprocessing
import shlex
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from genutil.build import Parts, build, profile
from genutil.config import Experiment, Invocation, Machine
from genutil.errors import UserError
from genutil.evaluation.batches import readable, watched
from genutil.evaluation.scores import Scores, evaluate
from genutil.reports import results as results_files
from genutil.reports import trackers
from genutil.reports.logs import RunLog, progress_bar
from genutil.reports.wiring_table import table_of_measures
from genutil.saved.sources import Sources
from genutil.settings.record import Record
from genutil.system import jobs
from genutil.system.batch_norms import synchronise_batchnorm
from genutil.system.conditions import machine
from genutil.system.distributed import (
    first_here,
    launch,
    listen,
    make_runtime,
    say,
    starts_processes,
)
from genutil.system.files import require_folder_place, require_place, to_json, write_text, write_texts
from genutil.system.interruption import Interrupted, announce
from genutil.system.one_process import OneProcess, Runtime
from genutil.system.output import unbreakable
from genutil.system.randomness import chosen_algorithms
from genutil.training.acceleration import accelerated
from genutil.training.agreement import same_start
from genutil.training.folders import Folders, claim
from genutil.training.going_on import name_of, resolved
from genutil.training.loop import Training
from genutil.training.outcome import Outcome
from genutil.training.progress import Progress, Totals
from genutil.training.schedules import make_schedule
from genutil.training.timetable import Timetable
from genutil.training.wiring_watch import WiringWatch
from models.inspection import evaluating
from models.measures import measures_of
from models.protocols import HasFiles
from models.wirings.rules import graphs
from models.wirings.scheduled import STR

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def run(experiment: Experiment, sources: Sources | None = None) -> dict[str, Any]:
    """Do what an experiment says, and return its results.

    Args:
        experiment: what to do.
        sources: its checkpoints, where some of them were opened for its settings.

    Returns:
        `settings`, `profile` (with `parameters` and `multiply_adds`, and of a `wiring` its measures, see
        `models.measures.measures_of`), `micronet` (where asked for: counts and scores of that challenge), `top1`,
        `top5` (percent), `loss` (nats) of the weights that the run ends with on the test images, `images` and
        `images_per_second` of that, `non_finite` (those of them whose logits are not finite), `average` (`top1`,
        `top5`, `loss` of the averaged weights), `checkpoint` (the file of those weights), `best`
        (`epoch`, `step`, `top1`, `loss`, `checkpoint`), `edges` (of a wired network: how many are `possible` and
        `acting`, and where STR was cut how many were `natural`, left by its thresholds), `log` (folder), `result` (file
        in `experiment.results_dir`), `report` (the page's file) and `seconds`; None for what the run does not do. They
        are written to `experiment.json_file` too.

    Raises:
        UserError: the experiment asks for something that cannot be. Nothing is written then, unless training had begun.
        Interrupted: after a request to stop. What training had reached is saved then, and how to go on is printed.
    """
    started = time.perf_counter()
    sources = sources or Sources()
    experiment = resolved(experiment, sources, partial(_say_before, jobs.is_first()))
    json_file = experiment.json_file and Path(experiment.json_file)
    _require_places(experiment)
    fabric = make_runtime(experiment)
    if starts_processes(fabric):  # a mistake shows, and data are fetched, before they are started
        build(experiment, fabric, torch.device("cpu"), say=lambda _: None, sources=sources)
        sources.forget()
    threads = torch.get_num_threads()
    try:
        results = launch(fabric, work, experiment, sources)
    except Interrupted as stop:
        if experiment.requeue and stop.number == signal.SIGUSR1 and jobs.is_first():
            with unbreakable():
                print(jobs.requeue(), flush=True)
        raise
    finally:
        torch.set_num_threads(threads)
    results["seconds"] = time.perf_counter() - started
    if json_file and fabric.global_rank == 0:
        write_text(json_file, to_json(results, indent=2) + "\n")
    return results


def _require_places(experiment: Experiment) -> None:
    """Raises UserError where a file, a folder or a tracker cannot be; all are looked at before one is made."""
    for file in (experiment.json_file, experiment.picture):
        if file:
            require_place(Path(file))
    if experiment.results_dir:
        results_files.require_folder(Path(experiment.results_dir))
    if experiment.trains:
        for folder in (experiment.save_dir, experiment.log_dir):
            require_folder_place(Path(folder, name_of(experiment)).parent)
        trackers.require(experiment.tracker)


def work(fabric: Runtime, experiment: Experiment, sources: Sources) -> dict[str, Any]:
    """What each process of a run does (see `run`)."""
    if experiment.threads is not None:
        torch.set_num_threads(experiment.threads)
    with chosen_algorithms(experiment.deterministic), unbreakable() if experiment.trains else nullcontext():
        return _work(fabric, experiment, sources)


def _work(fabric: Runtime, experiment: Experiment, sources: Sources) -> dict[str, Any]:
    experiment = same_start(fabric, experiment)
    with first_here(fabric):
        parts = build(experiment, fabric, fabric.device, partial(say, fabric), sources, laid_out=True)
    outcome = _outcome_of_checkpoint(parts, sources)
    folders = Folders()
    if experiment.trains and fabric.global_rank == 0:
        _, _, progress = parts.of_training()
        folders = claim(parts.experiment, progress, sources, partial(say, fabric))
    sources.forget()  # the files may change from now on
    try:
        return _results(fabric, parts, outcome, folders)
    finally:
        folders.release()


def _results(fabric: Runtime, parts: Parts, outcome: Outcome | None, folders: Folders) -> dict[str, Any]:
    experiment = parts.experiment
    results: dict[str, Any] = {
        "settings": parts.experiment.to_dict(),
        "profile": None,
        "top1": None,
        "top5": None,
        "loss": None,
        "images": None,
        "non_finite": None,
        "images_per_second": None,
        "average": None,
        "checkpoint": experiment.resume or experiment.init_from,
        "best": None,
        "edges": None,
        "log": None,
        "result": None,
        "report": None,
    }
    if experiment.trains:
        assert not isinstance(fabric, OneProcess)
        results |= train(fabric, parts, folders)
    elif not experiment.profile:
        results |= _evaluate(fabric, parts)
    if fabric.global_rank == 0:
        if experiment.profiles:
            costs = profile(parts)
            print(costs)
            wiring = measures_of(parts.network)
            if wiring and experiment.profile:
                print(table_of_measures(wiring))
            results["profile"] = costs.to_dict() | {"wiring": wiring}
            if experiment.micronet:
                results["micronet"] = _micronet(parts)
        if experiment.picture:
            from genutil.reports.pictures import draw  # imports matplotlib

            draw(parts.network, experiment.image_size, experiment.in_channels, experiment.picture)
            print(f"picture: {experiment.picture}")
        results["edges"] = _edges(parts.network)
        if experiment.results_dir:
            results["result"] = str(_write_result(fabric, parts, outcome or _outcome(parts, folders), results))
        if experiment.trains and experiment.report and folders.checkpoints:
            from genutil.run_report import report_at_the_end  # imports matplotlib

            results["report"] = report_at_the_end(folders.checkpoints)
        print(_summary(parts, results))
    return results


def _micronet(parts: Parts) -> dict[str, Any]:
    """Print the score of the MicroNet challenge; the counts behind it."""
    from genutil.reports import micronet  # counts what a network does, operation by operation

    experiment = parts.experiment
    assert experiment.micronet is not None
    try:
        score = micronet.score(parts.network, experiment.micronet, experiment.image_size, experiment.in_channels)
    except ValueError as error:
        raise UserError(f"{str(error).removesuffix('.')}.") from error
    print(score)
    return score.to_dict()


def _outcome_of_checkpoint(parts: Parts, sources: Sources) -> Outcome | None:
    """The outcome of the training whose last checkpoint is evaluated, where a result is to be made of it."""
    experiment = parts.experiment
    if experiment.trains or not experiment.results_dir or not experiment.resume or parts.data is None:
        return None
    return Outcome.of_checkpoint(sources.open(experiment.resume), experiment, parts.data)


def _outcome(parts: Parts, folders: Folders) -> Outcome:
    """The outcome of the training that this run was."""
    _, _, progress = parts.of_training()
    assert folders.checkpoints is not None
    return Outcome(parts.experiment, progress.to_saved(), folders.checkpoints / "last.pt")


def _write_result(fabric: Runtime, parts: Parts, outcome: Outcome, results: dict[str, Any]) -> Path:
    experiment = parts.experiment
    assert parts.data is not None
    assert experiment.results_dir is not None
    result = outcome.result(fabric, parts.network, parts.data, results, results["profile"], results["edges"])
    return results_files.write(Path(experiment.results_dir), result)


def train(fabric: Fabric, parts: Parts, folders: Folders) -> dict[str, Any]:
    """Train, evaluate the last weights on the test images, and say where everything is."""
    experiment, network = parts.experiment, parts.network
    data, plain_optimizer, progress = parts.of_training()
    if fabric.world_size > 1 and experiment.sync_batchnorm:
        synchronise_batchnorm(network)
    module, optimizer = fabric.setup(accelerated(fabric, network, experiment), plain_optimizer)
    if fabric.global_rank:
        progress.totals = Totals()  # the sums of an epoch that is resumed are those of all processes
    if progress.updates < Timetable(experiment, progress).steps:
        progress.begin_piece(machine(fabric.device, fabric.world_size))
    folder, log_folder, _ = folders
    following = trackers.follow(experiment.tracker, name_of(experiment), log_folder, experiment.to_saved())
    with listen(_announcer(fabric)) as stop, RunLog(log_folder, progress.history, following) as log:
        training = Training(
            fabric=fabric,
            experiment=experiment,
            network=network,
            module=module,
            optimizer=optimizer,
            schedule=make_schedule(experiment, progress.steps_per_epoch),
            data=data,
            progress=progress,
            watch=WiringWatch(network),
            log=log,
            stop=stop,
            folder=folder,
            settings=experiment.to_saved(),
            say=partial(say, fabric),
            images={"class_names": list(data.class_names), "whole": data.whole_images},
            average=parts.average,
        )
        if folder and isinstance(network, HasFiles):
            write_texts(folder, network.files())
        say(fabric, f"Checkpoints go to {folder}, logs to {log_folder}.")
        try:
            if not progress.updates:
                training.save("init")
            scores = training.run()
            if folder and not (folder / "last.pt").exists():
                training.keeper.require_last()
            if scores is None or data.validation is not None or experiment.max_eval_steps:
                scores = training.evaluate(data.test)
            average = training.evaluate(data.test, averaged=True) if parts.average else None
        except Interrupted:
            command = _command(experiment, f"{folder}/last.pt")
            say(fabric, f"Stopped after {_position(progress)}, and saved. Go on with:\n{command}")
            raise
    averaged = average and {"top1": average.top1, "top5": average.top5, "loss": average.loss}
    return {**_figures(scores), "average": averaged, **_places(progress, folder, log_folder)}


def _evaluate(fabric: Runtime, parts: Parts) -> dict[str, Any]:
    assert parts.data is not None
    loader = parts.data.test
    bar = progress_bar("evaluating", len(loader), shown=fabric.global_rank == 0)
    batches, experiment = watched(readable(loader.epoch(0)), bar), parts.experiment
    if not experiment.fast_eval:
        return _figures(evaluate(fabric, parts.network, batches))
    from genutil.evaluation.by_engine import evaluate_fast  # imports the engines, and torch's compiler

    engine = "dgl" if experiment.use_dgl else experiment.engine
    comparison = evaluate_fast(fabric, parts.network, batches, engine, experiment.image_size)
    say(fabric, str(comparison))
    return _figures(comparison.scores) | {
        "images_per_second": comparison.images_per_second,
        "fast_eval": comparison.to_dict(),
    }


def _summary(parts: Parts, results: dict[str, Any]) -> str:
    """The end of what a run prints: its figures, and where everything is."""
    lines = []
    if results["top1"] is not None:
        figures = f"top-1 {results['top1']:.2f} %, top-5 {results['top5']:.2f} %, loss {results['loss']:.4f}"
        speed = f"{results['images']} images, {results['images_per_second']:.0f} a second"
        lines.append(f"{'last weights, ' if parts.progress else ''}test images: {figures} ({speed})")
    if results["average"]:
        lines.append(
            "averaged weights: top-1 {top1:.2f} %, top-5 {top5:.2f} %, loss {loss:.4f}".format(**results["average"])
        )
    if results["best"] and parts.data:
        best = results["best"]
        chosen = "test" if parts.data.validation is None else "validation"
        by_steps = parts.experiment.val_interval is not None
        where = f"step: {best['step']}" if by_steps else f"epoch: {best['epoch']}"
        lines.append(f"best {where}, with top-1 {best['top1']:.2f} % on the {chosen} images")
    if parts.data and parts.data.skipped:
        lines.append(f"unreadable images left out: {parts.data.skipped}")
    if results["edges"] and results["edges"]["natural"] is not None:
        lines.append(_cut(**results["edges"]))
    for name in ("checkpoint", "log", "result"):
        if results[name]:
            lines.append(f"{name}: {results[name]}")
    if results["report"]:
        page = Path(results["report"])
        lines.append(f"report: {page} (in any browser: {page.resolve().as_uri()})")
    return "\n".join(lines)


def _edges(network: nn.Module) -> dict[str, int | None] | None:
    """Edges of a wired network that are possible, that act, and that acted before a cut, where there was one."""
    wired = [graph for _, graph in graphs(network)]
    if not wired:
        return None
    thresholds = [wiring.natural for graph in wired if isinstance(wiring := graph.wiring, STR)]
    natural = [edges for edges in thresholds if edges is not None]
    with evaluating(network):
        acting = sum(int(graph.acting().count_nonzero()) for graph in wired)
    return {
        "possible": sum(graph.layout.possible for graph in wired),
        "acting": acting,
        "natural": sum(natural) if natural and len(natural) == len(thresholds) else None,
    }


def _cut(possible: int, acting: int, natural: int) -> str:
    before, after = (f"{edges} ({100 * (1 - edges / possible):.2f} % sparse)" for edges in (natural, acting))
    return f"edges: the learned thresholds left {before} of {possible}, cut to {after}"


def _announcer(fabric: Fabric) -> Callable[[], None]:
    """What tells that a request to stop was heard: where processes were started for the run, their parent tells."""
    alone = multiprocessing.parent_process() is None and fabric.global_rank == 0
    return announce if alone else lambda: None


def _say_before(first: bool, text: str) -> None:
    """Print before the processes of a run know one another."""
    if first:
        print(text, flush=True)


def _position(progress: Progress) -> str:
    epochs = f"{progress.epoch} epoch{'' if progress.epoch == 1 else 's'}"
    return f"{epochs} and {progress.step} of {progress.steps_per_epoch} steps" if progress.step else epochs


def _command(experiment: Experiment, checkpoint: str) -> str:
    """The command that resumes a run on the same machine, with what is not taken from a checkpoint."""
    words = ["python", "runner.py", "--resume", checkpoint]
    fields = {**Machine.model_fields, "results_dir": Invocation.model_fields["results_dir"]}
    fields["log_dir"] = Record.model_fields["log_dir"]
    for key, field in fields.items():
        value = getattr(experiment, key)
        if value != field.get_default(call_default_factory=True):
            values = value if isinstance(value, list) else [str(value).lower() if isinstance(value, bool) else value]
            words += [f"--{key}", *map(str, values or ["[]"])]
    return shlex.join(words)


def _figures(scores: Scores) -> dict[str, float]:
    figures = {"top1": scores.top1, "top5": scores.top5, "loss": scores.loss, "images": scores.images}
    return figures | {"non_finite": scores.non_finite, "images_per_second": scores.images / scores.seconds}


def _places(progress: Progress, folder: Path | None, log_folder: Path | None) -> dict[str, Any]:
    best: dict[str, Any] | None = progress.best and {**progress.best, "checkpoint": _if_there(folder, "best.pt")}
    return {"checkpoint": _if_there(folder, "last.pt"), "best": best, "log": log_folder and str(log_folder)}


def _if_there(folder: Path | None, name: str) -> str | None:
    return str(folder / name) if folder and (folder / name).exists() else None
