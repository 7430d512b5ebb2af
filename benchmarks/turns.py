"""Calls that are timed in turns, each in a process of its own.

Idle threads of a library spin for a while before they sleep, and slow down whatever runs next. So every call has a
process, which is stopped by a signal while others have their turn. POSIX only.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

Call = Callable[[], Any]
Make = Callable[[], Call]
"""Makes a call in the process that runs it; can be pickled."""

MOMENT = 0.03
"""Seconds of calls that do not count at the beginning of a turn, and about as many of those that do."""
PAUSE = 0.005
"""Seconds for a stopped process to be off the processor."""
PRELOADED = ("torch", "benchmarks.engine_columns")
"""What the process that all others are forked from imports, once."""


@dataclass(frozen=True)
class Cost:
    """What it takes to make a call: seconds, and MiB of memory held after its first run."""

    build_s: float
    memory_mib: float


class Turns:
    """Processes that wait, stopped, for their turns. A context manager: leaving it ends them.

    Args:
        makers: by the name of the column. One that raises, or whose process ends, is left out.

    Attributes:
        costs: of what was made, by name.
        left_out: why the others were not.
    """

    def __init__(self, makers: Mapping[str, Make]) -> None:
        self.costs: dict[str, Cost] = {}
        self.left_out: dict[str, str] = {}
        self._workers: dict[str, _Worker] = {}
        try:
            for name, make in makers.items():
                self._start(name, make)
        except BaseException:
            self.close()
            raise

    def _start(self, name: str, make: Make) -> None:
        worker = self._workers[name] = _Worker(name, make)
        try:
            answer = worker.answer()
        except ChildProcessError as error:
            answer = str(error)
        if isinstance(answer, Cost):
            self.costs[name] = answer
        else:
            self.left_out[name] = answer
            self._workers.pop(name).close()

    def take(self) -> dict[str, float]:
        """One turn of every call: seconds, the median of several in a row. Raises ChildProcessError where one ended."""
        return {name: worker.turn() for name, worker in self._workers.items()}

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _Worker:
    """A process that makes a call and times it when told to; stopped in between."""

    def __init__(self, name: str, make: Make) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        self.name = name
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make), daemon=True)
        self._process.start()
        theirs.close()

    def answer(self) -> Any:
        """What the process sends next; it is stopped then."""
        try:
            found = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise ChildProcessError(f"its process ended with status {self._process.exitcode}") from None
        self._signal(signal.SIGSTOP)
        time.sleep(PAUSE)
        return found

    def turn(self) -> float:
        self._signal(signal.SIGCONT)
        self._pipe.send(None)
        try:
            return self.answer()
        except ChildProcessError as error:
            raise ChildProcessError(f"{self.name}: {error}") from None

    def close(self) -> None:
        self._process.kill()  # a stopped process would not see a milder signal
        self._process.join()
        self._process.close()
        self._pipe.close()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, number)


def _serve(pipe: Connection, make: Make) -> None:
    """Sends the call's cost, or a sentence that says why there is none; then, whenever told to, the time of a call."""
    before, start = _resident(), time.perf_counter()
    try:
        call = make()
        seconds = time.perf_counter() - start
        call()
    except ModuleNotFoundError as error:
        return pipe.send(f"the package {error.name} is not installed")
    except Exception as error:  # whatever a foreign engine raises: the others are measured all the same
        return pipe.send(f"{type(error).__name__}: {error}")
    pipe.send(Cost(seconds, (_resident() - before) / 2**20))
    with suppress(EOFError):
        while True:
            pipe.recv()
            pipe.send(_turn(call))


def _turn(call: Call) -> float:
    """Seconds of a call: the median of several, after a moment of calls that do not count."""
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < MOMENT:
        call()
        calls += 1
    return statistics.median(_seconds(call) for _ in range(calls))


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _resident() -> int:
    """Bytes of memory that this process holds, without what it has freed (0 where the system does not tell)."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    if len(values) < 2:
        return {"median": values[0], "low": values[0], "high": values[0]}
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}
