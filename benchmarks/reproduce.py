"""Train what is missing of the queue of trainings, benchmarks/queue.yml, and keep the results.

    python benchmarks/reproduce.py --list                           what is done, running, missing; how long it takes
    python benchmarks/reproduce.py --minutes 60 --data_dir DIR      an hour of it; later, the same command goes on
    python benchmarks/reproduce.py --parallel 2 --threads 1         two trainings at once, with a thread each
    python benchmarks/reproduce.py --gpus 0 1 --parallel 4          two on each of two GPUs
    python benchmarks/reproduce.py --only small_scale/static_dnw    some experiments alone

A training lies in FOLDER/checkpoints/<name>-<seed>, its logs in FOLDER/logs, what it prints in FOLDER/output. Ctrl-C
and the end of the minutes stop all trainings where they can be saved; one that is killed loses an epoch at most.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import NoReturn

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import training_queue
from benchmarks.training_list import listing
from benchmarks.training_process import Machine, Training, only_one, waits_for
from benchmarks.training_queue import Run
from benchmarks.training_state import FAULTY, FINISHED, MISSING, RUNNING, STARTED, Places, State
from genutil.errors import UserError, nearest
from genutil.reports import results as results_files
from genutil.system.interruption import StopRequest, announce

ROOT = Path(__file__).resolve().parents[1]
LOOK_EVERY = 0.2
"""Seconds between looks at the processes."""
WAIT_FOR_OTHERS = 10.0
"""Seconds between looks at trainings that somebody else has started."""


@dataclass
class Queue:
    """The trainings of a queue at work.

    Args:
        runs: in their order.
        places: of the queue.
        machine: of the queue.
        parallel: trainings at once.
        seconds: to work for; None: until all is done.
    """

    runs: Sequence[Run]
    places: Places
    machine: Machine
    parallel: int = 1
    seconds: float | None = None
    trainings: list[Training] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    _looked: float = float("-inf")

    def work(self) -> int:
        """Train what is missing. Returns the exit status: 0; 2 where a training failed; 130 after an interruption."""
        end = time.monotonic() + (float("inf") if self.seconds is None else self.seconds)
        with StopRequest(first=announce, second=self._kill) as stop:
            try:
                while self._look(stopping=stop.requested or time.monotonic() >= end):
                    time.sleep(LOOK_EVERY)
            finally:
                for training in self.trainings:
                    training.stop()
        for name, fault in self.failed.items():
            print(f"{name} failed: {fault}", file=sys.stderr, flush=True)
        return 130 if stop.requested else 2 if self.failed else 0

    def _look(self, stopping: bool) -> bool:
        """End what has ended, start what can be started. Returns whether there is more to wait for."""
        for training in [one for one in self.trainings if one.ended() is not None]:
            self.trainings.remove(training)
            self._looked = float("-inf")
            self._note_end(training, stopping)
        if stopping:
            for training in self.trainings:
                training.stop()
            return bool(self.trainings)
        if len(self.trainings) < self.parallel and time.monotonic() - self._looked > WAIT_FOR_OTHERS:
            self._looked = time.monotonic()
            return self._start()
        return True

    def _start(self) -> bool:
        """Start trainings in the free slots. Returns whether any are at work, here or elsewhere."""
        own = {training.run.name for training in self.trainings}
        states = self.places.states([run for run in self.runs if run.name not in own])
        for state in states:
            if len(self.trainings) == self.parallel:
                break
            if state.what == FAULTY:
                self.failed.setdefault(state.run.name, str(state.fault))
            elif state.what in (FINISHED, STARTED, MISSING) and self._may_start(state.run):
                slot = min(set(range(self.parallel)) - {training.slot for training in self.trainings})
                training = Training(state, self.places, self.machine, slot)
                self.trainings.append(training)
                print(f"{_now()} {state.run.name}: {_verb(state)}, process {training.process}", flush=True)
        return bool(self.trainings) or any(state.what == RUNNING for state in states)

    def _may_start(self, run: Run) -> bool:
        return run.name not in self.failed and waits_for(run, self.places, self.machine) is None

    def _note_end(self, training: Training, stopping: bool) -> None:
        name, status = training.run.name, training.ended()
        if status == 0:
            print(f"{_now()} {name}: done", flush=True)
        elif stopping:
            print(f"{_now()} {name}: stopped", flush=True)
        else:
            self.failed[name] = training.last_line() if status == 2 else f"exit status {status}: {training.last_line()}"
            print(f"{_now()} {name}: failed", flush=True)

    def _kill(self) -> None:
        for training in self.trainings:
            training.kill()


def read_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line. Raises UserError for a mistake in it."""
    parser = _Parser(
        description=__doc__.split("\n")[0],
        epilog="\n".join(__doc__.split("\n")[2:]),
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--list", action="store_true", help="say how far everything is, and train nothing")
    parser.add_argument("--minutes", type=_positive, help="stop after so many [none: when all is done]")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="experiments, or trainings; * stands for anything")
    parser.add_argument("--folder", type=Path, default=Path("trainings"), help="of checkpoints and logs [trainings]")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of results [results]")
    parser.add_argument("--queue", type=Path, default=training_queue.QUEUE, help="the queue [benchmarks/queue.yml]")
    parser.add_argument("--parallel", type=_count, default=1, help="trainings at once [1]")
    parser.add_argument("--threads", type=_count, help="of each training [torch's own choice]")
    parser.add_argument("--niceness", type=int, choices=range(20), metavar="0..19", default=0, help="[0]")
    parser.add_argument(
        "--gpus", type=_index, nargs="*", help="to train on; none after it: the CPU [all that there are]"
    )
    parser.add_argument("--data_dir", "--data-dir", help="folder of the data sets [the environment's DATA_DIR]")
    parser.add_argument("--verify", choices=["true", "false"], default="true", help="check files of data [true]")
    return parser.parse_args(words)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the options.")


def _count(word: str) -> int:
    if not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word} is no whole number from 1")
    return int(word)


def _index(word: str) -> int:
    if not word.isdigit():
        raise argparse.ArgumentTypeError(f"{word} is no whole number from 0")
    return int(word)


def _positive(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{word} is no number above 0")
    return value


def chosen(runs: Sequence[Run], patterns: Sequence[str] | None) -> list[Run]:
    """The trainings that one of the patterns names by experiment, by name, or by both without the seed.

    Raises:
        UserError: a pattern names none.
    """
    if patterns is None:
        return list(runs)
    found: set[str] = set()
    for pattern in patterns:
        named = {run.name for run in runs if any(fnmatch(word, pattern) for word in _words(run))}
        if not named:
            known = sorted({word for run in runs for word in _words(run)})
            raise UserError(
                f"--only {pattern} names no training of the queue; the nearest is {nearest(pattern, known)}."
            )
        found |= named
    return [run for run in runs if run.name in found]


def _words(run: Run) -> tuple[str, str, str]:
    return run.entry.experiment, run.entry.name, run.name


def main(words: Sequence[str] | None = None) -> int:
    """Do what a command line asks for; the exit status, as `runner.main`."""
    try:
        args = read_arguments(words)
        runs = chosen(training_queue.runs(training_queue.read(args.queue)), args.only)
        places = Places(args.folder, args.results)
        results_files.require_folder(args.results)
        gpus = tuple(range(torch.cuda.device_count()) if args.gpus is None else args.gpus)
        machine = Machine(args.threads, args.niceness, gpus, args.data_dir, args.verify == "true")
        if args.list:
            print(listing(places.states(runs), places, machine, args.parallel))
            return 0
        with only_one(args.folder):
            return Queue(runs, places, machine, args.parallel, args.minutes and 60 * args.minutes).work()
    except UserError as mistake:
        print(mistake, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _now() -> str:
    return time.strftime("%H:%M:%S")


def _verb(state: State) -> str:
    """What a training that starts does."""
    if state.what == FINISHED:
        return "keeping its result"
    return f"going on after {state.epochs:.4g} epochs" if state.steps else "starting"


if __name__ == "__main__":
    sys.exit(main())
