"""Several experiments of one file, run one after the other."""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from lightning_fabric.utilities.rank_zero import rank_zero_only

from genutil.cli import command_line, notices
from genutil.cli.command_line import CommandLine
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.run import run
from genutil.system.files import require_place, to_json, write_text
from genutil.training.going_on import AUTO

CHECKED_BATCHES = 2
"""Batches of each part of the data that a quick run takes."""


@dataclass
class SeriesEntry:
    """An experiment of the file, and what became of it.

    Attributes:
        results: as `run` returns them; None where it did not come to its end.
        fault: why, where something failed.
    """

    name: str
    experiment: Experiment | None = None
    results: dict[str, Any] | None = None
    fault: str | None = None


def run_series(line: CommandLine) -> int:
    """Run every experiment of a file, all but those with a mistake that reading them or a quick run has shown.

    What fails is told on standard error, and the next experiment runs. A table of all of them comes at the end, also
    after an interruption, and with `json` a file: `experiments`, each with its `name`, its `fault` (None where all went
    well) and its results (see `run`).

    Returns:
        The exit status: 0, or 2 where one failed.

    Raises:
        UserError: the file cannot be read, or there is no place for the JSON file.
        KeyboardInterrupt: an interruption ends the series.
    """
    json_file = line.settings.get("json")
    if json_file:
        require_place(Path(json_file))
    entries = [_read(line, number) for number in range(command_line.documents(line))]
    try:
        for number, entry in enumerate(entries, 1):
            _attempt(entry, f"checking {number} of {len(entries)}", check)
        for number, entry in enumerate(entries, 1):
            entry.results = _attempt(entry, f"experiment {number} of {len(entries)}", run)
    finally:
        say(table(entries))
        if json_file and first():
            found = [{"name": entry.name, "fault": entry.fault, **(entry.results or {})} for entry in entries]
            write_text(Path(json_file), to_json({"experiments": found}, indent=2) + "\n")
    return 2 if any(entry.fault for entry in entries) else 0


def check(experiment: Experiment) -> None:
    """Train, evaluate and save on a few batches; nothing of it stays. What resumes a run or does not train is left out.

    Raises whatever the run does.
    """
    resumes = experiment.resume not in (None, AUTO)
    if experiment.skip_error_test or resumes or not experiment.trains:
        return
    nothing: dict[str, Any] = {
        "json": None,
        "picture": None,
        "results_dir": None,
        "report": False,
        "snapshots": 0,
        "tracker": [],
    }
    few = {"only_batches": CHECKED_BATCHES, "num_steps": CHECKED_BATCHES, "val_interval": None}
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        run(experiment.but(resume=None, save_dir=folder, log_dir=folder, **nothing, **few))


def table(entries: list[SeriesEntry]) -> str:
    """A line for every experiment: its figures, or why it has none."""
    width = max(len(entry.name) for entry in entries)
    return "\n".join(["", *(f"{entry.name:{width}}  {_outcome(entry)}" for entry in entries)])


def _outcome(entry: SeriesEntry) -> str:
    if entry.fault:
        return f"failed: {entry.fault}"
    if entry.results is None:
        return "not run to its end"
    results, parts = entry.results, []
    if results["top1"] is not None:
        parts.append(f"top-1 {results['top1']:6.2f} %  top-5 {results['top5']:6.2f} %  loss {results['loss']:.4f}")
    if results["profile"]:
        profile = results["profile"]
        parts.append(f"{profile['parameters']:,} parameters  {profile['multiply_adds']:,} multiply-adds")
    return "  ".join([*parts, f"{results['seconds']:.0f} s"])


def _read(line: CommandLine, document: int) -> SeriesEntry:
    """An experiment of the file; one that cannot be read is called by its place."""
    entry = SeriesEntry(f"document {document + 1}")
    try:
        experiment = command_line.resolve(line, document=document)
        if experiment.seeds is not None:
            raise UserError("seeds belongs to a file of a single experiment; here each is trained once.")
        entry.experiment = experiment.but(json=None) if line.settings.get("json") else experiment
        entry.name = experiment.name or entry.name
        notices.tell(experiment, line, document)
    except UserError as mistake:
        _fail(entry, str(mistake))
    return entry


def _attempt(
    entry: SeriesEntry, title: str, act: Callable[[Experiment], dict[str, Any] | None]
) -> dict[str, Any] | None:
    """Do something with an experiment that has not failed yet; a failure is told and noted."""
    if entry.experiment is None or entry.fault:
        return None
    say(f"\n== {title}: {entry.name}")
    try:
        return act(entry.experiment)
    except UserError as mistake:
        _fail(entry, str(mistake))
    except Exception as error:  # whatever it is, the other experiments are not to suffer from it
        traceback.print_exc()
        _fail(entry, f"{type(error).__name__}: {error}")
    return None


def _fail(entry: SeriesEntry, fault: str) -> None:
    entry.fault = fault
    if first():
        print(f"{entry.name}: {fault}", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print a line in the first process."""
    if first():
        print(text, flush=True)


def first() -> bool:
    """Whether this is the first of the processes that torchrun or SLURM may have started."""
    return getattr(rank_zero_only, "rank", 0) == 0
