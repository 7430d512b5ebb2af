"""Where the planes of a channel graph's nodes lie when they are computed one after another in one block of memory."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from models.sparse.graph import ChannelGraph, Level, Size


@dataclass(frozen=True)
class MemoryPlan:
    """Places in floats, counted from the start of the memory.

    Attributes:
        place: int64 [nodes of all levels, one after another], where the plane of each begins.
        first: number of the first node of every level.
        scratch: where sums lie that a node works on further.
        length: of the memory.
    """

    place: NDArray[np.int64]
    first: tuple[int, ...]
    scratch: int
    length: int


def plan_memory(graph: ChannelGraph, image_size: Size) -> MemoryPlan:
    """Places for the planes of a pruned graph's nodes, each free again behind the last node that reads it.

    Raises:
        ValueError: the image is too small.
    """
    sizes = graph.sizes(image_size)
    first = np.cumsum([0, *(level.nodes for level in graph.levels)])
    last_use = _last_uses(graph, first)
    free = _FreeList()
    place = np.zeros(first[-1], np.int64)
    dying: dict[int, list[int]] = {}
    length = np.repeat([prod(planes) for _, planes in sizes], [level.nodes for level in graph.levels])
    for node, last in enumerate(last_use):  # the image is written as a whole, and a plane before anything is freed
        dying.setdefault(max(int(last), int(first[1]) - 1, node), []).append(node)

    def release(step: int) -> None:
        for node in dying.pop(step, ()):
            free.release(int(place[node]), int(length[node]))

    for level, begin in zip(graph.levels, first, strict=False):
        early = level.edges is not None and works_in_scratch(level)
        for node in range(int(begin), int(begin) + level.nodes):
            own = node in dying.get(node, ())  # nobody reads it
            if early and not own:
                release(node)
            place[node] = free.take(int(length[node]))
            if not early or own:
                release(node)
    scratch = max((_scratch(level, sums) for level, (sums, _) in zip(graph.levels, sizes, strict=True)), default=0)
    return MemoryPlan(place, tuple(int(i) for i in first[:-1]), free.length, free.length + scratch)


def works_in_scratch(level: Level) -> bool:
    """The sums of a level's nodes are not yet what the nodes give."""
    return level.depthwise is not None or level.mean


def _scratch(level: Level, sums: Size) -> int:
    """Floats that a node of a level needs beside its plane."""
    if level.edges is None or not works_in_scratch(level):
        return 0
    both = level.depthwise is not None and level.mean
    return prod(sums) + (prod(level.convolved_size(sums)) if both else 0)


def _last_uses(graph: ChannelGraph, first: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the last node that reads each node; -1 where none does. The outputs are read at the very end."""
    last = np.full(first[-1], -1, np.int64)
    for level, begin in zip(graph.levels, first, strict=False):
        if level.edges is not None:
            np.maximum.at(last, source_nodes(graph, level, first)[level.edges.indices], begin + level.edges.rows)
    last[first[-2] :] = first[-1]
    return last


def source_nodes(graph: ChannelGraph, level: Level, first: NDArray[np.int64] | tuple[int, ...]) -> NDArray[np.int64]:
    """int64 [columns], the number of the node that each column of a level's edges is."""
    parts = [first[source] + np.arange(graph.levels[source].nodes) for source in level.sources]
    return np.concatenate(parts).astype(np.int64)


class _FreeList:
    """First-fit memory that grows as needed."""

    def __init__(self) -> None:
        self.length = 0
        self._begin: list[int] = []
        self._end: list[int] = []

    def take(self, floats: int) -> int:
        for i, begin in enumerate(self._begin):
            if self._end[i] - begin >= floats:
                return self._cut(i, floats)
        if self._end and self._end[-1] == self.length:
            self._end[-1] = self.length = self._begin[-1] + floats
            return self._cut(len(self._begin) - 1, floats)
        self.length += floats
        return self.length - floats

    def _cut(self, i: int, floats: int) -> int:
        begin = self._begin[i]
        self._begin[i] += floats
        if self._begin[i] == self._end[i]:
            del self._begin[i], self._end[i]
        return begin

    def release(self, begin: int, floats: int) -> None:
        i = bisect_left(self._begin, begin)
        self._begin.insert(i, begin)
        self._end.insert(i, begin + floats)
        for j in (i, i - 1):
            if 0 <= j < len(self._begin) - 1 and self._end[j] == self._begin[j + 1]:
                self._end[j] = self._end.pop(j + 1)
                del self._begin[j + 1]
