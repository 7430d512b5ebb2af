"""The form of a file of weights, told before anything in it is read: PyTorch's archive, its older form, or neither."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ZIP = b"PK\x03\x04"
OLD = bytes.fromhex("8a0a6cfc9c46f9206aa85019")
"""A number near the beginning of what torch.save wrote before version 1.6, as it is pickled."""
POINTER = b"version https://git-lfs"
PAGE = re.compile(rb"\s*(<!doctype|<html|<\?xml|<head|<body)", re.IGNORECASE)
MEMBER = re.compile(r"data\.pkl|data/\w+|version|byteorder|\..+")
"""What torch.save writes into an archive, behind the name of its one folder."""
TORCHSCRIPT = re.compile(r"code/.*|constants\.pkl|constants/.*|model\.json|attributes\.pkl|bytecode.*|.*\.py")
CHUNK = 1 << 20


def is_zip(path: Path) -> bool:
    """Whether a file has the form that torch.save writes today: a zip archive.

    Raises:
        ValueError: it is empty, a pointer of Git LFS, a web page, or has neither this form nor the older one.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise ValueError(f"{path} is empty.")
    if start.startswith(POINTER):
        raise ValueError(f"{path} is a pointer of Git LFS and not the weights; `git lfs pull` fetches them.")
    if PAGE.match(start):
        raise ValueError(f"{path} is a web page and not a checkpoint; fetch the file that it links to.")
    if start[257:262] == b"ustar":
        raise ValueError(f"{path} is a tar archive, not a PyTorch checkpoint.")
    if start.startswith(ZIP):
        return True
    if OLD not in start[:40]:
        raise ValueError(f"{path} cannot be read as a PyTorch checkpoint: it does not begin as one, or was cut off.")
    return False


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A PyTorch archive whose members are only what torch.save writes: a pickle and the bytes of tensors, uncompressed.

    Raises:
        ValueError: it is cut off or damaged; or a TorchScript archive, which holds code; or compressed, so that it may
            hold any amount; or another kind of archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive, path)
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged, or was cut off ({str(error).removesuffix('.')}).") from error


def check_sums(archive: zipfile.ZipFile) -> None:
    """Read all members of an archive, whose CRC-32 sums are checked by that.

    Raises:
        zipfile.BadZipFile: one is damaged.
    """
    for member in archive.infolist():
        with archive.open(member) as file:
            while file.read(CHUNK):
                pass


def _check(archive: zipfile.ZipFile, path: Path) -> None:
    members = archive.infolist()
    names = [member.filename.partition("/")[2] for member in members]
    if "data.pkl" not in names:
        raise ValueError(f"{path} is a zip archive, and not one of PyTorch.")
    if any(TORCHSCRIPT.fullmatch(name) for name in names):
        raise ValueError(f"{path} is a TorchScript archive, which holds code; save the model's state_dict() instead.")
    strange = [name for name in names if not MEMBER.fullmatch(name)]
    if strange:
        raise ValueError(f"{path} is damaged, or no checkpoint: torch.save writes no {strange[0]!r}.")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError(f"{path} is a compressed archive, which torch.save does not write; save it again with that.")
    if len(set(names)) < len(names) or sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError(f"{path} is damaged: its list of members does not fit them.")
