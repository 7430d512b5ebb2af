"""Reading pickles of plain values without executing anything in them: arrays, lists, dicts, bytes, text and numbers."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from data.image_files import open_regular

_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")


class PlainPickleError(ValueError):
    """The bytes are no pickle of plain values; says why, as the second half of a sentence about the file."""


class PickledArray:
    """An array that NumPy pickled. What NumPy would do with its parts is not done: `array` makes it of checked ones."""

    def __init__(self, *_: Any) -> None:
        self._state: Any = None

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def array(self) -> np.ndarray:
        """The array. Raises PlainPickleError where its parts do not fit one another, or it is of no plain numbers."""
        try:
            _, shape, kind, fortran, content = self._state
            if isinstance(content, str):  # of Python 2
                content = content.encode("latin1")
            sizes = tuple(map(int, shape))
        except (TypeError, ValueError) as error:
            raise PlainPickleError("an array in it has odd parts") from error
        dtype = kind.dtype() if isinstance(kind, _Kind) else None
        if dtype is None or not isinstance(content, bytes) or min(sizes, default=0) < 0:
            raise PlainPickleError("an array in it has odd parts")
        if math.prod(sizes) * dtype.itemsize != len(content):
            raise PlainPickleError(f"an array in it has {len(content)} bytes, not those of the shape {list(sizes)}")
        return np.frombuffer(content, dtype).reshape(sizes, order="F" if fortran else "C")


class _Kind:
    """The type of an array's entries, as NumPy pickles it."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self._code, self._order = code, "|"

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|"):
            self._order = state[1]

    def dtype(self) -> np.dtype[Any]:
        code = self._code if isinstance(self._code, str) else ""
        if code not in ("b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"):
            raise PlainPickleError(f"an array in it is of the type {code[:20]!r}, which is no plain number")
        return np.dtype(f"{self._order}{code}")


class _Value:
    """Stands for a function of NumPy or Python that a pickle calls; a pickle cannot change it."""

    def __setstate__(self, _: Any) -> None:
        raise PlainPickleError("a value in it has odd parts")


class _Encoded(_Value):
    """Bytes, as protocol 2 holds them."""

    def __new__(cls, text: str = "", encoding: str = "latin1") -> bytes:  # type: ignore[misc]
        if encoding not in ("latin1", "latin-1"):
            raise PlainPickleError("it holds bytes in an odd form")
        return text.encode("latin1")


class _Scalar(_Value):
    """One of NumPy's numbers."""

    def __new__(cls, kind: _Kind, content: bytes | str) -> int | float:  # type: ignore[misc]
        data = content.encode("latin1") if isinstance(content, str) else content
        if not isinstance(kind, _Kind) or not isinstance(data, bytes) or len(data) != kind.dtype().itemsize:
            raise PlainPickleError("a number in it has odd parts")
        return np.frombuffer(data, kind.dtype())[0].item()


_ALLOWED = {("numpy", "ndarray"): PickledArray, ("numpy", "dtype"): _Kind, ("_codecs", "encode"): _Encoded}
_ALLOWED |= {(module, "bytes"): _Encoded for module in ("builtins", "__builtin__")}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED |= {(_module, "_reconstruct"): PickledArray, (_module, "scalar"): _Scalar}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise PlainPickleError(f"it asks for {module}.{name}, which plain values do not need") from None


def load(path: Path) -> Any:
    """What a pickle holds, of any protocol; text of Python 2 is taken for Latin-1.

    Arrays are `PickledArray`, NumPy's numbers Python's.

    Raises:
        OSError: the file cannot be opened.
        PlainPickleError: it is damaged, or asks for anything else than plain values; nothing of that is done.
        ValueError: it is no regular file.
    """
    with open_regular(path) as file:
        data = file.read()
    try:
        _check_sizes(data)
        return _Unpickler(io.BytesIO(data), encoding="latin1").load()
    except PlainPickleError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise PlainPickleError(f"it is a damaged pickle, or none ({' '.join(str(error).split())[:100]})") from error


def _check_sizes(data: bytes) -> None:
    """That no number in a pickle makes the reader reserve more memory than its bytes are worth."""
    for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if operation.name in _PUTS and int(argument or 0) > count:
            raise PlainPickleError("it numbers more values than it has")
