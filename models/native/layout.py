"""Whether Python and a C++ library agree about the structs and constants that they share."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Structure = type[ctypes.Structure] | np.dtype
_LETTERS = {**dict.fromkeys("fd", "f"), **dict.fromkeys("PzZ", "p"), **dict.fromkeys("bhilq", "i")}


class LayoutError(RuntimeError):
    """Python and a C++ library do not agree about what they share."""


def check_layout(
    library: ctypes.CDLL, name: str, structures: Mapping[str, Structure], constants: Mapping[str, int]
) -> None:
    """Compares sizes, offsets and types with what the library's function `wirings_layout` describes (see layout.h).

    Args:
        library: loaded.
        name: of its source, for the message.
        structures: by the name of the C++ struct.
        constants: by their C++ names.

    Raises LayoutError, in a sentence that names the struct and the field, or the constant, of the first difference.
    """
    library.wirings_layout.restype = ctypes.c_char_p
    theirs = dict(_parse(library.wirings_layout().decode()))
    ours = dict(_describe(structures, constants))
    for what in dict.fromkeys((*ours, *theirs)):
        if ours.get(what) != theirs.get(what):
            raise LayoutError(
                f"{name} and Python do not agree about {what}: {theirs.get(what, 'missing')} in C++, "
                f"{ours.get(what, 'missing')} in Python."
            )


def _parse(description: str) -> Iterator[tuple[str, str]]:
    for line in description.splitlines():
        kind, name, *values = line.split()
        if kind == "constant":
            yield f"the constant {name}", values[0]
        elif kind == "struct":
            yield f"the size of {name}", f"{values[0]} bytes"
        else:
            yield f"the field {name}", _field(*values)


def _describe(structures: Mapping[str, Structure], constants: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    for name, value in constants.items():
        yield f"the constant {name}", str(value)
    for name, structure in structures.items():
        for field, offset, size, letter in _fields(structure):
            yield f"the field {name}.{field}", _field(str(offset), str(size), letter)
    for name, structure in structures.items():
        size = structure.itemsize if isinstance(structure, np.dtype) else ctypes.sizeof(structure)
        yield f"the size of {name}", f"{size} bytes"


def _field(offset: str, size: str, letter: str) -> str:
    types = {"p": "pointer", "f": "floating point", "i": "signed", "u": "unsigned", "s": "struct"}
    return f"{size} bytes at {offset} ({types[letter]})"


def _fields(structure: Structure) -> Iterator[tuple[str, int, int, str]]:
    """Name, offset, bytes and letter (as in layout.h) of every field."""
    if isinstance(structure, np.dtype):
        for name, (dtype, offset, *_) in (structure.fields or {}).items():
            yield name, offset, dtype.itemsize, dtype.kind
        return
    for name, kind, *_ in structure._fields_:
        field = getattr(structure, name)
        yield name, field.offset, field.size, _letter(kind)


def _letter(kind: Any) -> str:
    """Of a ctypes type, or of the elements of an array."""
    while issubclass(kind, ctypes.Array):
        kind = kind._type_
    return "s" if issubclass(kind, ctypes.Structure) else _LETTERS.get(kind._type_, "u")
