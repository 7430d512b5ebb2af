"""The native engine in half precision."""

from __future__ import annotations

import warnings
from functools import cache
from typing import ClassVar

from models.sparse.native import NativeGraph


class HalfGraph(NativeGraph):
    """A channel graph for images of one size, on the CPU, whose planes are of half precision (IEEE 754 binary16).

    So are the weights of edges between planes and their sums where the processor computes in half precision
    (AVX512-FP16, Armv8.2 with FP16); elsewhere the sums are in float32, rounded when they are stored: after each
    block of sources, and in a plane. A warning says so once. The statistics of instance norms, means over planes and
    what follows them are in float32 everywhere; the weights of a dense classifier are kept in half precision. Images
    and output are float32, and all else is as in `NativeGraph`.

    A call raises OverflowError where a plane holds a number beyond half precision, 65504 at most, or not finite; so
    does making one whose dense classifier has such a weight.
    """

    in_half: ClassVar[bool] = True

    def _build(self) -> None:
        super()._build()
        if not self._kernel.wirings_computes_in_half():
            _warn_of_conversions()


@cache
def _warn_of_conversions() -> None:
    warnings.warn(
        "This processor does not compute in half precision: native_half keeps planes in it and computes in float32, "
        "which is right but may be slower than native.",
        stacklevel=2,
    )
