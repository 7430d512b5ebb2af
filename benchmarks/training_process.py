"""The processes that train for a queue, and the lock that keeps two queues apart."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.training_queue import Run
from benchmarks.training_state import DONE, FINISHED, Places, State
from genutil.errors import UserError

RUNNER = Path(__file__).resolve().parents[1] / "runner.py"
SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""

GRACE = 300
"""Seconds that a process has to save once it was asked to stop."""


@dataclass(frozen=True)
class Machine:
    """How a queue uses its machine: threads of each process, niceness, GPUs, and where the data are."""

    threads: int | None = None
    niceness: int = 0
    gpus: tuple[int, ...] = ()
    data_dir: str | None = None
    verify: bool = True

    def words(self, slot: int) -> list[str]:
        """Of the command line of the process in a slot."""
        words = ["--gpus", str(self.gpus[slot % len(self.gpus)]) if self.gpus else "[]"]
        words += ["--threads", str(self.threads)] if self.threads else []
        words += ["--data_dir", self.data_dir] if self.data_dir else []
        return words if self.verify else [*words, "--verify", "false"]


def command(state: State, places: Places, machine: Machine, slot: int = 0) -> list[str]:
    """The command that trains a run of the queue, from its beginning or from its checkpoint, and keeps its result."""
    run = state.run
    words = [sys.executable, str(RUNNER)]
    if state.checkpoint is None:
        words.append(f"app:{run.entry.experiment}")
        for key, value in run.entry.stated(run.seed, places.checkpoints).items():
            words += [f"--{key}", *_spelt(value)]
    else:
        words += ["--resume", str(state.checkpoint), "--experiment", run.entry.experiment]
        words += ["--evaluate"] if state.what == FINISHED else []
    words += ["--name", run.name, "--save_dir", str(places.checkpoints), "--log_dir", str(places.folder / "logs")]
    return [*words, "--results_dir", str(places.results), *machine.words(slot)]


def _spelt(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(part) for part in value] or ["[]"]
    return ["none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)]


def waits_for(run: Run, places: Places, machine: Machine) -> str | None:
    """What a training waits for before it can start, in words; None where it can."""
    if run.entry.device not in (None, "gpu" if machine.gpus else "cpu"):
        return "waits for a GPU" if run.entry.device == "gpu" else "for a CPU alone"
    if run.entry.after is None:
        return None
    before = Run(run.entry.after, run.seed)
    (state,) = places.states([before])
    return None if state.what in (DONE, FINISHED) else f"waits for {before.name}"


class Training:
    """A process that trains a run; it is asked to stop where the queue dies.

    Args:
        state: of the run.
        places: of the queue.
        machine: of the queue.
        slot: of the queue, counted from 0.
    """

    def __init__(self, state: State, places: Places, machine: Machine, slot: int) -> None:
        self.run: Run = state.run
        self.slot = slot
        self._asked: float | None = None
        output = places.folder / "output" / f"{self.run.name}.txt"
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = places.checkpoints / self.run.name
        if state.checkpoint is None and folder.is_dir() and not list(folder.rglob("*.pt")):
            shutil.rmtree(folder)  # a run was ended there before it had a checkpoint
        self._output: IO[bytes] = output.open("ab")
        self._begin = self._output.tell()
        self._path = output
        self._process = subprocess.Popen(
            command(state, places, machine, slot),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONUNBUFFERED": "1"},
            preexec_fn=_preparation(machine.niceness),
        )

    @property
    def process(self) -> int:
        return self._process.pid

    def ended(self) -> int | None:
        """The exit status, or None while it runs; it is killed where it does not stop for long."""
        if self._asked is not None and time.monotonic() - self._asked > GRACE:
            self._process.kill()
        status = self._process.poll()
        if status is not None:
            self._output.close()
        return status

    def stop(self) -> None:
        """Ask it to save and stop; once."""
        if self._asked is None:
            self._asked = time.monotonic()
            self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def last_line(self) -> str:
        """The last line that it wrote, for a person who wants to know why it failed."""
        with self._path.open("rb") as file:
            file.seek(self._begin)
            text = file.read().decode(errors="replace")
        lines = [line.rpartition("\r")[2].strip() for line in text.splitlines()]
        return next((line for line in reversed(lines) if line), "it wrote nothing")


def _preparation(niceness: int) -> Any:
    """What a process does before it runs the command: it takes its niceness, and its parent's death as a signal."""
    parent = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        os.nice(niceness)
        libc.prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(0)  # the queue died before it could be heard

    return prepare


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Within it no other queue works in the folder. The lock goes with its process, however that ends.

    Raises:
        UserError: another queue works there, or the folder cannot be made.
    """
    path = folder / "queue.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(f"Another queue works in {folder}: process {file.read().strip() or 'unknown'}.") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
