"""What a plan of the native engine consists of: the same in Python as in models/native/evaluation/plan_spec.h."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from models.sparse.graph import Level, Size

BYTES = 64
"""Of a unit: lengths of planes and tiles are whole units."""
UNIT, HALF_UNIT = BYTES // 4, BYTES // 2
"""Floats, and halves, of a unit."""

ROWS_AT_ONCE = 8
"""Rows of sums whose source rows are dealt out together."""

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


class LevelKind(IntEnum):
    """What a level sums over: planes; shifted copies of planes, for edges with kernels; rows of planes, for complete
    graphs of such edges; single values."""

    SUM_PLANES = 0
    SUM_COPIES = 1
    SUM_ROWS = 2
    SUM_VALUES_DENSE = 3
    SUM_VALUES_SPARSE = 4


class Destination(IntEnum):
    """Where a level's planes or values go."""

    TO_ARENA = 0
    TO_VALUES = 1
    TO_OUTPUT = 2


class Phase(IntEnum):
    """What an engine spends time on: copies of sources (of the image, before all levels), sums over edges, and the
    nodes' own operations."""

    COPIES = 0
    SUMS = 1
    NODES = 2


@dataclass
class WorkSchedule:
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
    dealt out into `stride` rows of `row_length` numbers, the first `row_border` of them zero.
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
class ValueEdges:
    """Edges over single values: a dense matrix from value `begin` on, or rows of places."""

    begin: int = 0
    dense: NDArray[np.float32] | None = None
    indptr: NDArray[np.int64] | None = None
    index: NDArray[np.int32] | None = None
    weight: NDArray[np.float32] | None = None


@dataclass
class PlannedLevel:
    """A level with its place: `place` is where its planes (in the arena) or values begin, in numbers, of which a unit
    has `unit`."""

    level: Level
    kind: LevelKind
    destination: Destination
    sums: Size
    out: Size
    place: int
    stride: int = 0
    tile: int = 1
    strip_rows: int = 1
    schedules: list[WorkSchedule] = field(default_factory=list)
    copies: Copies | None = None
    values: ValueEdges | None = None
    unit: int = UNIT


@dataclass
class ExecutionPlan:
    """All that the kernel needs; lengths and places in numbers, floats or halves.

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
