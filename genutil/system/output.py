"""What is printed: a full disk or a reader that has gone does not end what takes hours."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

MAY_PASS = (errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.EINTR)
"""Errors after which a stream may take text again."""


class _Tolerant:
    """A stream of text that drops what it cannot write. Once nobody reads it any more it leads nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def settle(self) -> None:
        """Write what is left, or give it up, so that Python does not fail at its end for it."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._lead_nowhere()

    def _try(self, act: Any) -> None:
        try:
            act()
        except OSError as error:
            if error.errno not in MAY_PASS:
                self._lead_nowhere()
        except ValueError:  # it was closed
            pass

    def _lead_nowhere(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def unbreakable() -> Iterator[None]:
    """Within it printing to standard output and standard error never raises."""
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123  # for streams that were closed before Python began
        streams = [_Tolerant(stream or nowhere) for stream in before]
        sys.stdout, sys.stderr = (cast("TextIO", stream) for stream in streams)
        try:
            yield
        finally:
            for stream in streams:
                stream.settle()
            sys.stdout, sys.stderr = before
