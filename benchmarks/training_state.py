"""How far each training of the queue is: read off its results file, its checkpoint, and the processes that run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.trained_tables import Kind, kind_of
from benchmarks.training_queue import Run
from genutil.errors import UserError
from genutil.reports import results as results_files
from genutil.saved import checkpoints

DONE, RUNNING, FINISHED, STARTED, MISSING, FAULTY = "done", "running", "to be kept", "started", "missing", "faulty"


@dataclass(frozen=True)
class State:
    """How far a training is.

    Attributes:
        kind: its experiment, length and changes.
        what: DONE, its result is kept; RUNNING in a process; FINISHED, its result is still to be kept; STARTED and
            stopped; MISSING; FAULTY, its checkpoint cannot be gone on from.
        steps: updates done.
        steps_per_epoch: of its data, where they are known.
        seconds_per_step: as measured, with validations.
        checkpoint: to go on from.
        process: that runs it.
        fault: why it is FAULTY.
    """

    run: Run
    kind: Kind
    what: str
    steps: int = 0
    steps_per_epoch: int | None = None
    seconds_per_step: float | None = None
    checkpoint: Path | None = None
    process: int | None = None
    fault: str | None = None

    def planned(self, steps_per_epoch: int | None) -> int | None:
        """Updates of the whole training, where they are known."""
        return self.kind.steps or (steps_per_epoch and (self.kind.epochs or 0) * steps_per_epoch)

    @property
    def epochs(self) -> float:
        """Epochs done."""
        return self.steps / self.steps_per_epoch if self.steps_per_epoch else 0.0


@dataclass(frozen=True)
class Places:
    """The folders of a queue: <folder>/checkpoints, <folder>/logs, <folder>/output, and where results are kept."""

    folder: Path
    results: Path
    _wanted: dict[tuple[str, str | None], dict[str, Any]] = field(default_factory=dict)

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def states(self, runs: Iterable[Run]) -> list[State]:
        """How far each training is.

        Raises:
            UserError: a file among the results is none.
        """
        results = [results_files.read(path) for path in sorted(self.results.rglob("*.json"))]
        processes = running(self.checkpoints)
        return [self._state(run, results, processes.get(run.name)) for run in runs]

    def _state(self, run: Run, results: Sequence[Mapping[str, Any]], process: int | None) -> State:
        known = run.name, run.entry.device
        if known not in self._wanted:
            self._wanted[known] = run.entry.resolved(run.seed, self.checkpoints)
        wanted = self._wanted[known]
        kind = kind_of(run.entry.experiment, wanted)
        for result in results if process is None else ():
            same = result["experiment"] == kind.experiment
            if same and not results_files.differences(wanted, result["settings"]):
                steps, pace = result["run"]["steps"], result["seconds"] / max(result["run"]["steps"], 1)
                return State(run, kind, DONE, steps, result["run"]["steps_per_epoch"], pace)
        path = self._checkpoint(run)
        if path is None:
            return State(run, kind, MISSING if process is None else RUNNING, process=process)
        try:
            saved = checkpoints.read(path)
        except UserError as mistake:
            return State(run, kind, FAULTY, checkpoint=path, process=process, fault=str(mistake))
        if other := results_files.differences(wanted, saved["settings"]):
            named = ", ".join(f"{key} {there}, not {here}" for key, (here, there) in other.items())
            return State(run, kind, FAULTY, checkpoint=path, process=process, fault=f"{path} has {named}.")
        return _of_checkpoint(run, kind, path, saved["progress"], process)

    def _checkpoint(self, run: Run) -> Path | None:
        """What a run is gone on from: its last checkpoint, or the one before its first step."""
        paths = (self.checkpoints / run.name / name for name in ("last.pt", "init.pt"))
        return next((path for path in paths if path.exists()), None)


def _of_checkpoint(run: Run, kind: Kind, path: Path, progress: Mapping[str, Any], process: int | None) -> State:
    per_epoch = progress["steps_per_epoch"]
    steps = progress["epoch"] * per_epoch + progress["step"]
    records = [record for record in progress.get("history", []) if "seconds" in record]
    pace = None
    if len(records) > 1:  # the first may have come before a history was kept, and be longer
        told = records[-1]["step"] - records[0]["step"]
        pace = sum(record["seconds"] for record in records[1:]) / told
    elif records:
        pace = records[0]["seconds"] / records[0]["step"]
    state = State(run, kind, RUNNING if process else STARTED, steps, per_epoch, pace, path, process)
    finished = process is None and steps >= (state.planned(per_epoch) or 0)
    return State(run, kind, FINISHED, steps, per_epoch, pace, path) if finished else state


@dataclass(frozen=True)
class Pace:
    """What is known of how long trainings of a kind take."""

    seconds_per_step: float
    steps_per_epoch: int


def paces(states: Iterable[State]) -> dict[tuple[str, Any], Pace]:
    """What was measured, by experiment and what differs from its app file."""
    found: dict[tuple[str, Any], Pace] = {}
    for state in states:
        if state.seconds_per_step and state.steps_per_epoch:
            found[state.kind.experiment, state.kind.changes] = Pace(state.seconds_per_step, state.steps_per_epoch)
    return found


def seconds_left(state: State, pace: Pace | None) -> float | None:
    """Seconds that the rest of a training takes at its own pace, or at one of its kind; None where neither is known."""
    if state.what in (DONE, FINISHED):
        return 0.0
    seconds = state.seconds_per_step or (pace.seconds_per_step if pace else None)
    planned = state.planned(state.steps_per_epoch or (pace.steps_per_epoch if pace else None))
    return None if seconds is None or planned is None else max(planned - state.steps, 0) * seconds


def running(folder: Path) -> dict[str, int]:
    """The processes of runners that train in a folder of checkpoints, by the name of the run, whoever started them."""
    found: dict[str, int] = {}
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: -int(path.name)):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            home = (process / "cwd").readlink()
        except OSError:
            continue  # it has ended, or is somebody else's
        if any(Path(word).name == "runner.py" for word in words[:4]) and (name := _trains(words, home, folder)):
            found[name] = int(process.name)  # a run's own process is older than those that read its data
    return found


def _trains(words: Sequence[str], home: Path, folder: Path) -> str | None:
    """The name of the run that a command line trains in a folder of checkpoints; None for any other."""
    given = dict(pairwise(words))
    if "--name" in given and _same(home / given.get("--save_dir", "checkpoints"), folder):
        return given["--name"]
    resumed = home / given.get("--resume", "")
    return resumed.parent.name if _same(resumed.parent.parent, folder) else None


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
