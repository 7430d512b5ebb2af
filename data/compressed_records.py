"""TFRecord files that TensorFlow compressed (GZIP, ZLIB): inflated once, beside them, to be read at any place."""

from __future__ import annotations

import errno
import os
import re
import struct
import tempfile
import zlib
from functools import cache
from pathlib import Path

from data.checksums import masked_crc32c
from data.image_files import open_regular

MOST_TIMES = 100
"""How many times its size a file may inflate to; images do not compress further."""
CHUNK = 1 << 20
POINTER = b"version https://git-lfs"
PAGE = re.compile(rb"\s*(<!doctype|<html|<\?xml|<head|<body)", re.IGNORECASE)


def plain_file(path: Path) -> Path:
    """The file itself, or what it inflates to: beside it, or in a temporary folder where that may not be written.

    Raises:
        ValueError: it is damaged, or inflates too far; or it is a pointer of Git LFS or a web page.
        OSError: it cannot be read, or what it inflates to cannot be written.
    """
    with open_regular(path) as file:
        start = file.read(512)
    if start.startswith(POINTER):
        raise ValueError(f"{path} is a pointer of Git LFS and no TFRecord file; `git lfs pull` fetches the records")
    if PAGE.match(start):
        raise ValueError(f"{path} is a web page and no TFRecord file; fetch the file that it links to")
    if not _is_compressed(start):
        return path
    stat = path.stat()
    name = f".{path.name}.{stat.st_size}-{stat.st_mtime_ns}.plain"
    if (path.parent / name).is_file():
        return path.parent / name
    try:
        return _inflated(path, path.parent / name)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return _inflated(path, Path(_temporary_folder().name) / f"{abs(hash(str(path.resolve())))}{name}")


def _is_compressed(start: bytes) -> bool:
    """Whether a file begins as gzip or zlib do, and not with the length of a record and its checksum."""
    if len(start) >= 12 and masked_crc32c(start[:8]) == struct.unpack_from("<I", start, 8)[0]:
        return False
    return start[:2] == b"\x1f\x8b" or (start[:1] == b"x" and int.from_bytes(start[:2], "big") % 31 == 0)


def _inflated(path: Path, target: Path) -> Path:
    most = MOST_TIMES * path.stat().st_size
    descriptor, temporary = tempfile.mkstemp(prefix=f"{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as out, open_regular(path) as file:
            inflater, written = zlib.decompressobj(wbits=47), 0
            while data := file.read(CHUNK):
                pending = True
                while data or pending:
                    inflated = inflater.decompress(data, CHUNK)
                    written += out.write(inflated)
                    if written > most:
                        raise ValueError(f"{path} inflates to more than {MOST_TIMES} times its size, as no images do")
                    data, pending = inflater.unconsumed_tail, len(inflated) == CHUNK
                    if inflater.eof:  # files may be put one behind the other
                        data, pending = inflater.unused_data, False
                        inflater = zlib.decompressobj(wbits=47) if data else inflater
            if not inflater.eof:
                raise ValueError(f"{path} is cut short: its compressed contents have no end")
        Path(temporary).replace(target)
    except zlib.error as error:
        raise ValueError(f"{path} is damaged: its compressed contents cannot be read ({error})") from error
    finally:
        Path(temporary).unlink(missing_ok=True)
    return target


@cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Gone when the program ends."""
    return tempfile.TemporaryDirectory(prefix="records-")
