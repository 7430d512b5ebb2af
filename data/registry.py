"""The data sets that have a name: one table, complete from the start, whose names are read without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from data import statistics
from data.statistics import Normalisation

if TYPE_CHECKING:
    from data.sources import ImageSet, Request

Reader = Callable[["Request"], "ImageSet"]
"""Finds a data set, fetches it where that is allowed, and reads it (see `data.sources`)."""


@dataclass(frozen=True)
class DataSet:
    """An entry of the table.

    Attributes:
        reader: how to find and load it: a function, or its place "package.module:function", imported when it is used.
        classes: how many; None where its files say so.
        normalisation: of its images; None where its files say so.
    """

    reader: Reader | str
    classes: int | None = None
    normalisation: Normalisation | None = None

    def read(self, request: Request) -> ImageSet:
        """The data set's images. Raises as `data.load`."""
        if isinstance(self.reader, str):
            module, _, function = self.reader.partition(":")
            return getattr(import_module(module), function)(request)
        return self.reader(request)


SETS: dict[str, DataSet] = {
    "digits": DataSet("data.digits:read", 10, statistics.DIGITS),
    "cifar10": DataSet("data.torchvision_sets:cifar10", 10, statistics.CIFAR10),
    "cifar100": DataSet("data.torchvision_sets:cifar100", 100, statistics.CIFAR100),
    "mnist": DataSet("data.torchvision_sets:mnist", 10, statistics.MNIST),
    "imagenet": DataSet("data.folders:imagenet", None, statistics.IMAGENET),
    "records": DataSet("data.records:read"),
}
"""The data sets with a name; any other name is that of a folder in the data directory, of record files or of images.

More may be added at any time: `data.SETS[name] = data.DataSet(reader)`.
"""
