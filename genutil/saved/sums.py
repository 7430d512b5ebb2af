"""The SHA-256 sum of a checkpoint, kept in the file: as the comment that ends its zip archive.

It is over all bytes before it, so that any change of the file shows; torch.load and other readers of zip pass over it.
Files of earlier versions have no comment.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from pretrained.archives import ZIP

BEGINNING = b"sha256:"
LENGTH = len(BEGINNING) + 64
"""Bytes of the comment."""
END = 22
"""Bytes of the record that ends an archive; the last two have the length of the comment that follows."""
SIGNATURE = b"PK\x05\x06"
CHUNK = 1 << 20


class _Summing:
    """A file that is written to, and the sum of what was written; the last two bytes are held back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sum = hashlib.sha256()
        self._held = b""

    def write(self, data: bytes) -> int:
        view = memoryview(data).cast("B")
        if len(view) >= 2:
            self._put(self._held)
            self._put(view[:-2])
            self._held = bytes(view[-2:])
        else:
            held = self._held + bytes(view)
            self._put(held[:-2])
            self._held = held[-2:]
        return len(view)

    def flush(self) -> None:
        """All that can be is written; what is held back waits for `finish`."""

    def finish(self) -> None:
        """End the archive with its sum."""
        self._put(struct.pack("<H", LENGTH))
        self._file.write(BEGINNING + self._sum.hexdigest().encode())

    def _put(self, data: bytes | memoryview) -> None:
        self._sum.update(data)
        self._file.write(data)


def write_summed(file: BinaryIO, write: Callable[[BinaryIO], object]) -> None:
    """Write an archive, one without a comment, and its sum behind it.

    Args:
        file: open for writing.
        write: writes the archive, in order, into the file that it is given.
    """
    summing = _Summing(file)
    write(summing)  # type: ignore[arg-type]
    summing.finish()


def check(path: Path) -> bool:
    """Compare a file with the sum that it ends with; whether it has one.

    Raises:
        ValueError: the file is not what was written, or an archive whose end is missing.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        zipped = file.read(len(ZIP)) == ZIP
        size = file.seek(0, 2)
        file.seek(max(size - END - LENGTH, 0))
        tail = file.read()
        comment = tail[-LENGTH:]
        if not comment.startswith(BEGINNING):
            end = tail[-END:]
            if zipped and not (end.startswith(SIGNATURE) and end.endswith(b"\0\0")):
                raise ValueError("its end is missing or damaged")
            return False
        file.seek(0)
        found, left = hashlib.sha256(), size - LENGTH
        while left:
            read = file.read(min(left, CHUNK))
            found.update(read)
            left -= len(read)
    if not zipped or comment != BEGINNING + found.hexdigest().encode():
        raise ValueError("its SHA-256 sum is not the one that was written into it")
    return True
