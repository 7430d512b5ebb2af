"""Records of images: made one at a time, from files of photographs, a folder with labels, or any data set."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from data.decoding import eight_bits, open_image
from data.folders import FolderImages
from data.image_files import MAX_IMAGE_PIXELS, is_image_name, open_regular
from data.record_files import Features
from data.records import MOST_CLASSES
from data.sources import Images, MemoryImages

GREY = ("1", "L", "LA", "La")
"""Pillow's names of the forms of images without colours."""


class Records(Protocol):
    """Records made one at a time, by index. Pickled once for each process."""

    def __len__(self) -> int: ...

    def record(self, index: int) -> Features: ...

    def fingerprint(self) -> str:
        """The same for the same records, wherever they are made from; of others it differs."""
        ...


def raw_record(pixels: np.ndarray, label: int) -> Features:
    """An image as uint8 [height, width, channels], and its class."""
    height, width = pixels.shape[:2]
    return {
        "height": (height, "int"),
        "width": (width, "int"),
        "label": (label, "int"),
        "image/raw": (np.ascontiguousarray(pixels).tobytes(), "byte"),
    }


def photograph_record(data: bytes, label: int, synset: str, name: str, max_pixels: int = MAX_IMAGE_PIXELS) -> Features:
    """A photograph as an RGB JPEG in ImageNet's form; `label` counts from 1. Grey JPEGs stay as they are.

    PNG files and CMYK JPEGs, which ImageNet has too, are converted. Raises ValueError where it is no image, or one of
    more than `max_pixels`.
    """
    with open_image(data, name, max_pixels) as image:
        width, height = image.size
        if image.format != "JPEG" or image.mode not in ("RGB", "L"):
            converted = io.BytesIO()
            eight_bits(image).convert("RGB").save(converted, "JPEG", quality=100)
            data = converted.getvalue()
    return {
        "image/encoded": (data, "byte"),
        "image/class/label": (label, "int"),
        "image/class/synset": (synset.encode(), "byte"),
        "image/height": (height, "int"),
        "image/width": (width, "int"),
        "image/channels": (3, "int"),
        "image/colorspace": (b"RGB", "byte"),
        "image/format": (b"JPEG", "byte"),
        "image/filename": (Path(name).name.encode(), "byte"),
    }


def _order(path: Path) -> tuple[int, int, str]:
    return (0, int(path.stem), "") if path.stem.isdecimal() else (1, 0, path.stem)


def label_pairs(image_dir: Path, label_dir: Path) -> list[tuple[Path, int]]:
    """Each image with the integer that the text file of its name holds, 0.png with 0.txt, numbers in their order.

    Raises FileNotFoundError or ValueError naming the image or label that has no partner, or no integer.
    """
    for folder in (image_dir, label_dir):
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
    images = sorted((path for path in image_dir.iterdir() if is_image_name(path.name)), key=_order)
    if not images:
        raise ValueError(f"{image_dir} has no images")
    stems: dict[str, Path] = {}
    for path in images:
        if path.stem in stems:
            raise ValueError(
                f"{stems[path.stem].name} and {path.name} in {image_dir} would share the label {path.stem}.txt"
            )
        stems[path.stem] = path
    for path in sorted(label_dir.glob("*.txt"), key=_order):
        if path.stem not in stems:
            raise ValueError(f"the label {path} has no image in {image_dir}")
    return [(path, _label(label_dir / f"{path.stem}.txt", path)) for path in images]


def _label(path: Path, image: Path) -> int:
    try:
        with open_regular(path) as file:
            text = file.read().decode().strip()
    except FileNotFoundError:
        raise ValueError(f"the image {image.name} has no label: there is no {path}") from None
    except UnicodeDecodeError:
        raise ValueError(f"the label {path} is no text") from None
    if not re.fullmatch("[0-9]{1,6}", text) or int(text) >= MOST_CLASSES:
        raise ValueError(f"the label {path} must be an integer from 0 to {MOST_CLASSES - 1}, not {text[:40]!r}")
    return int(text)


def labelled_records(pairs: Iterable[tuple[Path, int]], max_pixels: int = MAX_IMAGE_PIXELS) -> Iterator[Features]:
    """The raw record of each image and its label. All images get as many channels as the first has, 1 or 3.

    Raises ValueError at an image that cannot be read, or has more than `max_pixels`.
    """
    mode = None
    for path, label in pairs:
        with open_image(path, str(path), max_pixels) as opened:
            image = eight_bits(opened)
            mode = mode or ("L" if image.mode in GREY else "RGB")
            pixels = np.asarray(image.convert(mode))
        yield raw_record(pixels, label)


@dataclass(frozen=True)
class Photographs:
    """Files of photographs, or parts of an archive.

    Attributes:
        names: of each photograph; where there is no archive, its path.
        labels: of each, an index of `synsets`.
        archive: the file that holds them all, at `places` (offset and length of each).
        max_pixels: of the largest photograph that is taken.
    """

    names: Sequence[str]
    labels: Sequence[int]
    synsets: Sequence[str]
    archive: Path | None = None
    places: Sequence[tuple[int, int]] = ()
    max_pixels: int = MAX_IMAGE_PIXELS

    def __len__(self) -> int:
        return len(self.names)

    def fingerprint(self) -> str:
        """Of name, size and class of each; paths as seen from the folder that holds all of them."""
        names: Sequence[str]
        sizes: Iterable[int]
        if self.archive is None:
            root = os.path.commonpath(self.names)
            names = [os.path.relpath(name, root) for name in self.names]
            sizes = map(os.path.getsize, self.names)
        else:
            names, sizes = self.names, (size for _, size in self.places)
        digest = hashlib.sha256(json.dumps([*self.synsets]).encode())
        for photograph in zip(names, sizes, self.labels, strict=True):
            digest.update(json.dumps(photograph).encode())
        return digest.hexdigest()

    def record(self, index: int) -> Features:
        label = self.labels[index]
        name = self.names[index]
        return photograph_record(self._data(index), label + 1, self.synsets[label], name, self.max_pixels)

    def _data(self, index: int) -> bytes:
        if self.archive is None:
            with open_regular(self.names[index]) as file:
                return file.read()
        offset, length = self.places[index]
        with self.archive.open("rb", buffering=0) as archive:
            return os.pread(archive.fileno(), length, offset)


def class_folders(folder: Path, max_pixels: int = MAX_IMAGE_PIXELS) -> Photographs:
    """The images in <folder>/<class>/. Raises ValueError where a class has none, or there is no class."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    return _photographs(FolderImages(folder, 3, max_pixels))


@dataclass(frozen=True)
class RawImages:
    """The images of a part of a data set, undistorted, as raw records."""

    images: Images

    def __len__(self) -> int:
        return len(self.images.labels)

    def fingerprint(self) -> str:
        """Of labels and pixels; of images that are read one at a time, of their labels and kind."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images.labels).data)
        if isinstance(self.images, MemoryImages):
            digest.update(np.ascontiguousarray(self.images.pixels).data)
        digest.update(type(self.images).__name__.encode())
        return digest.hexdigest()

    def record(self, index: int) -> Features:
        return raw_record(self._pixels(index).permute(1, 2, 0).numpy(), int(self.images.labels[index]))

    def _pixels(self, index: int) -> Tensor:
        images = self.images
        return images.pixels[index] if isinstance(images, MemoryImages) else images.decode(index)


def records_of(images: Images) -> Records:
    """The records of a part of a data set: photographs in class folders as they are, others as raw pixels."""
    return _photographs(images) if isinstance(images, FolderImages) else RawImages(images)


def _photographs(images: FolderImages) -> Photographs:
    return Photographs(images.paths(), images.labels.tolist(), images.class_names, max_pixels=images.max_pixels)
