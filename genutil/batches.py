"""Batches on their way from a loader to the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tqdm import tqdm

from data import Batch
from genutil.errors import UserError


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


def watched(batches: Iterable[Batch], bar: tqdm) -> Iterator[Batch]:
    """The same batches, with a progress bar that ends with them."""
    with bar:
        for batch in batches:
            yield batch
            bar.update()
