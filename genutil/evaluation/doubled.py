"""Images of 64 bits, for networks whose weights have as many."""

from __future__ import annotations

from collections.abc import Iterator

from data import Batch, Loader


class Doubled:
    """The batches of a loader with images of 64 bits.

    Args:
        loader: whose they are.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    @property
    def skipped(self) -> int:
        return self._loader.skipped

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for batch in self._loader.epoch(epoch, start):
            yield Batch(batch.images.double(), batch.labels, batch.total)
