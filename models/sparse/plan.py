"""How the native engine runs a channel graph: where planes lie in memory, and in which order edges are summed.

A plan is for one size of the images and one number of threads. Each node's sum has the same order whatever the number
of threads, so that results do not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

from models.sparse.graph import ChannelGraph, Edges, Level, Size

UNIT = 16
"""Floats: lengths of planes and tiles are multiples of it."""
BYTES = 4 * UNIT
SOURCES_NEAR = 56 << 10
"""Bytes of source tiles that a block of edges may touch: what the first-level cache holds, and what follows it
closely."""
SUMS_NEAR = 512 << 10
"""Bytes of sums that a chunk of nodes may keep before their own operations: a part of the second-level cache."""
DENSE_ABOVE = 0.3
"""Share of the possible edges above which a level over single values runs densely."""

SUM_PLANES, SUM_COPIES, SUM_ROWS, SUM_VALUES_DENSE, SUM_VALUES_SPARSE = range(5)
ROWS_AT_ONCE = 8
"""Rows of sums whose source rows are dealt out together; as in plan_spec.h."""
TO_ARENA, TO_VALUES, TO_OUTPUT = range(3)

EDGE = np.dtype([("offset", np.uint32), ("weight", np.float32)])
RUN = np.dtype([("edges", np.int32), ("nodes", np.int32), ("same", np.int32)])
BLOCK = np.dtype([("run_begin", np.int32), ("run_end", np.int32), ("node_begin", np.int64), ("edge_begin", np.int64)])
CHUNK = np.dtype(
    [
        ("node_begin", np.int32),
        ("node_end", np.int32),
        ("block_begin", np.int32),
        ("block_end", np.int32),
        ("row_begin", np.int32),
        ("row_end", np.int32),
    ]
)


@dataclass
class Schedule:
    """One way of cutting a level's nodes into shares (a thread each), chunks and blocks of edges; see plan_spec.h."""

    share_begin: NDArray[np.int32]
    chunk: NDArray
    block: NDArray
    run: NDArray
    order: NDArray[np.int32]
    edge: NDArray


@dataclass
class Copies:
    """Where a level with kernels finds its sources: planes (their places), each under several taps of a kernel.

    SUM_COPIES: copy j shows plane `source[j]` under the tap (y[j], x[j]). SUM_ROWS: `source` are the planes; a row is
    dealt out into `stride` rows of `row_length` floats, the first `row_border` of them zero.
    `of_input`: places count from the image itself, not in the arena.
    """

    source: NDArray[np.int64]
    size: Size
    stride: int
    padding: int
    of_input: bool
    y: NDArray[np.int32] | None = None
    x: NDArray[np.int32] | None = None
    kernel_rows: int = 0
    row_length: int = 0
    row_border: int = 0


@dataclass
class Values:
    """Edges over single values: a dense matrix from value `begin` on, or rows of places."""

    begin: int = 0
    dense: NDArray[np.float32] | None = None
    indptr: NDArray[np.int64] | None = None
    index: NDArray[np.int32] | None = None
    weight: NDArray[np.float32] | None = None


@dataclass
class PlannedLevel:
    """A level with its place: `place` is where its planes (in the arena) or values begin, in floats."""

    level: Level
    kind: int
    destination: int
    sums: Size
    out: Size
    place: int
    stride: int = 0
    tile: int = 1
    strip_rows: int = 1
    schedules: list[Schedule] = field(default_factory=list)
    copies: Copies | None = None
    values: Values | None = None


@dataclass
class Plan:
    """All that the kernel needs; lengths and places in floats.

    Attributes:
        constants: planes that lie in the arena from the start, with their places.
        input_place: among the values if `input_is_value`, else in the arena; None where the image is read in place.
        output_place: among the values; None where the output is planes.
    """

    levels: list[PlannedLevel]
    threads: int
    image_size: Size
    input_planes: int
    input_is_value: bool
    input_place: int | None
    input_stride: int
    arena: int
    values: int
    output_planes: int
    output_size: Size
    output_place: int | None
    constants: list[tuple[int, NDArray[np.float32]]]


class _Arena:
    """First-fit places for regions that live from one level to another."""

    def __init__(self) -> None:
        self._taken: list[tuple[int, int, int, int]] = []
        self.length = 0

    def take(self, length: int, first: int, last: int) -> int:
        """The place of `length` floats in use from level `first` to level `last`."""
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


def make_plan(graph: ChannelGraph, image_size: Size, threads: int, max_tile: int, max_shared_tile: int) -> Plan:
    """The plan of a pruned graph for images of one size.

    Tiles have at most `max_tile` units, or `max_shared_tile` where every node of a level has every source, so that
    several nodes can take a source together.

    Raises ValueError for a graph that the kernel cannot run: a kernel over means, or planes and means as sources of
    one level.
    """
    return _Planner(graph, image_size, threads, max_tile, max_shared_tile).plan()


class _Planner:
    def __init__(
        self, graph: ChannelGraph, image_size: Size, threads: int, max_tile: int, max_shared_tile: int
    ) -> None:
        self.graph, self.image_size, self.threads = graph, image_size, threads
        self.max_tile, self.max_shared_tile = max_tile, max_shared_tile
        self.sizes = graph.sizes(image_size)
        self.last_use = list(range(len(graph.levels)))
        for i, level in enumerate(graph.levels):
            for source in level.sources:
                self.last_use[source] = i
        self.is_value = self._find_values()
        users = [level for level in graph.levels if 0 in level.sources]
        self.input_in_place = all(
            level.sources == (0,) and level.edges is not None and not level.edges.plain for level in users
        )
        self.arena = _Arena()
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

    def plan(self) -> Plan:
        graph = self.graph
        input_planes = graph.levels[0].nodes
        if self.is_value[0]:
            self._place_values(input_planes)
        elif self.input_in_place:
            self.place.append(0)
            self.stride.append(self.image_size[0] * self.image_size[1])
        else:
            self._place_planes(0, input_planes, self.image_size)
        levels = [self._level(i) for i in range(1, len(graph.levels))]
        last = len(graph.levels) - 1
        return Plan(
            levels=levels,
            threads=self.threads,
            image_size=self.image_size,
            input_planes=input_planes,
            input_is_value=self.is_value[0],
            input_place=None if self.input_in_place else self.place[0],
            input_stride=self.stride[0],
            arena=self.arena.length + 2 * UNIT,
            values=_round_up(self.values),
            output_planes=graph.levels[last].nodes,
            output_size=self.sizes[last][1],
            output_place=self.place[last] if self.is_value[last] else None,
            constants=self.constants,
        )

    def _place_values(self, nodes: int) -> int:
        place = self.values
        self.values += _round_up(nodes)
        self.place.append(place)
        self.stride.append(1)
        return place

    def _place_planes(self, index: int, nodes: int, size: Size) -> int:
        stride = plane_stride(size)
        self.place.append(self.arena.take(nodes * stride, index, self.last_use[index]))
        self.stride.append(stride)
        return self.place[-1]

    def _level(self, index: int) -> PlannedLevel:
        level = self.graph.levels[index]
        sums, out = self.sizes[index]
        if self.is_value[level.sources[0]]:
            return self._value_level(index, level)
        assert level.edges is not None
        kind, offsets, copies = self._source_offsets(index, level)
        edges = self._add_constants(level, sums, _taps(level.edges, offsets, copies))
        destination = TO_ARENA
        if self.is_value[index]:
            destination = TO_VALUES
            place = self._place_values(level.nodes)
        elif index == len(self.graph.levels) - 1:
            destination, place = TO_OUTPUT, 0
            self.place.append(0)
            self.stride.append(0)
        else:
            place = self._place_planes(index, level.nodes, out)
        planned = PlannedLevel(
            level,
            kind,
            destination,
            sums,
            level.convolved_size(sums),
            place,
            self.stride[-1],
            copies=copies,
        )
        sources = len(np.unique(edges.offset))
        self._choose_tiles(planned, sources, complete=len(edges.row) == sources * level.nodes)
        if kind == SUM_COPIES:  # the offsets were numbers of copies until the tile was known
            edges.offset *= (planned.tile + 1) * UNIT
        edges = edges.sorted()
        blocks = _block_of_source(edges.offset, max(1, SOURCES_NEAR // (BYTES * planned.tile)))
        planned.schedules = [self._schedule(planned, edges, blocks, 1)]
        if self.threads > 1:
            planned.schedules.append(self._schedule(planned, edges, blocks, self.threads))
        return planned

    def _value_level(self, index: int, level: Level) -> PlannedLevel:
        edges = level.edges
        assert edges is not None
        where = np.concatenate([self.place[s] + np.arange(self.graph.levels[s].nodes) for s in level.sources])
        weight = edges.weight[:, 0, 0]
        if edges.count > DENSE_ABOVE * edges.nodes * edges.columns:
            begin = int(where.min())
            dense = np.zeros((edges.nodes, _round_up(int(where.max()) + 1 - begin)), np.float32)
            dense[edges.rows, where[edges.indices] - begin] = weight
            values = Values(begin=begin, dense=dense)
        else:
            values = Values(indptr=edges.indptr, index=where[edges.indices].astype(np.int32), weight=weight)
        kind = SUM_VALUES_SPARSE if values.dense is None else SUM_VALUES_DENSE
        place = self._place_values(level.nodes)
        return PlannedLevel(level, kind, TO_VALUES, (1, 1), (1, 1), place, values=values)

    def _source_offsets(self, index: int, level: Level) -> tuple[int, NDArray[np.int64], Copies | None]:
        """The kind of the level, where the source of each column (and tap) lies, and the copies that edges with
        kernels need; the offsets into shifted copies are their numbers as yet."""
        edges = level.edges
        assert edges is not None
        places = np.concatenate(
            [
                self.place[source] + self.stride[source] * np.arange(self.graph.levels[source].nodes, dtype=np.int64)
                for source in level.sources
            ]
        )
        if edges.plain:
            return SUM_PLANES, places, None
        copies = Copies(
            places,
            self.sizes[level.sources[0]][1],
            edges.stride,
            edges.padding,
            level.sources == (0,) and self.input_in_place,
        )
        width = self.sizes[index][0][1]
        if width >= UNIT and np.count_nonzero(edges.weight) == edges.nodes * edges.columns * prod(edges.kernel):
            return SUM_ROWS, _deal_out_rows(edges, copies, width), copies
        used = np.zeros((edges.columns, *edges.kernel), dtype=bool)
        np.logical_or.at(used, edges.indices, edges.weight != 0)
        column, y, x = np.nonzero(used)
        number = np.full(used.shape, -1, np.int64)
        number[column, y, x] = np.arange(len(column))
        copies.source, copies.y, copies.x = places[column], y.astype(np.int32), x.astype(np.int32)
        return SUM_COPIES, number.reshape(edges.columns, -1), copies

    def _add_constants(self, level: Level, sums: Size, edges: _PlacedEdges) -> _PlacedEdges:
        """The edges with one more for every constant plane, of weight 1."""
        if level.constant is None:
            return edges
        if not (level.edges is not None and level.edges.plain):
            raise ValueError(f"{level.name} has kernels and constant planes.")
        stride = plane_stride(sums)
        count = len(level.constant.nodes)
        place = self.arena.take(count * stride, 0, len(self.graph.levels))
        places = place + stride * np.arange(count, dtype=np.int64)
        self.constants += [(int(p), plane.reshape(-1)) for p, plane in zip(places, level.constant.planes, strict=True)]
        return _PlacedEdges(
            np.concatenate([edges.row, level.constant.nodes]),
            np.concatenate([edges.offset, places]),
            np.concatenate([edges.weight, np.ones(count, np.float32)]),
        )

    def _choose_tiles(self, planned: PlannedLevel, sources: int, complete: bool) -> None:
        level, (height, width) = planned.level, planned.sums
        units = _round_up(width if planned.kind == SUM_ROWS else height * width) // UNIT
        limit = min(7, self.max_shared_tile) if complete else min(self.max_tile, 7)
        if planned.kind != SUM_PLANES:
            tile = max(1, (24 << 10) // (BYTES * max(1, sources)))
        else:
            tile = max(4, SOURCES_NEAR // (BYTES * max(1, sources)))
        planned.tile = min(tile, limit, units)
        whole = level.norm is not None or level.mean
        rows_near = max(1, SUMS_NEAR // (4 * width * level.nodes))
        planned.strip_rows = height if whole or rows_near >= height else max(rows_near, min(height, 4))

    def _node_cost(self, planned: PlannedLevel, edges: NDArray) -> NDArray[np.float64]:
        """What each node costs, in multiply-adds of one vector."""
        height, width = planned.sums
        cost = edges * (height * width / UNIT + 1.0) + 20
        if planned.level.depthwise is not None:
            taps = planned.level.depthwise.kernel[0].size
            cost = cost + 1.3 * taps * planned.out[0] * max(1.0, planned.out[1] / UNIT)
        return cost

    def _schedule(self, planned: PlannedLevel, edges: _PlacedEdges, blocks: NDArray, shares: int) -> Schedule:
        """The level cut into shares of about the same cost."""
        rectify = planned.level.relu and planned.level.norm is None
        parts = _Parts(planned.out[0], rectify)
        nodes = planned.level.nodes
        if planned.kind != SUM_PLANES and shares > 1 and self._rows_may_split(planned):
            bounds = [planned.out[0] * share // shares for share in range(shares + 1)]
            parts.add_chunk(0, nodes, edges, blocks)
            parts.split_rows(bounds)
            return parts.schedule(list(range(shares + 1)))
        largest = self._largest_chunk(planned)
        share_begin = [0]
        for begin, end in pairwise(_split(self._node_cost(planned, np.bincount(edges.row, minlength=nodes)), shares)):
            pieces = -(-(end - begin) // largest)
            cuts = [begin + (end - begin) * i // pieces for i in range(pieces)] + [end] if pieces else []
            for first, stop in pairwise(cuts):
                chosen = slice(*np.searchsorted(edges.row, [first, stop]))
                parts.add_chunk(first, stop, edges.part(chosen, first), blocks[chosen])
            share_begin.append(len(parts.chunks))
        return parts.schedule(share_begin)

    def _rows_may_split(self, planned: PlannedLevel) -> bool:
        """Threads may take rows of the same planes: shifted copies are then made once. Rows that are narrower than a
        vector end in noise on the next row, which must be the same thread's; norms and means need all rows."""
        level = planned.level
        # a thread's rows must see a row of sums, not only padding
        seen = level.depthwise is None or level.depthwise.padding < level.depthwise.kernel.shape[1]
        alone = level.norm is None and not level.mean and planned.destination == TO_ARENA
        return seen and alone and planned.out[1] >= UNIT

    def _largest_chunk(self, planned: PlannedLevel) -> int:
        """Nodes a chunk: all, where their sums stay near; copies are made once a chunk, so always all of them."""
        if planned.kind != SUM_PLANES:
            return planned.level.nodes
        height, width = planned.sums
        return max(32, SUMS_NEAR // (4 * min(height, planned.strip_rows) * width))


@dataclass
class _PlacedEdges:
    """Where each edge ends (a node), where its source lies, and its weight."""

    row: NDArray[np.int64]
    offset: NDArray[np.int64]
    weight: NDArray[np.float32]

    def sorted(self) -> _PlacedEdges:
        """By node, then by place of the source: the order in which a node's edges are summed."""
        order = np.lexsort((self.offset, self.row))
        return _PlacedEdges(self.row[order], self.offset[order], self.weight[order])

    def part(self, chosen: slice | NDArray, first_row: int = 0) -> _PlacedEdges:
        return _PlacedEdges(self.row[chosen] - first_row, self.offset[chosen], self.weight[chosen])


class _Parts:
    """Collects the arrays of a schedule chunk by chunk."""

    def __init__(self, out_rows: int, rectify: bool) -> None:
        self.out_rows, self.rectify = out_rows, rectify
        self.chunks: list[tuple[int, int, int, int, int, int]] = []
        self.blocks: list[tuple[int, int, int, int]] = []
        self.runs: list[NDArray] = []
        self.order: list[NDArray] = []
        self.edges: list[NDArray] = []
        self.run_count = self.order_count = self.edge_count = 0

    def add_chunk(self, first: int, stop: int, edges: _PlacedEdges, blocks: NDArray) -> None:
        """Nodes first .. stop - 1, from which edges count their rows. The first block starts every node, the last may
        rectify it."""
        numbers = np.unique(blocks) if len(blocks) else np.zeros(1, np.int64)
        begin = len(self.blocks)
        for i, number in enumerate(numbers):
            inside = edges.part(blocks == number)
            every = i == 0 or (self.rectify and i == len(numbers) - 1)
            self._add_block(stop - first, inside, every)
        self.chunks.append((first, stop, begin, len(self.blocks), 0, self.out_rows))

    def split_rows(self, bounds: Sequence[int]) -> None:
        """The only chunk becomes one for each range of rows."""
        (chunk,) = self.chunks
        self.chunks = [(*chunk[:4], begin, end) for begin, end in pairwise(bounds)]

    def _add_block(self, nodes: int, edges: _PlacedEdges, every: bool) -> None:
        counts = np.bincount(edges.row, minlength=nodes)
        order = np.argsort(counts, kind="stable")
        order = order if every else order[counts[order] > 0]
        rank = np.zeros(nodes, np.int64)
        rank[order] = np.arange(len(order))
        lengths, members = np.unique(counts[order], return_counts=True)
        by_node = np.lexsort((edges.offset, rank[edges.row]))
        stream = np.empty(len(by_node), EDGE)
        stream["offset"], stream["weight"] = edges.offset[by_node], edges.weight[by_node]
        runs = np.empty(len(lengths), RUN)
        runs["edges"], runs["nodes"] = lengths, members
        runs["same"] = _same_sources(runs, stream["offset"])
        self.blocks.append((self.run_count, self.run_count + len(runs), self.order_count, self.edge_count))
        self.runs.append(runs)
        self.order.append(order.astype(np.int32))
        self.edges.append(stream)
        self.run_count += len(runs)
        self.order_count += len(order)
        self.edge_count += len(stream)

    def schedule(self, share_begin: list[int]) -> Schedule:
        return Schedule(
            np.array(share_begin, np.int32),
            np.array(self.chunks, CHUNK),
            np.array(self.blocks, BLOCK),
            np.concatenate(self.runs) if self.runs else np.empty(0, RUN),
            np.concatenate(self.order) if self.order else np.empty(0, np.int32),
            np.concatenate(self.edges) if self.edges else np.empty(0, EDGE),
        )


def _same_sources(runs: NDArray, offset: NDArray) -> list[bool]:
    """Of each run, whether all its nodes have the same sources."""
    ends = np.cumsum(runs["edges"] * runs["nodes"])
    parts = np.split(offset, ends[:-1])
    grids = [part.reshape(run["nodes"], run["edges"]) for part, run in zip(parts, runs, strict=True)]
    return [bool((grid == grid[:1]).all()) for grid in grids]


def _over_values(level: Level) -> bool:
    """The level makes sense over single values."""
    return level.edges is not None and level.edges.plain and level.norm is None and level.depthwise is None


def plane_stride(size: Size) -> int:
    """Floats from one plane to the next: whole units, room for a vector that begins with the last row, and, where a
    plane takes several tiles, an odd number of units, so that tiles of different planes do not meet in the same cache
    sets."""
    height, width = size
    units = max(_round_up(height * width), _round_up((height - 1) * width + UNIT)) // UNIT
    return UNIT * (units + 1 if units > 8 and units % 2 == 0 else units)


def _round_up(floats: int) -> int:
    return -(-floats // UNIT) * UNIT


def _taps(edges: Edges, offsets: NDArray[np.int64], copies: Copies | None) -> _PlacedEdges:
    """One edge for every multiply-add of a position; where there are copies, their numbers are the offsets."""
    if copies is None:
        return _PlacedEdges(edges.rows, offsets[edges.indices], edges.weight[:, 0, 0])
    weight = edges.weight.reshape(edges.count, prod(edges.kernel))
    edge, tap = np.nonzero(weight)
    return _PlacedEdges(edges.rows[edge], offsets[edges.indices[edge], tap], weight[edge, tap])


def _deal_out_rows(edges: Edges, copies: Copies, width: int) -> NDArray[np.int64]:
    """Sets the layout of dealt out rows, and gives the offset of every column [columns] and tap [taps] in it."""
    height, kernel_width = edges.kernel
    shift = np.arange(kernel_width) - edges.padding
    phase, x = shift % edges.stride, shift // edges.stride
    longest = max(-(-copies.size[1] // edges.stride), _round_up(width) + max(0, int(x.max())))
    copies.kernel_rows = height
    copies.row_border = _round_up(max(1, -int(x.min())))
    copies.row_length = copies.row_border + _round_up(longest) + UNIT
    rows = (ROWS_AT_ONCE - 1) * edges.stride + height
    column, y = np.arange(edges.columns), np.arange(height)
    row = (column[:, None, None] * rows + y[:, None]) * edges.stride + phase
    return (row * copies.row_length + copies.row_border + x).reshape(edges.columns, -1)


def _block_of_source(offset: NDArray, sources: int) -> NDArray[np.int64]:
    """Which block each edge belongs to: the sources in the order of their places, evenly in blocks of at most
    `sources`."""
    unique, rank = np.unique(offset, return_inverse=True)
    blocks = max(1, -(-len(unique) // sources))
    return rank.astype(np.int64) * blocks // max(1, len(unique))


def _split(cost: NDArray[np.float64], parts: int) -> list[int]:
    """Bounds of `parts` runs of nodes of about the same cost."""
    total = np.concatenate([[0.0], np.cumsum(cost)])
    inner = np.searchsorted(total, total[-1] * np.arange(1, parts) / parts)
    return [0, *(int(i) for i in inner), len(cost)]
