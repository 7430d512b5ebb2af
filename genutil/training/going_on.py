"""Which checkpoint a run goes on from where that is not said: `resume: auto`, and jobs that were started again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from genutil.config import Experiment
from genutil.errors import UserError
from genutil.reports import results
from genutil.saved.sources import Sources
from genutil.system import jobs, locks

AUTO = "auto"
"""The value of `resume` that asks for the newest good checkpoint of the experiment."""

MAY_DIFFER = frozenset(("num_epochs", "num_steps"))
"""Settings in which an experiment is still the same one."""


def name_of(experiment: Experiment) -> str:
    """The name of a run's folders."""
    return experiment.name or "experiment"


def resolved(experiment: Experiment, sources: Sources, say: Callable[[str], None]) -> Experiment:
    """The experiment with the checkpoint that it goes on from in place of `auto`; without one where it starts anew.

    A job that was started again goes on where it was, whatever it was started from at first. All others are as they
    were.

    Args:
        experiment: of the run.
        sources: opens checkpoints.
        say: prints a line.

    Raises:
        UserError: an evaluation or a profile of the newest checkpoint is wanted, and there is none.
    """
    again = jobs.restarted() and experiment.trains
    if experiment.resume != AUTO and not again:
        return experiment
    folders = run_folders(experiment)
    if experiment.resume != AUTO:
        own = jobs.job()
        folders = [folder for folder in folders if own is not None and locks.note(folder).get("job") == own]
    for folder in folders:
        if found := newest(folder, experiment, sources, say):
            say(f"Going on from {found}.")
            return experiment.but(resume=str(found), init_from=None)
    if experiment.resume != AUTO:
        return experiment
    if not experiment.trains:
        raise UserError(f"There is no checkpoint of {name_of(experiment)} in {experiment.save_dir}.")
    return experiment.but(resume=None)


def run_folders(experiment: Experiment) -> list[Path]:
    """The folders of the experiment's runs, the one in which something was written last first."""
    own = Path(experiment.save_dir, name_of(experiment))
    found = [folder for folder in own.parent.glob("*") if is_run_folder(folder, own) and folder.is_dir()]
    return sorted(found, key=_last_written, reverse=True)


def is_run_folder(folder: Path, own: Path) -> bool:
    """Whether a folder is `own`, or one of those beside it that later runs of its name get."""
    numbered = re.fullmatch(re.escape(own.name) + r"(-\d+)?", folder.resolve().name)
    return folder.resolve().parent == own.resolve().parent and numbered is not None


def newest(folder: Path, experiment: Experiment, sources: Sources, say: Callable[[str], None]) -> Path | None:
    """The checkpoint of a run that its training goes on from: last.pt, or where that is damaged the furthest good one.

    Args:
        folder: of the run.
        experiment: that goes on.
        sources: opens checkpoints.
        say: is told of each that is damaged, or of another experiment.
    """
    last = folder / "last.pt"
    others = sorted(path for path in folder.glob("*.pt") if path != last)
    good = dict(_good([last], experiment, sources, say)) or dict(_good(others, experiment, sources, say))
    return max(good, key=lambda path: good[path]) if good else None


def _good(
    paths: list[Path], experiment: Experiment, sources: Sources, say: Callable[[str], None]
) -> Iterator[tuple[Path, int]]:
    """Those that can be gone on from, with the updates that each has behind it."""
    for path in paths:
        if not path.exists():
            continue
        try:
            saved = sources.open(path).training_state()
        except UserError as fault:
            say(f"Skipped: {fault}")
            continue
        if other := _differences(experiment, saved["settings"]):
            say(f"Skipped: {path} is of another experiment ({other}).")
            continue
        progress = saved["progress"]
        yield path, progress["epoch"] * progress["steps_per_epoch"] + progress["step"]


def _differences(experiment: Experiment, saved: dict[str, Any]) -> str:
    """In what a checkpoint's experiment is another one, in words."""
    wanted = experiment.to_saved()
    found = {key: pair for key, pair in results.differences(wanted, saved).items() if key not in MAY_DIFFER}
    if saved.get("name") != experiment.name:
        found["name"] = experiment.name, saved.get("name")
    return ", ".join(f"{key} is {there} there and {here} here" for key, (here, there) in found.items())


def _last_written(folder: Path) -> float:
    return max((path.stat().st_mtime for path in folder.iterdir() if path.is_file()), default=0.0)
