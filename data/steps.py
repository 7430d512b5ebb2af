"""Which images each step of an epoch shows to each process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from data.augmentation import mixed_seed


class Step(NamedTuple):
    """A process's part of one batch of `total` images: positions start..stop in the epoch's order."""

    start: int
    stop: int
    total: int


@dataclass(frozen=True)
class Place:
    """One of `world_size` processes that share every batch."""

    rank: int = 0
    world_size: int = 1


class Steps:
    """The steps of an epoch over `images` images, cut for one process.

    Batch b holds the same positions whatever the number of processes, each of which gets a contiguous part;
    parts differ by one image at most. In training a last, smaller batch is left out where it would give a
    process fewer than two images. In evaluation every image is in exactly one part; a part may be empty.

    Raises ValueError where training has no step, or a batch has fewer images than there are processes.
    """

    def __init__(self, images: int, batch_size: int, place: Place, *, training: bool) -> None:
        self.images, self.batch_size, self.place, self.training = images, batch_size, place, training
        processes = place.world_size
        if training and batch_size < processes:
            raise ValueError(f"batch_size {batch_size} is less than an image for each of {processes} processes")
        rest = images % batch_size
        self._count = images // batch_size + (rest >= 2 * processes if training else rest > 0)
        if training and self._count == 0:
            raise ValueError(f"{images} training images are too few for {processes} process(es)")

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, step: int) -> Step:
        if not 0 <= step < self._count:
            raise IndexError(step)
        first = step * self.batch_size
        total = min(self.batch_size, self.images - first)
        rank, processes = self.place.rank, self.place.world_size
        return Step(first + total * rank // processes, first + total * (rank + 1) // processes, total)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A generator of the CPU for what is drawn once an epoch."""
    return torch.Generator().manual_seed(mixed_seed(seed, epoch))


def shuffled(images: int, generator: torch.Generator) -> Tensor:
    """An order of so many images, int64 [images]."""
    return torch.randperm(images, generator=generator)
