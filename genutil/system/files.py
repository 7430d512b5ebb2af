"""Where a run's files go, and how they are written: whole or not at all."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from genutil.errors import UserError, shortened
from genutil.system.locks import lock

TEMPORARY = re.compile(r"\..+\.\d+\.tmp")
"""Names of files that are being written (`write_whole`)."""


class WriteError(UserError):
    """A file cannot be written; what had its name before is as it was."""


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name in its folder, then rename it.

    Whatever fails on the way, a file that already had the name stays as it was. Only a regular file is replaced: what
    a link leads to is written in its place, and a device or a pipe is written to.

    Args:
        path: the file's final name; its folder exists.
        write: writes the contents to the open file it is given.

    Raises:
        WriteError: the file system refuses (no space, no permission, no such folder).
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                _write(file, write)
            return
        _replace(path.resolve() if path.is_symlink() else path, write)
    except OSError as error:
        raise WriteError(f"Cannot write {path}: {error.strerror or error}.") from error


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # of a dead process that had this number
    try:
        with temporary.open("xb") as file:  # never through a link that somebody has put there
            lock(file.fileno())  # so that others see that its writer lives
            _write(file, write)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # what went wrong before is told
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


class _Recorded:
    """A file that remembers the first error of the system: torch and others raise one of their own over it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _write(file: BinaryIO, write: Callable[[BinaryIO], object]) -> None:
    recorded = _Recorded(file)
    try:
        write(recorded)  # type: ignore[arg-type]  # it has all that a file has
    except Exception as error:
        if recorded.error is not None and recorded.error is not error:
            raise recorded.error from error
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove what dead processes were writing into a folder, or one in it; files of living ones stay."""
    for path in folder.rglob(".*.tmp"):
        if not TEMPORARY.fullmatch(path.name):
            continue
        with suppress(OSError):  # gone meanwhile, of a living process, or not ours to remove
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                lock(file)
                path.unlink()
            finally:
                os.close(file)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole (`write_whole`)."""
    write_whole(path, lambda file: file.write(text.encode()))


def write_texts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write text files by their paths within a folder; it and those between are made. The files' paths, in order.

    Raises:
        UserError: the file system refuses.
    """
    paths = [folder / name for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"Cannot make the folder {path.parent}: {error.strerror or error}.") from error
        write_text(path, text)
    return paths


def require_place(path: Path) -> None:
    """See to it that a file can have that name.

    Raises:
        UserError: it is a folder, or there is none to hold it, or it may not be written to.
    """
    try:
        if path.is_dir() or not path.parent.is_dir():
            raise UserError(f"{path} cannot be written: it is a folder, or there is no folder to hold it.")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise UserError(f"{path} cannot be written: permission denied.")
    except OSError as error:  # a name that no file can have
        raise UserError(f"{shortened(path)} cannot be written: {error.strerror}.") from None


def require_folder_place(folder: Path) -> None:
    """See to it that a folder can be made, or is there and can be written to.

    Raises:
        UserError: a part of its path is a file, or may not be written to.
    """
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not there.is_dir():
            raise UserError(f"Cannot make the folder {folder}: {there} is a file.")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UserError(f"Cannot make the folder {folder}: permission denied.")
    except OSError as error:
        raise UserError(f"Cannot make the folder {shortened(folder)}: {error.strerror}.") from None


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON that every parser reads: numbers that are not finite become null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def claim_folder(parent: Path, name: str) -> Path:
    """A folder of this run alone: parent/name, or parent/name-2, -3 … where another run's files lie.

    It exists afterwards.

    Raises:
        UserError: it cannot be made.
    """
    for number in count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if folder.is_dir() and not any(folder.iterdir()):
                return folder
        except OSError as error:
            raise UserError(f"Cannot make the folder {folder}: {error.strerror or error}.") from error
    raise AssertionError("unreachable: count() does not end")


def claim_log_folder(parent: Path, name: str) -> Path:
    """The folder parent/name-TIME of this run's logs. It exists afterwards."""
    return claim_folder(parent, f"{name}-{time.strftime('%Y-%m-%d_%H-%M-%S')}")


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
