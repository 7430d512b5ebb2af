"""Files that a run can do without: where one cannot be written that is told once, and the run goes on."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Sink(Generic[T]):
    """Something that is written to until that fails.

    Args:
        what: its name, for the person who is told.
        make: opens it.
        close: closes it.
    """

    def __init__(self, what: str, make: Callable[[], T], close: Callable[[T], object]) -> None:
        self._what = what
        self._close = close
        self._open: T | None = None
        try:
            self._open = make()
        except Exception as error:
            self._tell(error)

    def write(self, write: Callable[[T], object]) -> None:
        """Write to it; does nothing where that has failed before."""
        if self._open is None:
            return
        try:
            write(self._open)
        except Exception as error:  # TensorBoard raises whatever its thread met
            self._tell(error)
            self.close()

    def close(self) -> None:
        """Close it, once."""
        target, self._open = self._open, None
        if target is not None:
            try:
                self._close(target)
            except Exception as error:
                self._tell(error)

    def _tell(self, error: Exception) -> None:
        if self._what:
            reason = getattr(error, "strerror", None) or error
            sys.stderr.write(f"\n{self._what} cannot be written ({reason}): training goes on without.\n")
        self._what = ""


@contextmanager
def quiet_threads(module: str) -> Iterator[None]:
    """Within it what ends a thread of a library is not printed: the library hands it to its caller as well.

    Args:
        module: the beginning of the name of the module that the thread's class is of.
    """
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not type(arguments.thread).__module__.startswith(module):
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
