"""Ctrl-C and the like: a request to stop at the next point where the run can be saved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop and stands where it can be saved; says where it was saved once that is done."""


class StopRequest:
    """Turns a first signal into a request, and a second one of the same kind into an immediate KeyboardInterrupt.

    To be used as a context: the handlers of before come back at its end. Outside the main thread, where Python allows
    no handlers, nothing is ever requested.

    Args:
        signals: those listened to.
        first: called at the first signal.
        second: called at a second one, before KeyboardInterrupt is raised.

    Attributes:
        requested: whether a signal came.
    """

    def __init__(
        self,
        signals: Sequence[int] = (signal.SIGINT, signal.SIGTERM),
        first: Callable[[], None] = lambda: None,
        second: Callable[[], None] = lambda: None,
    ) -> None:
        self.requested = False
        self._signals = signals
        self._first = first
        self._second = second
        self._seen: set[int] = set()
        self._before: dict[int, Any] = {}
        self._owner = os.getpid()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in self._signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._owner:
            _as_a_forked_worker(number)
        elif number in self._seen:
            self._second()
            raise KeyboardInterrupt
        else:
            self._seen.add(number)
            if not self.requested:
                self.requested = True
                self._first()


def announce() -> None:
    """Say on standard error that the request was heard. Safe in a signal handler."""
    os.write(2, b"\nStopping as soon as the run can be saved; once more to stop at once.\n")


def _as_a_forked_worker(number: int) -> None:
    """Data workers inherit the handlers: Ctrl-C is their parent's business, and they end by any other signal."""
    if number != signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
