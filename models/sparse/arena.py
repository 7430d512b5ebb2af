"""Where planes lie in the memory of the native engine."""

from __future__ import annotations

from models.sparse.graph import Size
from models.sparse.plan_spec import UNIT


class Arena:
    """First-fit places for regions that live from one level to another."""

    def __init__(self) -> None:
        self._taken: list[tuple[int, int, int, int]] = []
        self.length = 0

    def take(self, length: int, first: int, last: int) -> int:
        """The place of `length` numbers in use from level `first` to level `last`."""
        place = 0
        for begin, end, start, stop in sorted(self._taken):
            if stop < first or last < start:
                continue
            if place + length <= begin:
                break
            place = max(place, end)
        self._taken.append((place, place + length, first, last))
        self.length = max(self.length, place + length)
        return place


def plane_stride(size: Size, unit: int = UNIT) -> int:
    """Numbers from one plane to the next: whole units, room for a vector that begins with the last row, and, where a
    plane takes several tiles, an odd number of units, so that tiles of different planes do not meet in the same cache
    sets."""
    height, width = size
    units = max(round_up(height * width, unit), round_up((height - 1) * width + unit, unit)) // unit
    return unit * (units + 1 if units > 8 and units % 2 == 0 else units)


def round_up(numbers: int, unit: int = UNIT) -> int:
    return -(-numbers // unit) * unit
