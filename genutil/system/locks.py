"""One run a folder: a lock that goes with the process that holds it, however that ends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

from genutil.errors import UserError

LOCK = ".lock"
"""The file of a folder's lock. It says which process holds it, or held it last."""

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems answer that have no locks."""


class FolderInUseError(UserError):
    """Another process writes into the folder."""


class FolderLock:
    """The right to write into a folder, until it is released or the process ends (flock(2)).

    Args:
        folder: exists.
        job: what the process belongs to (`genutil.system.jobs.job`), for those that come after it.

    Raises:
        FolderInUseError: another process has it.
        UserError: the file system refuses to make the file.
    """

    def __init__(self, folder: Path, job: str | None = None) -> None:
        self.folder = folder
        self._path = folder / LOCK
        try:
            self._file = self._locked()
            with suppress(OSError):  # on a full disk the lock still holds
                self._note({"process": os.getpid(), "host": platform.node(), "job": job})
        except BlockingIOError:
            raise FolderInUseError(f"{folder} is in use: {_holder(folder)} trains there.") from None
        except OSError as error:
            raise UserError(f"Cannot write {self._path}: {error.strerror or error}.") from error

    def release(self, keep_note: bool = False) -> None:
        """Give the folder free; the file goes, unless its note is to be found by those that come after."""
        if self._file < 0:
            return
        if not keep_note:
            with suppress(OSError):  # while it is locked, so that nobody locks a file that is gone
                self._path.unlink()
        os.close(self._file)
        self._file = -1

    def _locked(self) -> int:
        """A descriptor of the file that has its name once it is locked: a holder before may just have removed it."""
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            try:
                lock(file)
                if os.path.samestat(os.fstat(file), self._path.stat()):
                    return file
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _note(self, note: dict[str, Any]) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(note).encode(), 0)


def lock(file: int) -> None:
    """Lock an open file, where its file system has locks.

    Raises:
        BlockingIOError: another process has it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise


def note(folder: Path) -> dict[str, Any]:
    """What the file of a folder's lock says: `process`, `host` and `job`; nothing where there is none."""
    try:
        found = json.loads((folder / LOCK).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _holder(folder: Path) -> str:
    found = note(folder)
    return (
        f"process {found['process']} on {found['host']}" if {"process", "host"} <= found.keys() else "another process"
    )
