"""How the native engine runs a channel graph: where planes lie in memory, and in which order edges are summed.

A plan is for one size of the images and one number of threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.sparse.arena import Arena, plane_stride, round_up
from models.sparse.graph import ChannelGraph, Level, Size
from models.sparse.plan_spec import (
    BYTES,
    HALF_UNIT,
    UNIT,
    Copies,
    Destination,
    ExecutionPlan,
    LevelKind,
    PlannedLevel,
    ValueEdges,
)
from models.sparse.sources import PlacedEdges, dealt_rows, fills_rows, plain_edges, shifted_copies
from models.sparse.work import SOURCES_NEAR, SUMS_NEAR, schedules

COPIES_NEAR = 24 << 10
"""Bytes of copied sources that a tile of a level with kernels may touch."""
MOST_UNITS = 7
"""Units of a tile: planes of 112, 56 and 28 pixels a side consist of a multiple of seven."""
DENSE_ABOVE = 0.3
"""Share of the possible edges above which a level over single values runs densely."""


def make_plan(
    graph: ChannelGraph, image_size: Size, threads: int, max_tile: int, max_shared_tile: int, half: bool = False
) -> ExecutionPlan:
    """The plan of a pruned graph for images of one size.

    Tiles have at most `max_tile` units, or `max_shared_tile` where every node of a level has every source, so that
    several nodes can take a source together. With `half`, planes are of halves: then images, which are of floats, are
    never read in place.

    Raises ValueError for a graph that the kernel cannot run: a kernel over means, or planes and means as sources of
    one level; OverflowError with `half` for a dense level over single values whose weights are beyond halves.
    """
    return _Planner(graph, image_size, threads, max_tile, max_shared_tile, half).plan()


class _Planner:
    def __init__(
        self, graph: ChannelGraph, image_size: Size, threads: int, max_tile: int, max_shared_tile: int, half: bool
    ) -> None:
        self.graph, self.image_size, self.threads = graph, image_size, threads
        self.max_tile, self.max_shared_tile = max_tile, max_shared_tile
        self.half, self.unit = half, HALF_UNIT if half else UNIT
        self.sizes = graph.sizes(image_size)
        self.last_use = list(range(len(graph.levels)))
        for i, level in enumerate(graph.levels):
            for source in level.sources:
                self.last_use[source] = i
        self.is_value = self._find_values()
        users = [level for level in graph.levels if 0 in level.sources]
        self.input_in_place = not half and all(
            level.sources == (0,) and level.edges is not None and not level.edges.plain for level in users
        )
        self.arena = Arena()
        self.values = 0
        self.place: list[int] = []
        self.stride: list[int] = []
        self.constants: list[tuple[int, NDArray[np.float32]]] = []

    def _find_values(self) -> list[bool]:
        """Which levels give single values rather than planes."""
        result: list[bool] = []
        for level in self.graph.levels:
            if level.edges is None:
                users = [other for other in self.graph.levels if 0 in other.sources]
                simple = all(_over_values(other) for other in users)
                result.append(self.graph.flat and self.image_size == (1, 1) and simple)
                continue
            sources = {result[source] for source in level.sources}
            if len(sources) > 1:
                raise ValueError(f"{level.name} has both planes and single values as sources.")
            from_values = sources.pop()
            if from_values and not _over_values(level):
                raise ValueError(f"{level.name} applies a kernel or a norm to single values.")
            result.append(from_values or level.mean)
        return result

    def plan(self) -> ExecutionPlan:
        graph = self.graph
        input_planes = graph.levels[0].nodes
        self._place_input(input_planes)
        levels = [
            self._value_level(level) if self.is_value[level.sources[0]] else self._plane_level(i, level)
            for i, level in enumerate(graph.levels)
            if i > 0
        ]
        last = len(graph.levels) - 1
        return ExecutionPlan(
            levels=levels,
            threads=self.threads,
            image_size=self.image_size,
            input_planes=input_planes,
            input_is_value=self.is_value[0],
            input_place=None if self.input_in_place else self.place[0],
            input_stride=self.stride[0],
            arena=self.arena.length + 2 * self.unit,
            values=round_up(self.values, self.unit),
            output_planes=graph.levels[last].nodes,
            output_size=self.sizes[last][1],
            output_place=self.place[last] if self.is_value[last] else None,
            constants=self.constants,
        )

    def _place_input(self, planes: int) -> None:
        if self.is_value[0]:
            self._place_values(planes)
        elif self.input_in_place:
            self._set_place(0, self.image_size[0] * self.image_size[1])
        else:
            self._place_planes(0, planes, self.image_size)

    def _place_values(self, nodes: int) -> None:
        self._set_place(self.values, 1)
        self.values += round_up(nodes, self.unit)

    def _place_planes(self, index: int, nodes: int, size: Size) -> None:
        stride = plane_stride(size, self.unit)
        self._set_place(self.arena.take(nodes * stride, index, self.last_use[index]), stride)

    def _set_place(self, place: int, stride: int) -> None:
        """Of the next level: where its first plane or value begins, and how far apart they are."""
        self.place.append(place)
        self.stride.append(stride)

    def _plane_level(self, index: int, level: Level) -> PlannedLevel:
        sums, out = self.sizes[index]
        kind, edges, copies = self._place_edges(index, level)
        edges = self._add_constants(level, sums, edges)
        destination = self._place_level(index, level, out)
        planned = PlannedLevel(
            level,
            kind,
            destination,
            sums,
            level.convolved_size(sums),
            self.place[-1],
            self.stride[-1],
            copies=copies,
            unit=self.unit,
        )
        sources = len(np.unique(edges.offset))
        self._choose_tiles(planned, sources, complete=len(edges.row) == sources * level.nodes)
        if kind == LevelKind.SUM_COPIES:  # the offsets were numbers of copies until the tile was known
            edges.offset *= (planned.tile + 1) * self.unit
        planned.schedules = schedules(planned, edges, self.threads)
        return planned

    def _place_level(self, index: int, level: Level, out: Size) -> Destination:
        if self.is_value[index]:
            self._place_values(level.nodes)
            return Destination.TO_VALUES
        if index == len(self.graph.levels) - 1:
            self._set_place(0, 0)
            return Destination.TO_OUTPUT
        self._place_planes(index, level.nodes, out)
        return Destination.TO_ARENA

    def _value_level(self, level: Level) -> PlannedLevel:
        edges = level.edges
        assert edges is not None
        where = self._places(level)
        weight = edges.weight[:, 0, 0]
        if edges.count > DENSE_ABOVE * edges.nodes * edges.columns:
            begin = int(where.min())
            dense = np.zeros((edges.nodes, round_up(int(where.max()) + 1 - begin, self.unit)), np.float32)
            dense[edges.rows, where[edges.indices] - begin] = weight
            if self.half:
                _check_halves(level.name, dense)
            kind, values = LevelKind.SUM_VALUES_DENSE, ValueEdges(begin=begin, dense=dense)
        else:
            index = where[edges.indices].astype(np.int32)
            kind, values = LevelKind.SUM_VALUES_SPARSE, ValueEdges(indptr=edges.indptr, index=index, weight=weight)
        self._place_values(level.nodes)
        return PlannedLevel(level, kind, Destination.TO_VALUES, (1, 1), (1, 1), self.place[-1], values=values)

    def _places(self, level: Level) -> NDArray[np.int64]:
        """int64 [columns], where the plane or value of each source lies."""
        return np.concatenate(
            [
                self.place[source] + self.stride[source] * np.arange(self.graph.levels[source].nodes, dtype=np.int64)
                for source in level.sources
            ]
        )

    def _place_edges(self, index: int, level: Level) -> tuple[LevelKind, PlacedEdges, Copies | None]:
        """The kind of a level over planes, its edges, and the copies of its sources that edges with kernels need."""
        edges = level.edges
        assert edges is not None
        places = self._places(level)
        if edges.plain:
            return LevelKind.SUM_PLANES, plain_edges(edges, places), None
        of_input = level.sources == (0,) and self.input_in_place
        copies = Copies(places, self.sizes[level.sources[0]][1], edges.stride, edges.padding, of_input)
        width = self.sizes[index][0][1]
        if fills_rows(edges, width, self.unit):
            return LevelKind.SUM_ROWS, dealt_rows(edges, copies, width, self.unit), copies
        return LevelKind.SUM_COPIES, shifted_copies(edges, copies), copies

    def _add_constants(self, level: Level, sums: Size, edges: PlacedEdges) -> PlacedEdges:
        """The edges with one more for every constant plane, of weight 1."""
        if level.constant is None:
            return edges
        if not (level.edges is not None and level.edges.plain):
            raise ValueError(f"{level.name} has kernels and constant planes.")
        stride = plane_stride(sums, self.unit)
        count = len(level.constant.nodes)
        place = self.arena.take(count * stride, 0, len(self.graph.levels))
        places = place + stride * np.arange(count, dtype=np.int64)
        self.constants += [(int(p), plane.reshape(-1)) for p, plane in zip(places, level.constant.planes, strict=True)]
        return edges.with_more(level.constant.nodes, places, 1.0)

    def _choose_tiles(self, planned: PlannedLevel, sources: int, complete: bool) -> None:
        level, (height, width) = planned.level, planned.sums
        units = round_up(width if planned.kind == LevelKind.SUM_ROWS else height * width, self.unit) // self.unit
        limit = min(MOST_UNITS, self.max_shared_tile if complete else self.max_tile)
        if planned.kind != LevelKind.SUM_PLANES:
            tile = max(1, COPIES_NEAR // (BYTES * max(1, sources)))
        else:
            tile = max(4, SOURCES_NEAR // (BYTES * max(1, sources)))
        planned.tile = min(tile, limit, units)
        whole = level.norm is not None or level.mean
        rows_near = max(1, SUMS_NEAR // (BYTES // self.unit * width * level.nodes))
        planned.strip_rows = height if whole or rows_near >= height else max(rows_near, min(height, 4))


def _over_values(level: Level) -> bool:
    """The level makes sense over single values."""
    return level.edges is not None and level.edges.plain and level.norm is None and level.depthwise is None


def _check_halves(name: str, dense: NDArray[np.float32]) -> None:
    """Raises OverflowError where a weight becomes infinite in half precision, or is not finite."""
    with np.errstate(over="ignore"):
        finite = np.isfinite(dense.astype(np.float16)).all()
    if not finite:
        raise OverflowError(
            f"the weights of {name} hold numbers beyond half precision (65504 at most) or that are not finite; "
            "the engine native computes in float32"
        )
