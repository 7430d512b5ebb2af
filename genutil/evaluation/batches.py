"""Batches on their way from a loader to the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Protocol

from data import Batch, Loader
from genutil.errors import UserError
from genutil.system.distributed import highest
from genutil.system.interruption import Interrupted, StopRequest
from genutil.system.one_process import Runtime


class First:
    """The first batches of every epoch of a loader.

    Args:
        loader: whose they are.
        batches: how many of them, at most.
    """

    def __init__(self, loader: Loader, batches: int) -> None:
        self._loader = loader
        self._batches = batches

    @property
    def skipped(self) -> int:
        return self._loader.skipped

    def __len__(self) -> int:
        return min(len(self._loader), self._batches)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        yield from islice(self._loader.epoch(epoch, start), max(len(self) - start, 0))


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
            yield batch._replace(images=batch.images.double())


def readable(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches; what a loader says of an image that cannot be read becomes the user's mistake.

    Raises:
        UserError: with the loader's sentence.
    """
    iterator = iter(batches)
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except (ValueError, FileNotFoundError) as error:
            raise UserError(str(error)) from error
        yield batch


def stoppable(fabric: Runtime, batches: Iterable[Batch], stop: StopRequest, every: int) -> Iterator[Batch]:
    """The same batches, readable; a request to stop that any process got ends them before the next.

    Args:
        fabric: launched.
        batches: as many in every process.
        stop: a request to stop this process.
        every: batches between two looks at the requests of other processes.

    Raises:
        Interrupted: in all processes at the same batch.
        UserError: as `readable`.
    """
    for number, batch in enumerate(readable(batches)):
        look = fabric.world_size == 1 or number % every == 0
        if look and (signal := highest(fabric, stop.number)):
            raise Interrupted(signal)
        yield batch


class Bar(Protocol):
    """What shows progress: `genutil.reports.logs.progress_bar`."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: Any) -> Any: ...

    def update(self, steps: int = 1) -> Any: ...


def watched(batches: Iterable[Batch], bar: Bar) -> Iterator[Batch]:
    """The same batches, with a progress bar that ends with them."""
    with bar:
        for batch in batches:
            yield batch
            bar.update()
