"""How the work of a level over planes is dealt out: shares of threads, chunks of nodes, blocks of edges, runs.

Each node's sum has the same order whatever the number of threads, so that results do not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.sparse.plan_spec import (
    BLOCK,
    BYTES,
    CHUNK,
    EDGE,
    RUN,
    Destination,
    LevelKind,
    PlannedLevel,
    WorkSchedule,
)
from models.sparse.sources import PlacedEdges

SOURCES_NEAR = 56 << 10
"""Bytes of source tiles that a block of edges may touch: what the first-level cache holds, and what follows it
closely."""
SUMS_NEAR = 512 << 10
"""Bytes of sums that a chunk of nodes may keep before their own operations: a part of the second-level cache."""


def schedules(planned: PlannedLevel, edges: PlacedEdges, threads: int) -> list[WorkSchedule]:
    """A level's work for one thread and, where there are more, for all of them."""
    edges = edges.sorted()
    blocks = block_of_source(edges.offset, max(1, SOURCES_NEAR // (BYTES * planned.tile)))
    return [schedule(planned, edges, blocks, shares) for shares in ([1, threads] if threads > 1 else [1])]


def schedule(planned: PlannedLevel, edges: PlacedEdges, blocks: NDArray[np.int64], shares: int) -> WorkSchedule:
    """The level cut into shares of about the same cost. Edges are sorted; `blocks` [edges] says which each is in."""
    rectify = planned.level.relu and planned.level.norm is None
    builder = _Builder(planned.out[0], rectify)
    nodes = planned.level.nodes
    if planned.kind != LevelKind.SUM_PLANES and shares > 1 and _rows_may_split(planned):
        builder.add_chunk(0, nodes, edges, blocks)
        builder.split_rows([planned.out[0] * share // shares for share in range(shares + 1)])
        return builder.finish(list(range(shares + 1)))
    largest = _largest_chunk(planned)
    share_begin = [0]
    cost = node_cost(planned, np.bincount(edges.row, minlength=nodes))
    for begin, end in pairwise(split_evenly(cost, shares)):
        pieces = -(-(end - begin) // largest)
        cuts = [begin + (end - begin) * i // pieces for i in range(pieces)] + [end] if pieces else []
        for first, stop in pairwise(cuts):
            chosen = slice(*np.searchsorted(edges.row, [first, stop]))
            builder.add_chunk(first, stop, edges.part(chosen, first), blocks[chosen])
        share_begin.append(len(builder.chunks))
    return builder.finish(share_begin)


def node_cost(planned: PlannedLevel, edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """What each node of so many edges costs, in multiply-adds of one vector."""
    height, width = planned.sums
    cost: NDArray[np.float64] = edges * np.float64(height * width / planned.unit + 1.0) + 20
    if planned.level.depthwise is not None:
        taps = planned.level.depthwise.kernel[0].size
        cost = cost + 1.3 * taps * planned.out[0] * max(1.0, planned.out[1] / planned.unit)
    return cost


def split_evenly(cost: NDArray[np.float64], parts: int) -> list[int]:
    """Bounds of `parts` runs of nodes of about the same cost."""
    total = np.concatenate([[0.0], np.cumsum(cost)])
    inner = np.searchsorted(total, total[-1] * np.arange(1, parts) / parts)
    return [0, *(int(i) for i in inner), len(cost)]


def block_of_source(offset: NDArray[np.int64], sources: int) -> NDArray[np.int64]:
    """Which block each edge belongs to: the sources in the order of their places, evenly in blocks of at most
    `sources`."""
    unique, rank = np.unique(offset, return_inverse=True)
    blocks = max(1, -(-len(unique) // sources))
    return rank.astype(np.int64) * blocks // max(1, len(unique))


def _rows_may_split(planned: PlannedLevel) -> bool:
    """Threads may take rows of the same planes: shifted copies are then made once. Rows that are narrower than a
    vector end in noise on the next row, which must be the same thread's; norms and means need all rows."""
    level = planned.level
    # a thread's rows must see a row of sums, not only padding
    seen = level.depthwise is None or level.depthwise.padding < level.depthwise.kernel.shape[1]
    alone = level.norm is None and not level.mean and planned.destination == Destination.TO_ARENA
    return seen and alone and planned.out[1] >= planned.unit


def _largest_chunk(planned: PlannedLevel) -> int:
    """Nodes a chunk: all, where their sums stay near; copies are made once a chunk, so always all of them."""
    if planned.kind != LevelKind.SUM_PLANES:
        return planned.level.nodes
    height, width = planned.sums
    return max(32, SUMS_NEAR // (BYTES // planned.unit * min(height, planned.strip_rows) * width))


class _Builder:
    """Collects the arrays of a schedule chunk by chunk."""

    def __init__(self, out_rows: int, rectify: bool) -> None:
        self.out_rows, self.rectify = out_rows, rectify
        self.chunks: list[tuple[int, int, int, int, int, int]] = []
        self.blocks: list[tuple[int, int, int, int]] = []
        self.runs: list[NDArray] = []
        self.order: list[NDArray] = []
        self.edges: list[NDArray] = []
        self.run_count = self.order_count = self.edge_count = 0

    def add_chunk(self, first: int, stop: int, edges: PlacedEdges, blocks: NDArray[np.int64]) -> None:
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

    def _add_block(self, nodes: int, edges: PlacedEdges, every: bool) -> None:
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

    def finish(self, share_begin: list[int]) -> WorkSchedule:
        return WorkSchedule(
            np.array(share_begin, np.int32),
            np.array(self.chunks, CHUNK),
            np.array(self.blocks, BLOCK),
            np.concatenate([np.empty(0, RUN), *self.runs]),
            np.concatenate([np.empty(0, np.int32), *self.order]),
            np.concatenate([np.empty(0, EDGE), *self.edges]),
        )


def _same_sources(runs: NDArray, offset: NDArray) -> list[bool]:
    """Of each run, whether all its nodes have the same sources."""
    ends = np.cumsum(runs["edges"] * runs["nodes"])
    parts = np.split(offset, ends[:-1])
    grids = [part.reshape(run["nodes"], run["edges"]) for part, run in zip(parts, runs, strict=True)]
    return [bool((grid == grid[:1]).all()) for grid in grids]
