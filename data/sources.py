"""What a data set is before any loader: images, in memory or read one at a time, and constants.

A new kind of data is a function from a `Request` to an `ImageSet`, an entry of `data.SETS`. Its images are
either `MemoryImages`, where all fit, or a `Source`, which gives their labels and the decoded image of an
index. Order, batches, processes, augmentation and normalisation belong to the loaders and are the same for
all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from data.augmentation import Augmentation
from data.image_files import MAX_IMAGE_PIXELS


class UnreadableImageError(ValueError):
    """An image that cannot be decoded; the message names where it lies."""


class Source(Protocol):
    """Images that are decoded one at a time, by index. Pickled once for each worker process."""

    labels: Tensor
    """int64 [images]"""
    channels: int

    def decode(self, index: int) -> Tensor:
        """uint8 [channels, height, width]; raises `UnreadableImageError`."""
        ...


@dataclass(frozen=True)
class MemoryImages:
    """Images of one size in memory: pixels uint8 [images, channels, height, width], labels int64 [images]."""

    pixels: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.labels):
            raise ValueError(f"there are {len(self.pixels)} images and {len(self.labels)} labels")

    def subset(self, indices: Tensor) -> MemoryImages:
        """The images of `indices` (int64 [n]), copied."""
        return MemoryImages(self.pixels[indices], self.labels[indices])

    @property
    def channels(self) -> int:
        return self.pixels.shape[1]


Images = MemoryImages | Source


@dataclass(frozen=True)
class ImageSet:
    """A data set: training and test images, the names of the classes, and the constants that belong to it.

    `image_size` in pixels is what a network sees where nothing else is asked for. `mean` and `std` are
    those of each channel, images in 0..1. `augmentation` is `PadCropFlip` for images in memory, else
    `ResizedCropFlip`.
    """

    train: Images
    test: Images
    class_names: Sequence[str]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation

    def __post_init__(self) -> None:
        labels = torch.cat([self.train.labels, self.test.labels])
        if not ((labels >= 0) & (labels < len(self.class_names))).all():
            raise ValueError(f"there are labels outside of the {len(self.class_names)} classes")


@dataclass(frozen=True)
class Request:
    """Which data set is wanted, where it lies, and what may be done to get it.

    For TFRecord files: which ones (a file, a folder, a pattern; those of `folder` where absent), and the number that
    their labels count from (by their form where absent). For images in files: the pixels of the largest one.
    """

    name: str
    data_dir: Path | None
    in_channels: int | None = None
    download: bool = True
    verify: bool = True
    train_records: str | None = None
    test_records: str | None = None
    label_offset: int | None = None
    max_image_pixels: int = MAX_IMAGE_PIXELS

    @property
    def folder(self) -> Path:
        """<data-dir>/<name>; raises FileNotFoundError where no data directory is given."""
        if self.data_dir is None:
            raise FileNotFoundError(
                f"The data set {self.name} needs a data directory: give --data-dir DIR or set DATA_DIR"
            )
        return self.data_dir / self.name
