"""Ctrl-C and the like: a request to stop at the next point where the run can be saved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""What asks a run to stop: Ctrl-C; schedulers and systemd; a terminal that closes; SLURM before its time limit."""


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop and stands where it can be saved; says where it was saved once that is done.

    Args:
        number: of the signal that asked.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(number)
        self.number = number

    @property
    def status(self) -> int:
        """The exit status: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + self.number


class StopRequest:
    """Turns signals into a request, and a second Ctrl-C into an immediate KeyboardInterrupt.

    Other signals may come as often as they like: one that is sent to a group of processes is heard from several.

    To be used as a context: the handlers of before come back at its end. Outside the main thread, where Python allows
    no handlers, nothing is ever requested.

    Args:
        signals: those listened to; SIGHUP not where it is ignored already, as under nohup.
        first: called at the first signal.
        second: called at a second Ctrl-C, before KeyboardInterrupt is raised; None where that does no more than the
            first.

    Attributes:
        number: of the first signal that came; 0 where none did.
    """

    def __init__(
        self,
        signals: Sequence[int] = STOP_SIGNALS,
        first: Callable[[], None] = lambda: None,
        second: Callable[[], None] | None = lambda: None,
    ) -> None:
        self.number = 0
        self._signals = signals
        self._first = first
        self._second = second
        self._ctrl_c = False
        self._before: dict[int, Any] = {}
        self._owner = os.getpid()

    @property
    def requested(self) -> bool:
        """Whether a signal came."""
        return self.number != 0

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            heard = [number for number in self._signals if number != signal.SIGHUP or not ignored]
            self._before = {number: signal.signal(number, self._handle) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._owner:
            _as_a_forked_worker(number)
            return
        if number == signal.SIGINT and self._ctrl_c and self._second is not None:
            self._second()
            raise KeyboardInterrupt
        self._ctrl_c = self._ctrl_c or number == signal.SIGINT
        if not self.requested:
            self.number = number
            self._first()


def announce() -> None:
    """Say on standard error that the request was heard. Safe in a signal handler."""
    with suppress(OSError):  # nobody reads it
        os.write(2, b"\nStopping as soon as the run can be saved; Ctrl-C once more to stop at once.\n")


def _as_a_forked_worker(number: int) -> None:
    """Data workers inherit the handlers: Ctrl-C is their parent's business, and they end by any other signal."""
    if number != signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
