"""Data sets in TFRecord files: raw pixels with a label, or encoded photographs in ImageNet's form.

Two forms of tf.train.Example are read. Raw: `height`, `width`, `label` int64, `image/raw` uint8 [height, width,
channels]. Encoded: `image/encoded` JPEG or PNG, `image/class/label` int64 counted from 1, 0 being the background.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from data.augmentation import Augmentation, PadCropFlip, ResizedCropFlip
from data.compressed_records import plain_file
from data.decoding import MODES, decode
from data.folders import PackedNames
from data.image_files import MAX_IMAGE_PIXELS
from data.record_descriptions import SHARD, Description, description
from data.record_files import HEAD, Frame, find_int, frames, parse, read_record
from data.sources import Images, ImageSet, MemoryImages, Request, UnreadableImageError
from data.statistics import IMAGENET

Form = Literal["raw", "encoded"]
LABELS: dict[bytes, Form] = {b"label": "raw", b"image/class/label": "encoded"}
TRAIN, TEST = ("train",), ("validation", "val", "test")
ENDING = re.compile(r".*\.tfrecords?(\.(gz|zlib|zz))?")
MOST_CLASSES = 100_000
MEMORY_BYTES = 4 * 2**30
"""Raw images of one size are kept in memory up to so many bytes; more, or others, are read one at a time."""


@dataclass(frozen=True)
class Index:
    """Where every record of some files lies: file and label int64 [records], frame int64 [records, 2]."""

    files: tuple[Path, ...]
    form: Form
    file: np.ndarray
    frame: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


def record_files(place: Path, names: Sequence[str] = ()) -> list[Path]:
    """The record files that `place` means, sorted: itself, those in a folder, or those that match it as a pattern.

    In a folder: every file named *.tfrecord or *.tfrecords or <name>-00000-of-00008, for each of `names` where given.
    Raises ValueError where these are no whole set of files, or more than one.
    """
    if place.is_file():
        return [place]
    if place.is_dir():
        found = sorted(path for path in place.iterdir() if path.is_file() and _is_record_file(path.name, names))
        _check_one_set(place, found)
        return found
    matching = place.parent.glob(place.name) if place.parent.is_dir() else ()
    return sorted(path for path in matching if path.is_file() and not path.name.startswith("."))


def _is_record_file(name: str, names: Sequence[str]) -> bool:
    if name.startswith("."):
        return False
    own = name.startswith(tuple(names)) if names else True
    return own and (ENDING.fullmatch(name) is not None or SHARD.fullmatch(name) is not None)


def _check_one_set(folder: Path, files: Sequence[Path]) -> None:
    shards = [SHARD.fullmatch(path.name) for path in files]
    kinds = [shard.group("name", "shards", "suffix") if shard else () for shard in shards]
    sets = {kind: path.name for kind, path in zip(kinds, files, strict=True)}
    if len(sets) > 1:
        one, other, *_ = sets.values()
        raise ValueError(f"{folder} holds two sets of files: {one} and {other} belong to different ones")
    if not any(sets):
        return
    name, count, suffix = kinds[0]
    there = {int(shard["shard"]) for shard in shards if shard}
    missing = next((number for number in range(int(count)) if number not in there), None)
    if missing is not None:
        raise ValueError(f"{folder} lacks {name}-{missing:05d}-of-{count}{suffix}: its conversion was not finished")


def holds_records(folder: Path) -> bool:
    """Whether a data set's folder is one of records: train and test files in it, or in folders of those names."""
    return bool(_split(folder, TRAIN)) and bool(_split(folder, TEST))


def _split(folder: Path, names: Sequence[str]) -> list[Path]:
    for name in names:
        found = record_files(folder / name) if (folder / name).is_dir() else []
        if found := found or (record_files(folder, [name]) if folder.is_dir() else []):
            return found
    return []


def make_index(files: Sequence[Path]) -> Index:
    """Find the records of some files and their labels. Raises ValueError where one is damaged, or has no label.

    Compressed files are inflated first (`data.compressed_records`).

    It is kept beside the first file, where that is allowed, and made anew when a file has changed.
    """
    cache = files[0].parent / f".{files[0].name}.index.npz"
    files = [plain_file(path) for path in files]
    stamp = json.dumps([[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files])
    with suppress(OSError, ValueError, KeyError, EOFError, BadZipFile), np.load(cache, allow_pickle=False) as kept:
        if str(kept["stamp"]) == stamp:
            return Index(tuple(files), cast(Form, str(kept["form"])), kept["number"], kept["frame"], kept["label"])
    index = _read_index(files)
    _keep(cache, stamp, index)
    return index


def _keep(cache: Path, stamp: str, index: Index) -> None:
    temporary = cache.with_name(f"{cache.name}.{os.getpid()}.tmp.npz")
    arrays: dict[str, Any] = {"form": index.form, "number": index.file, "frame": index.frame, "label": index.label}
    with suppress(OSError):
        try:
            np.savez(temporary, stamp=stamp, **arrays)
            temporary.replace(cache)
        finally:
            temporary.unlink(missing_ok=True)


def _read_index(files: Sequence[Path]) -> Index:
    key, where, found, labels = None, [], [], []
    for number, path in enumerate(files):
        for frame, data in frames(path):
            try:
                key = key or next((key for key in LABELS if find_int(data, key) is not None), None)
                label = find_int(data, key) if key else None
            except ValueError as error:
                raise ValueError(f"{path}: the record at byte {frame.offset - HEAD} is damaged: {error}") from error
            if label is None:
                wanted = " or ".join(name.decode() for name in ([key] if key else LABELS))
                raise ValueError(f"{path}: the record at byte {frame.offset - HEAD} has no integer {wanted}")
            where.append(number)
            found.append(frame)
            labels.append(label)
    if key is None or not labels:
        raise ValueError(f"{files[0]} holds no records" + (f", nor do {len(files) - 1} others" if files[1:] else ""))
    frame_array = np.array(found, dtype=np.int64).reshape(-1, 2)
    return Index(tuple(files), LABELS[key], np.array(where), frame_array, np.array(labels, dtype=np.int64))


class RecordImages:
    """A `Source`: the images of some record files, in their order; raw ones as they are where `channels` is 0.

    Encoded ones of more than `max_pixels` are not decoded.
    """

    def __init__(self, index: Index, channels: int, label_offset: int, max_pixels: int = MAX_IMAGE_PIXELS) -> None:
        self.channels = channels
        self.max_pixels = max_pixels
        self.form = index.form
        self.labels = torch.from_numpy(index.label) - label_offset
        self._names = PackedNames([str(path) for path in index.files])
        self._file = torch.from_numpy(index.file)
        self._frame = torch.from_numpy(index.frame)

    def decode(self, index: int) -> Tensor:
        """uint8 [channels, height, width]; raises `UnreadableImageError`."""
        path, frame = self._names[int(self._file[index])], Frame(*self._frame[index].tolist())
        image = f"{path}: the image at byte {frame.offset - HEAD}"
        try:
            features = parse(read_record(path, frame))
            if self.form == "raw":
                return _channels(raw_pixels(features), self.channels)
            encoded = features["image/encoded"]
        except Exception as error:  # a record of others may hold anything
            told = str(error)
            raise UnreadableImageError(told if told.startswith(path) else f"{image} ({told})") from error
        return decode(encoded, image, self.channels, self.max_pixels)


def raw_pixels(features: dict[str, Any]) -> Tensor:
    """uint8 [channels, height, width] of a raw example. Raises ValueError where the bytes are not of that size."""
    missing = [key for key in ("height", "width", "image/raw") if not features.get(key)]
    if missing:
        raise ValueError(f"there is no {missing[0]}")
    (height,), (width,), data = features["height"], features["width"], features["image/raw"]
    if min(height, width) < 1:
        raise ValueError(f"{height}x{width} is no size of an image")
    channels, rest = divmod(len(data), height * width)
    if rest or channels not in MODES:
        raise ValueError(f"image/raw has {len(data)} bytes for {height}x{width} pixels")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).view(height, width, channels).permute(2, 0, 1)


def _channels(pixels: Tensor, channels: int) -> Tensor:
    if channels in (0, len(pixels)):
        return pixels
    if len(pixels) != 1:
        raise ValueError(f"the image has {len(pixels)} channels, not {channels}")
    return pixels.expand(channels, -1, -1)


def read(request: Request) -> ImageSet:
    """The records in <data-dir>/<name>, or in the files, folders or patterns that the request names.

    Raises FileNotFoundError where there are none, ValueError where they are damaged or do not fit one another.
    """
    train = _files(request, request.train_records, TRAIN)
    test = _files(request, request.test_records, TEST)
    indices = make_index(train), make_index(test)
    if indices[0].form != indices[1].form:
        raise ValueError(f"{train[0]} holds {indices[0].form} images and {test[0]} {indices[1].form} ones")
    found = description(train[0])
    described = found[1] if found else Description()
    return _raw_set(request, indices, described) if indices[0].form == "raw" else _encoded(request, indices, described)


def _files(request: Request, place: str | None, names: Sequence[str]) -> list[Path]:
    if place is None:
        found, wanted = _split(request.folder, names), f"{request.folder}/{names[0]}*.tfrecord"
    else:
        path = Path(place).expanduser()
        found = record_files(path)
        if not found and not path.is_absolute() and request.data_dir is not None:
            path = request.data_dir / path
            found = record_files(path)
        wanted = str(path)
    if not found:
        raise FileNotFoundError(f"there are no TFRecord files at {wanted}")
    return found


def _class_names(indices: tuple[Index, Index], offset: int, described: Description) -> list[str]:
    lowest = min(int(index.label.min()) for index in indices) - offset
    if lowest < 0:
        raise ValueError(f"the least label is {lowest + offset}, and label_offset is {offset}")
    if described.class_names:
        return described.class_names
    index = max(indices, key=lambda index: index.label.max())
    place = int(index.label.argmax())
    highest = int(index.label[place]) - offset
    if highest >= MOST_CLASSES:
        path, frame = index.files[index.file[place]], Frame(*index.frame[place].tolist())
        read_record(path, frame)  # a damaged record is called so
        raise ValueError(
            f"{path}: the record at byte {frame.offset - HEAD} has the label {highest + offset}, "
            f"and there are at most {MOST_CLASSES} classes"
        )
    return [str(label) for label in range(highest + 1)]


def _raw_set(request: Request, indices: tuple[Index, Index], described: Description) -> ImageSet:
    offset = request.label_offset or 0
    first = RecordImages(indices[0], 0, offset).decode(0)
    sources = [RecordImages(index, len(first), offset) for index in indices]
    size = first.shape[1]
    total = sum(map(len, indices)) * first.numel()
    images = [_in_memory(source, first.shape) if total <= MEMORY_BYTES else None for source in sources]
    flip = len(first) == 3 if described.flip is None else described.flip
    mean, std = described.normalisation([0.5] * len(first), [0.25] * len(first))
    in_memory = [image for image in images if image is not None]
    parts: Sequence[Images] = sources
    augmentation: Augmentation = ResizedCropFlip()
    if len(in_memory) == len(images):
        pad = max(1, size // 8) if described.pad is None else described.pad
        parts, augmentation = in_memory, PadCropFlip(pad=pad, flip=flip)
    train, test = parts
    names = _class_names(indices, offset, described)
    return ImageSet(train, test, names, size, mean, std, augmentation)


def _in_memory(source: RecordImages, shape: torch.Size) -> MemoryImages | None:
    """All images, where they have one square shape."""
    if shape[1] != shape[2]:
        return None
    pixels = torch.empty(len(source.labels), *shape, dtype=torch.uint8)
    for index in range(len(pixels)):
        image = source.decode(index)
        if image.shape != shape:
            return None
        pixels[index] = image
    return MemoryImages(pixels, source.labels)


def _encoded(request: Request, indices: tuple[Index, Index], described: Description) -> ImageSet:
    offset = 1 if request.label_offset is None else request.label_offset
    channels = request.in_channels or 3
    mean, std = described.normalisation(*(IMAGENET if channels == 3 else IMAGENET.grey()))
    train, test = (RecordImages(index, channels, offset, request.max_image_pixels) for index in indices)
    return ImageSet(
        train=train,
        test=test,
        class_names=_class_names(indices, offset, described),
        image_size=described.image_size or 224,
        mean=mean,
        std=std,
        augmentation=ResizedCropFlip(),
    )
