"""Arrays as constant tables of C, each written once and as narrow as its values allow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TYPES = {np.dtype(np.float32): "float", np.dtype(np.uint8): "uint8_t", np.dtype(np.uint16): "uint16_t"} | {
    np.dtype(np.uint32): "uint32_t"
}
COLUMNS = 110
"""Characters of a line of values, about."""


class Tables:
    """Collects tables; equal ones become one.

    Attributes:
        bytes: that the tables take in a program.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._names: dict[tuple[str, bytes], str] = {}
        self._texts: list[str] = []

    def add(self, array: NDArray, name: str = "") -> str:
        """Enter a table of float32, or unsigned integers of 8, 16 or 32 bits; the expression that means it.

        Raises:
            ValueError: a value is not finite.
        """
        flat = np.ascontiguousarray(array).reshape(-1)
        if flat.dtype == np.float32 and not np.isfinite(flat).all():
            raise ValueError("a weight of the network is not finite")
        kind = TYPES[flat.dtype]
        key = (kind, flat.tobytes())
        if name or key not in self._names:
            own = name or f"table_{len(self._names)}"
            self._names[key] = own
            self.bytes += flat.nbytes
            self._texts.append(f"static const {kind} {own}[{len(flat)}] = {{\n{_values(flat)}\n}};\n")
        return self._names[key]

    def text(self) -> str:
        """All tables, as they stand in the program."""
        return "".join(self._texts)


def narrow(values: NDArray) -> NDArray:
    """Integers that are not negative, in the fewest bytes of 1, 2 and 4 that hold the largest.

    Raises:
        ValueError: one takes more than 32 bits.
    """
    largest = int(values.max()) if len(values) else 0
    for kind in (np.uint8, np.uint16, np.uint32):
        if largest <= np.iinfo(kind).max:
            return values.astype(kind)
    raise ValueError("the network is too large for 32-bit addresses")


def _values(flat: NDArray) -> str:
    """The shortest decimals that give back every value, in lines."""
    suffix = "f" if flat.dtype == np.float32 else ""
    words = [f"{word}{suffix}," for word in flat.astype(str).tolist()]
    width = max(map(len, words)) + 1
    per_line = max(1, COLUMNS // width)
    return "\n".join(" ".join(words[i : i + per_line]) for i in range(0, len(words), per_line))
