"""Keeps the checkpoints of a run: in which order they are written, and what happens where a disk refuses."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from genutil.saved import checkpoints
from genutil.system.files import WriteError

MOST_WAITING = 2
"""Checkpoints beside last.pt that are kept in memory at most while the disk refuses them."""


class Keeper:
    """Writes the checkpoints of a run into its folder, last.pt behind all others, so that what it tells of exists.

    A training does not end because a disk is full, read-only or gone: what could not be written is told, and tried
    again with the next checkpoint. last.pt is then that of the later state; of the others the contents are kept in
    memory, the newest `MOST_WAITING` of them.

    Args:
        folder: of the checkpoints; None in all processes but the first, which write nothing.
        contents: gives what a checkpoint of the present state holds (`checkpoints.contents`).
        say: prints a line.
    """

    def __init__(
        self, folder: Path | None, contents: Callable[[], Mapping[str, Any]], say: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._contents = contents
        self._say = say
        self._waiting: dict[str, Mapping[str, Any]] = {}
        self._last_failed = False

    def save(self, *names: str) -> None:
        """Write checkpoints of the present state, and those that could not be written before."""
        if self._folder is None:
            return
        contents = self._contents()
        self._retry(names)
        for name in names:
            if name != "last" and not self._written(name, contents, "It"):
                self._wait(name, contents)
        if "last" in names:
            self._last_failed = not self._written("last", contents, "A later one")

    def end(self) -> None:
        """Write what is still to be written, at the end of a run.

        Raises:
            WriteError: last.pt cannot be written.
        """
        if self._last_failed:
            self.require_last()
        else:
            self._retry(())

    def require_last(self) -> None:
        """Write last.pt of the present state, and the others that could not be written before.

        Raises:
            WriteError: it cannot be written.
        """
        if self._folder is None:
            return
        self._retry(())
        path = self._folder / "last.pt"
        try:
            checkpoints.write(path, self._contents())
        except WriteError as error:
            kept = f" What was written there before is as it was: go on with --resume {path}." if path.exists() else ""
            raise WriteError(f"{error}{kept}") from error
        self._last_failed = False

    def _retry(self, names: tuple[str, ...]) -> None:
        """Write what waits, but for these names, of which there are later contents."""
        for name in [name for name in self._waiting if name not in names]:
            self._written(name, self._waiting[name], "It")

    def _wait(self, name: str, contents: Mapping[str, Any]) -> None:
        self._waiting.pop(name, None)
        self._waiting[name] = _copied(contents)
        while len(self._waiting) > MOST_WAITING:
            given_up = next(iter(self._waiting))
            del self._waiting[given_up]
            self._say(f"{given_up}.pt is given up: the disk has refused later ones too.")

    def _written(self, name: str, contents: Mapping[str, Any], what: str) -> bool:
        assert self._folder is not None
        try:
            checkpoints.write(self._folder / f"{name}.pt", contents)
        except WriteError as error:
            self._say(f"{error} {what} is tried with the next checkpoint; training goes on.")
            return False
        self._waiting.pop(name, None)
        return True


def _copied(contents: Mapping[str, Any]) -> dict[str, Any]:
    """The same in the memory of the processor, whatever becomes of the tensors."""
    buffer = io.BytesIO()
    torch.save(dict(contents), buffer)
    buffer.seek(0)
    return torch.load(buffer, map_location="cpu", weights_only=True)
