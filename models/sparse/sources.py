"""Where the edges of a level over planes find their sources: planes in the arena, or copies of them made on the way."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from models.sparse.arena import round_up
from models.sparse.graph import Edges
from models.sparse.plan_spec import ROWS_AT_ONCE, UNIT, Copies


@dataclass
class PlacedEdges:
    """Where each edge ends (a node), where its source lies (in numbers), and its weight; all [edges]."""

    row: NDArray[np.int64]
    offset: NDArray[np.int64]
    weight: NDArray[np.float32]

    def sorted(self) -> PlacedEdges:
        """By node, then by place of the source: the order in which a node's edges are summed."""
        order = np.lexsort((self.offset, self.row))
        return PlacedEdges(self.row[order], self.offset[order], self.weight[order])

    def part(self, chosen: slice | NDArray, first_row: int = 0) -> PlacedEdges:
        """Some of the edges, with rows counted from `first_row`."""
        return PlacedEdges(self.row[chosen] - first_row, self.offset[chosen], self.weight[chosen])

    def with_more(self, row: NDArray[np.int64], offset: NDArray[np.int64], weight: float) -> PlacedEdges:
        """These edges and others of one weight."""
        weights = np.full(len(row), weight, np.float32)
        return PlacedEdges(
            np.concatenate([self.row, row]),
            np.concatenate([self.offset, offset]),
            np.concatenate([self.weight, weights]),
        )


def plain_edges(edges: Edges, places: NDArray[np.int64]) -> PlacedEdges:
    """Edges that scale a plane; `places` [columns] are the planes'."""
    return PlacedEdges(edges.rows, places[edges.indices], edges.weight[:, 0, 0])


def fills_rows(edges: Edges, width: int, unit: int = UNIT) -> bool:
    """Every tap of every possible edge acts, and rows of sums are wide: rows are dealt out rather than copied a tap."""
    return width >= unit and np.count_nonzero(edges.weight) == edges.nodes * edges.columns * prod(edges.kernel)


def shifted_copies(edges: Edges, copies: Copies) -> PlacedEdges:
    """One edge for every multiply-add of a position. An offset is the number of a copy as yet: its place depends on
    the tile.

    `copies` comes with the places of all source planes, and leaves with source and tap of each copy that is used.
    """
    used = np.zeros((edges.columns, *edges.kernel), dtype=bool)
    np.logical_or.at(used, edges.indices, edges.weight != 0)
    column, y, x = np.nonzero(used)
    number = np.full(used.shape, -1, np.int64)
    number[column, y, x] = np.arange(len(column))
    copies.source, copies.y, copies.x = copies.source[column], y.astype(np.int32), x.astype(np.int32)
    return _tap_edges(edges, number.reshape(edges.columns, -1))


def dealt_rows(edges: Edges, copies: Copies, width: int, unit: int = UNIT) -> PlacedEdges:
    """One edge for every multiply-add of a position, over rows that are dealt out; sets their layout in `copies`.

    Args:
        edges: all that are possible, with kernels.
        copies: of the source planes.
        width: of the sums.
        unit: numbers of a unit.
    """
    height, kernel_width = edges.kernel
    shift = np.arange(kernel_width) - edges.padding
    phase, x = shift % edges.stride, shift // edges.stride
    longest = max(-(-copies.size[1] // edges.stride), round_up(width, unit) + max(0, int(x.max())))
    copies.kernel_rows = height
    copies.row_border = round_up(max(1, -int(x.min())), unit)
    copies.row_length = copies.row_border + round_up(longest, unit) + unit
    rows = (ROWS_AT_ONCE - 1) * edges.stride + height
    column, y = np.arange(edges.columns), np.arange(height)
    row = (column[:, None, None] * rows + y[:, None]) * edges.stride + phase
    return _tap_edges(edges, (row * copies.row_length + copies.row_border + x).reshape(edges.columns, -1))


def _tap_edges(edges: Edges, offsets: NDArray[np.int64]) -> PlacedEdges:
    """An edge for every tap that is not zero; offsets [columns, taps]."""
    weight = edges.weight.reshape(edges.count, prod(edges.kernel))
    edge, tap = np.nonzero(weight)
    return PlacedEdges(edges.rows[edge], offsets[edges.indices[edge], tap], weight[edge, tap])
