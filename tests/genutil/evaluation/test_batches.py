"""Batches on their way: the first of them, and those of 64 bits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from data import Batch
from data.sources import UnreadableImageError
from genutil.errors import UserError
from genutil.evaluation.batches import Doubled, First, readable


class Counting:
    """A loader of five batches of two images, whose first pixel is the number of the batch."""

    skipped = 3

    def __len__(self) -> int:
        return 5

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for number in range(start, 5):
            yield Batch(torch.full((2, 1, 1, 1), float(number)), torch.tensor([epoch, epoch]), 2)


def numbers(batches: Iterator[Batch]) -> list[float]:
    return [float(batch.images[0]) for batch in batches]


def test_an_epoch_is_cut_wherever_it_starts() -> None:
    first = First(Counting(), 3)
    assert len(first) == 3
    assert first.skipped == 3
    assert numbers(first.epoch(1)) == [0, 1, 2]
    assert numbers(first.epoch(1, 2)) == [2]
    assert numbers(first.epoch(1, 4)) == []
    assert len(First(Counting(), 9)) == 5


def test_images_of_64_bits_have_the_same_values() -> None:
    doubled = Doubled(Counting())
    assert (len(doubled), doubled.skipped) == (5, 3)
    batches = list(doubled.epoch(7, 3))
    assert [batch.images.dtype for batch in batches] == [torch.float64] * 2
    assert numbers(iter(batches)) == [3, 4]
    assert batches[0].labels.tolist() == [7, 7]


def test_an_unreadable_image_is_the_users_mistake() -> None:
    def broken() -> Iterator[Batch]:
        yield next(Counting().epoch(0))
        raise UnreadableImageError("cat.png cannot be read")

    batches = readable(broken())
    next(batches)
    with pytest.raises(UserError, match=r"cat\.png cannot be read"):
        next(batches)
