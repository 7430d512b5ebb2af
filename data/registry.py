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
        files: what it is read from, for `--help`.
    """

    reader: Reader | str
    classes: int | None = None
    normalisation: Normalisation | None = None
    files: str = ""

    def read(self, request: Request) -> ImageSet:
        """The data set's images.

        Raises:
            as `data.load`; ValueError where it has another number of classes than the table says.
        """
        found = self._reader()(request)
        if self.classes not in (None, len(found.class_names)):
            raise ValueError(
                f"{request.name} has {len(found.class_names)} classes, not {self.classes} as data.SETS says"
            )
        return found

    def _reader(self) -> Reader:
        if not isinstance(self.reader, str):
            return self.reader
        module, _, function = self.reader.partition(":")
        return getattr(import_module(module), function)


_FETCHED = "<data-dir>/<name> in torchvision's layout, fetched where absent"

SETS: dict[str, DataSet] = {
    "digits": DataSet("data.digits:read", 10, statistics.DIGITS, "nothing: scikit-learn holds them"),
    "cifar10": DataSet("data.torchvision_sets:cifar10", 10, statistics.CIFAR10, _FETCHED),
    "cifar100": DataSet("data.torchvision_sets:cifar100", 100, statistics.CIFAR100, _FETCHED),
    "mnist": DataSet("data.torchvision_sets:mnist", 10, statistics.MNIST, _FETCHED),
    "imagenet": DataSet(
        "data.folders:imagenet", None, statistics.IMAGENET, "<data-dir>/imagenet/{train,val}/<class>/<image>"
    ),
    "records": DataSet("data.records:read", files="TFRecord files, --train_records and --test_records"),
}
"""The data sets with a name; any other name is that of a folder in the data directory, of record files or of images.

More may be added at any time: `data.SETS[name] = data.DataSet(reader)`.
"""
