"""The page of a run, made from the files that it has left: its checkpoints, its snapshots, its log."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from genutil.build import build_network
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.model_profiling import Profile, profile
from genutil.reports import results
from genutil.reports.logs import CHECKPOINTS, METRICS, read_metrics
from genutil.reports.page import latency, standing, wiring
from genutil.reports.page.architecture import drawing
from genutil.reports.page.document import Content, render
from genutil.reports.page.standing import Standing
from genutil.saved import loading, snapshots
from genutil.saved.source import open_source
from genutil.system.conditions import processor
from genutil.system.files import write_text
from genutil.training.progress import Progress
from genutil.training.timetable import Timetable
from models.wirings.rules import graphs

REPORT = "report.html"


def write_report(place: Path, out: Path | None = None) -> Path:
    """Make the page of a run and write it, as report.html into the run's folder where no other file is named.

    Args:
        place: the folder of a run's checkpoints, or that of its log.
        out: the page's file.

    Returns:
        The page's file.

    Raises:
        UserError: the folder is none of a run, a checkpoint is damaged, or the page cannot be written.
    """
    folder = _checkpoints_of(place)
    content = _of_log(place) if folder is None else _of_checkpoints(folder)
    out = out or (folder or place) / REPORT
    write_text(out, render(content))
    return out


def report_at_the_end(folder: Path) -> str | None:
    """The page's file of a run that is over. A fault in it is told, and must not take the run's results along."""
    try:
        return str(write_report(folder))
    except Exception as error:
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}."
        print(f"There is no report: {told} Try: python runner.py report {folder}", file=sys.stderr)
        return None


def _checkpoints_of(place: Path) -> Path | None:
    """The folder of a run's checkpoints; None where only its log is left."""
    if place.is_file() and place.suffix == ".pt":
        place = place.parent
    if not place.is_dir():
        raise UserError(f"There is no folder {place}.")
    if _checkpoint(place):
        return place
    if (place / METRICS).exists():
        named = place / CHECKPOINTS
        found = Path(named.read_text(encoding="utf-8").strip()) if named.exists() else None
        found = found and (place / found)
        return found if found and found.is_dir() and _checkpoint(found) else None
    raise UserError(f"{place} is no folder of a run: it holds neither a checkpoint nor {METRICS}.")


def _checkpoint(folder: Path) -> Path | None:
    """The checkpoint that has gone furthest."""
    numbered = sorted(folder.glob("epoch_*.pt"), key=lambda path: (len(path.name), path.name))
    candidates = [folder / "last.pt", *reversed(numbered), folder / "best.pt", folder / "init.pt"]
    return next((path for path in candidates if path.exists()), None)


def _of_log(place: Path) -> Content:
    """The page of a run of which only the log is left."""
    records = read_metrics(place)
    notice = f"The checkpoints of this run are gone: its curves are all that {METRICS} tells."
    curve = results.curve(records)
    if not curve:
        notice = f"The run stopped before its first validation; nothing is known of it but that. {notice}"
    per_epoch = curve["step"][-1] / curve["epoch"][-1] if curve else 1
    return Content(place.resolve().name, notices=[notice], curve=curve, steps_per_epoch=per_epoch)


@dataclass(frozen=True)
class _Run:
    """A run as its furthest checkpoint has it."""

    folder: Path
    checkpoint: Path
    experiment: Experiment
    saved: dict[str, Any]
    network: nn.Module

    @property
    def progress(self) -> Progress:
        progress = Progress(self.saved["steps_per_epoch"])
        progress.restore(self.saved, self.checkpoint)
        return progress


def _open(folder: Path) -> _Run:
    checkpoint = _checkpoint(folder)
    assert checkpoint is not None
    source = open_source(checkpoint)
    experiment = Experiment.from_saved(source.settings(), {"evaluate": True})
    network = build_network(experiment)
    saved = source.training_state()["progress"]
    loading.load_weights(source, network)
    return _Run(folder, checkpoint, experiment, saved, network.eval())


def open_run(place: Path) -> _Run:
    """A run by the folder of its checkpoints or of its log, with the network of its furthest checkpoint.

    Raises:
        UserError: the folder is none of a run, its checkpoints are gone, or the furthest is damaged.
    """
    folder = _checkpoints_of(place)
    if folder is None:
        raise UserError(f"The checkpoints of {place} are gone.")
    return _open(folder)


def _of_checkpoints(folder: Path) -> Content:
    run = _open(folder)
    experiment, network, progress = run.experiment, run.network, run.progress
    costs = profile(network, experiment.image_size, experiment.in_channels)
    moments, parts = _wiring(run)
    curve = results.curve(progress.history)
    return Content(
        name=experiment.name or folder.resolve().name,
        summary=_summary(experiment),
        facts=_facts(run, costs),
        notices=_notices(run),
        curve=curve,
        steps_per_epoch=progress.steps_per_epoch,
        moments=moments,
        parts=parts,
        profile=costs,
        dense_multiply_adds=_dense_multiply_adds(run),
        latencies=latency.measure(network, experiment.image_size, experiment.in_channels),
        machine=f"{torch.get_num_threads()} threads of {processor()}",
        standing=_standing(run, costs),
        architecture=drawing(network, experiment.image_size, experiment.in_channels),
        settings=yaml.safe_dump(experiment.to_saved(), sort_keys=False),
    )


def _wiring(run: _Run) -> tuple[list[str], list[wiring.Part]]:
    """The states of the wiring by their names, and its parts. The last state is that of the checkpoint."""
    possible = {name: graph.layout.possible for name, graph in graphs(run.network)}
    here = run.progress.updates
    found = [snapshot for snapshot in snapshots.read(run.folder) if snapshot.step < here]
    found = [found[i] for i in wiring.thinned(len(found))] if found else []
    moments, masks = [], []
    for snapshot in found:
        of_graphs = {name: snapshot.mask(name, count) for name, count in possible.items()}
        whole = {name: mask for name, mask in of_graphs.items() if mask is not None}
        if len(whole) == len(possible) > 0:
            moments.append(f"epoch {snapshot.epoch:.4g}")
            masks.append(wiring.as_masks(whole))
    parts = wiring.picture(run.network, masks)
    return [*moments, f"epoch {here / run.progress.steps_per_epoch:.4g}"], parts


def _dense_multiply_adds(run: _Run) -> int | None:
    """Multiply-adds of the network with every possible edge; None where it has no wiring, or has all of them."""
    if run.experiment.wiring == "complete" or not any(graphs(run.network)):
        return None
    options = {"wiring": "complete", "evaluate": True, "prune_rate": run.experiment.prune_rate}
    dense = build_network(run.experiment.but(**options))
    return profile(dense, run.experiment.image_size, run.experiment.in_channels).live_multiply_adds


def _summary(experiment: Experiment) -> str:
    wired = f", wiring {experiment.wiring}" if experiment.wiring != "complete" else ""
    pruned = f", prune rate {experiment.prune_rate:g}" if wired else ""
    return f"{experiment.model} on {experiment.data}{wired}{pruned}, seed {experiment.seed}"


def _facts(run: _Run, costs: Profile) -> dict[str, str]:
    """The figures at the top of the page."""
    progress, facts = run.progress, {}
    last = next((record for record in reversed(progress.history) if "validated_on" in record), None)
    if last:
        facts[f"top-1 on {last['validated_on']} images"] = f"{last['validation_top1']:.2f} %"
        facts["best"] = f"{progress.best['top1']:.2f} %, epoch {progress.best['epoch']}" if progress.best else ""
    facts["parameters"] = f"{costs.parameters:,}"
    facts["multiply-adds"] = f"{costs.multiply_adds:,}"
    if costs.wired:
        possible, acting, live = (sum(getattr(y, key) for y in costs.wired) for key in ("possible", "acting", "live"))
        facts["possible edges"] = f"{possible:,}"
        facts["acting edges"] = f"{acting:,} ({100 * acting / possible:.1f}\N{NO-BREAK SPACE}%)"
        nodes, alive = (sum(getattr(y, key) for y in costs.wired) for key in ("nodes", "live_nodes"))
        facts["live edges"] = f"{live:,}"
        facts["live nodes"] = f"{alive:,} of {nodes:,}"
    facts["epochs of training"] = f"{progress.updates / progress.steps_per_epoch:.4g}"
    return {key: value for key, value in facts.items() if value}


def _notices(run: _Run) -> list[str]:
    progress = run.progress
    steps = Timetable(run.experiment, Progress(progress.steps_per_epoch)).steps
    if progress.updates >= steps:
        return []
    return [
        f"This run is not finished: {progress.updates:,} of {steps:,} steps are behind it. "
        f"Go on with: python runner.py --resume {run.checkpoint}"
    ]


def _standing(run: _Run, costs: Profile) -> list[Standing]:
    """This network, the published ones, and the recorded trainings on the same data."""
    experiment, progress = run.experiment, run.progress
    others = [*standing.published(), *(one for one in standing.recorded() if one.data == experiment.data)]
    last = next((record for record in reversed(progress.history) if "validated_on" in record), None)
    if last is None:
        return []
    name, kind = experiment.name or "this run", standing.kind_of(experiment.to_saved())
    top1 = last["validation_top1"]
    own = Standing(name, experiment.data, kind, "this run", costs.parameters, costs.multiply_adds, top1)
    return [*others, own]
