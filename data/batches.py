"""What every loader gives, and what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


class Batch(NamedTuple):
    """One process's part of a batch, on its device.

    images: float32 [n, channels, height, width], normalised. labels: int64 [n].
    total: images of the whole batch, over all processes. Where unreadable files are left out, it is less
    those that this process left out: exact for one process, while several have to ask each other, as training
    does (`genutil.training.gradients.shares`).
    """

    images: Tensor
    labels: Tensor
    total: int


class Loader(Protocol):
    """The batches of one part of a data set, for one process."""

    @property
    def skipped(self) -> int:
        """Unreadable files that this process has left out so far."""
        ...

    def __len__(self) -> int:
        """Steps an epoch."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from step `start` on. They depend on seed, epoch and step only."""
        ...


@dataclass(frozen=True)
class Settings:
    """What the loaders of a data set share. mean and std: [channels, 1, 1] on the device.

    With `standardise` every image is normalised by its own mean and deviation instead. With `decode_on_device` worker
    processes read JPEG files and the device decodes them.
    """

    image_size: int
    mean: Tensor
    std: Tensor
    device: torch.device
    seed: int
    workers: int = 0
    skip_unreadable: bool = False
    standardise: bool = False
    decode_on_device: bool = False
