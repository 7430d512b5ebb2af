"""The files of images: which ones a class folder has, and opening them without waiting for what is no file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of the names that are taken for images, as torchvision takes them."""
MAX_IMAGE_PIXELS = 89_478_485
"""Pixels of the largest image that is decoded where nothing else is asked for: where Pillow begins to warn."""
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def is_image_name(name: str) -> bool:
    """Whether a file's name is that of an image, and not hidden."""
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def open_regular(path: str | Path) -> BinaryIO:
    """A regular file for reading. Raises OSError where it cannot be opened, ValueError where it is something else."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe without a writer would wait
    try:
        _require_regular(path, os.fstat(descriptor).st_mode)
    except ValueError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _require_regular(path: str | Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is {_KINDS.get(stat.S_IFMT(mode), 'a folder')}, not a regular file")


def image_files(folder: Path) -> list[str]:
    """The paths, from a class folder, of all images in it and in the folders in it, sorted by folder, then by name.

    Links are followed, but each real file is listed once, and a link to a folder that holds it is left alone, so that
    a loop repeats nothing. A link to a file that is not there is listed, to be told of when it is read.
    Raises ValueError where something with the name of an image is no file.
    """
    real = os.path.realpath(folder)
    return [os.path.join(*place) for place in sorted(_Walk().images(str(folder), "", real, (real,)))]  # noqa: PTH118


class _Walk:
    """Through a class folder: every real folder and every real file once."""

    def __init__(self) -> None:
        self._folders: set[str] = set()
        self._files: set[str] = set()

    def images(self, folder: str, place: str, real: str, holders: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """Folder and name of each image.

        place: the folder as seen from the class folder. real: its real path. holders: those on the way to it, and it.
        """
        if real in self._folders:
            return
        self._folders.add(real)
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: (entry.is_symlink(), entry.name))
        for entry in entries:
            path, link = entry.path, entry.is_symlink()
            target = os.path.realpath(path) if link else os.path.join(real, entry.name)  # noqa: PTH118
            if Path(path).is_dir() if link else entry.is_dir():
                if not any(_holds(target, holder) for holder in holders):
                    inside = os.path.join(place, entry.name)  # noqa: PTH118
                    yield from self.images(path, inside, target, (*holders, target))
            elif is_image_name(entry.name) and target not in self._files:
                if Path(path).exists() if link else not entry.is_file():
                    _require_regular(path, entry.stat().st_mode)
                self._files.add(target)
                yield place, entry.name


def _holds(folder: str, other: str) -> bool:
    """Whether `other` is the folder itself, or lies in it; both are real paths."""
    return other == folder or other.startswith(folder.rstrip(os.sep) + os.sep)
