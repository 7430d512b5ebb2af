"""The checkpoints of a run, each opened once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genutil.saved.source import Source


class Sources:
    """The checkpoints of a run by their names, each opened when it is first asked for.

    What was read is kept until `forget`. Another process gets none of it, and opens its own.
    """

    def __init__(self) -> None:
        self._opened: dict[str, Source] = {}

    def __reduce__(self) -> tuple[Callable[[], Sources], tuple[()]]:
        return Sources, ()

    def open(self, name: str | Path) -> Source:
        """The checkpoint of that name.

        Raises:
            UserError: no such file, a damaged one, or no published network of that name.
        """
        from genutil.saved.source import open_source  # imports torch, which mistakes in settings are told without

        place = os.path.realpath(name)
        if place not in self._opened:
            self._opened[place] = open_source(name)
        return self._opened[place]

    def forget(self) -> None:
        """Let go of what was read: from now on the files may change."""
        self._opened.clear()
