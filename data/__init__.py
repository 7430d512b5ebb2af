"""Data sets, augmentation and loaders. Knows nothing of models."""

# Importing this package loads nothing heavy: the names of data sets, normalisations, checksums and the wire format of
# protocol buffers are to be had without torch. What needs torch is imported when it is first asked for.

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from data.registry import SETS, DataSet

if TYPE_CHECKING:
    from data.batches import Batch, Loader
    from data.loading import Data, find, load

__all__ = ["SETS", "Batch", "Data", "DataSet", "Loader", "find", "load"]

_PLACES = {
    "Batch": "data.batches",
    "Loader": "data.batches",
    "Data": "data.loading",
    "find": "data.loading",
    "load": "data.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
