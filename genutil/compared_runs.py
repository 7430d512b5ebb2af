"""Reading runs to compare them: from their folders, and from files of results."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from genutil.errors import UserError
from genutil.model_profiling import profile
from genutil.reports import results
from genutil.reports.comparison import ComparedRun, figures_of
from genutil.reports.page import latency as latencies
from genutil.run_report import open_run
from models.measures import measures_of

SETTINGS = "settings.yml"


def read_runs(places: Iterable[Path], latency: bool = False) -> list[ComparedRun]:
    """Every run of some folders and files.

    Args:
        places: folders of a run's checkpoints, or of its log; files of results; folders that hold those at any depth.
        latency: measure what one image takes, of runs with checkpoints.

    Raises:
        UserError: there is no such place, or there is no run in it; a file or a checkpoint is damaged.
    """
    found: dict[Path, ComparedRun] = {}
    for place in places:
        for run in _runs_in(place):
            if run.resolve() not in found:
                found[run.resolve()] = of_result(run) if run.is_file() else _of_folder(run, latency)
    return list(found.values())


def _runs_in(place: Path) -> list[Path]:
    """The folders of runs and files of results that a place means."""
    if not place.exists():
        raise UserError(f"There is no {place}.")
    if place.is_file() or any(place.glob("*.pt")) or (place / "metrics.jsonl").exists():
        return [place.parent if place.suffix == ".pt" else place]
    runs = {path.parent for path in place.rglob(SETTINGS) if any(path.parent.glob("*.pt"))}
    inside = sorted(runs) + [path for path in sorted(place.rglob("*.json")) if _is_result(path)]
    if not inside:
        raise UserError(f"{place} holds no runs: neither checkpoints, nor files of results.")
    return inside


def _is_result(path: Path) -> bool:
    try:
        results.read(path)
    except UserError:
        return False
    return True


def of_result(path: Path) -> ComparedRun:
    """The run of a file of results. Raises UserError where it is none."""
    found = results.read(path)
    last, best, settings = found.get("last") or {}, found.get("best") or {}, found["settings"]
    figures = figures_of(found.get("profile"), found.get("edges"), settings)
    figures |= _known(
        top1=last.get("top1"),
        top5=last.get("top5"),
        loss=last.get("loss"),
        best_top1=best.get("test_top1"),
        epochs=(found.get("run") or {}).get("epochs"),
        seconds=found.get("seconds"),
    )
    rule = "" if settings.get("wiring", "complete") == "complete" else f" {settings['wiring']}"
    return ComparedRun(f"{found['experiment']}{rule}, seed {found['seed']}", str(path), settings, figures)


def _of_folder(folder: Path, latency: bool) -> ComparedRun:
    """By its furthest checkpoint, whose network is profiled; accuracies are those of its last validation."""
    run = open_run(folder)
    experiment, network, progress = run.experiment, run.network, run.progress
    costs = profile(network, experiment.image_size, experiment.in_channels).to_dict() | {"wiring": measures_of(network)}
    settings = experiment.to_saved()
    figures = figures_of(costs, None, settings)
    last: dict[str, Any] = next((record for record in reversed(progress.history) if "validated_on" in record), {})
    figures |= _known(
        top1=last.get("validation_top1"),
        top5=last.get("validation_top5"),
        loss=last.get("validation_loss"),
        best_top1=progress.best["top1"] if progress.best else None,
        epochs=progress.updates / progress.steps_per_epoch,
        seconds=results.seconds(progress.to_saved()),
    )
    if latency:
        for one in latencies.measure(network, experiment.image_size, experiment.in_channels):
            key = {"network": "network_latency", "native": "latency"}.get(one.engine)
            if key:
                figures |= _known(**{key: one.milliseconds})
    return ComparedRun(folder.name, str(folder), settings, figures, last.get("validated_on", "test"))


def _known(**values: float | None) -> dict[str, float]:
    return {key: float(value) for key, value in values.items() if value is not None}
