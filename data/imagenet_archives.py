"""ImageNet's archives (ILSVRC2012), read in place: a tar archive of tar archives, and one of images."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data.record_makers import Photographs

TRAIN_ARCHIVE, VALIDATION_ARCHIVE = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
VALIDATION_LABELS = "synset_labels.txt"


class _Slice(io.RawIOBase):
    """A stretch of a file as a file of its own."""

    def __init__(self, path: Path, offset: int, length: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._offset, self._length, self._place = offset, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._length}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        length = max(0, min(len(buffer), self._length - self._place))
        data = os.pread(self._file.fileno(), length, self._offset + self._place)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _members(path: Path, offset: int, length: int) -> Iterator[tuple[str, int, int]]:
    """Name, offset in the whole file, and length of every file of a tar archive that is a part of a file."""
    part = _Slice(path, offset, length)
    try:
        with io.BufferedReader(part) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.isfile():
                    yield Path(member.name).name, offset + member.offset_data, member.size
    except tarfile.TarError as error:
        raise ValueError(f"{path} is damaged, or no tar archive ({error})") from error


def _whole(path: Path) -> Iterator[tuple[str, int, int]]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}")
    return _members(path, 0, path.stat().st_size)


def training_archive(path: Path, progress: bool = True) -> Photographs:
    """ImageNet's training archive: a tar archive a class, each named after its WNID; classes in their order."""
    names, labels, places = [], [], []
    classes = sorted((name, offset, length) for name, offset, length in _whole(path) if name.endswith(".tar"))
    if not classes:
        raise ValueError(f"{path} has no archives of classes, such as n01440764.tar")
    for label, (_, offset, length) in enumerate(tqdm(classes, desc=f"listing {path.name}", disable=not progress)):
        for name, place, size in sorted(_members(path, offset, length)):
            names.append(name)
            labels.append(label)
            places.append((place, size))
    return Photographs(names, labels, [name.removesuffix(".tar") for name, _, _ in classes], path, places)


def validation_archive(path: Path, labels_path: Path, synsets: Sequence[str]) -> Photographs:
    """ImageNet's validation archive; `labels_path` has a line with the WNID of each image, in the order of names."""
    if not labels_path.is_file():
        raise FileNotFoundError(f"there is no {labels_path}")
    found = sorted(_whole(path))
    lines = labels_path.read_text(encoding="utf-8").split()
    if len(lines) != len(found):
        raise ValueError(f"{labels_path} has {len(lines)} labels for the {len(found)} images of {path.name}")
    numbers = {synset: label for label, synset in enumerate(synsets)}
    if unknown := [line for line in lines if line not in numbers]:
        raise ValueError(f"{labels_path} names {unknown[0]}, which {TRAIN_ARCHIVE} has no class of")
    names, places = [name for name, _, _ in found], [(offset, length) for _, offset, length in found]
    return Photographs(names, [numbers[line] for line in lines], synsets, path, places)
