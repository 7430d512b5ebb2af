"""The two primitives of training in C++, on tensors: sums over edges, and nodes (norm, ReLU, depthwise convolution).

Planes lie with a node's together over the batch: a tensor [channels, row] whose rows begin with height * width * images
numbers (y, x, image) and are an odd multiple of 512 bytes long, so that the same part of many rows fills a cache
evenly.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from models.native import library
from models.native.layout import check_layout

SOURCE = library.FOLDER / "training.cpp"
FLAGS = (*library.FLAGS, "-fopenmp")
ROW_UNIT = 512
"""Bytes: rows are an odd multiple of it long; as in training_sums.h."""
SOURCES_NEAR = 64
"""Sources whose tiles, of 512 bytes, the first-level cache holds beside all else."""
EDGES_A_VISIT = 8
"""Edges that a node should have in a block of sources, for loading and storing its sums to pay."""
FEW_EDGES = 0.3
"""Share of all edges up to which products at them alone are made, rather than a product of whole matrices.

At this share they take half its time with vectors of 64 bytes, 0.7 to 1.1 of it with those of 32.
"""
NAMES = {torch.float32: "float", torch.float64: "double"}

_I64, _I32, _POINTER = ctypes.c_int64, ctypes.c_int32, ctypes.c_void_p


class NormKind(IntEnum):
    """What a node's norm measures; as in training_node.h."""

    NONE = 0
    BATCH = 1
    INSTANCE = 2
    FIXED = 3


class Reached(Enum):
    """The entries of a matrix of weights that want a gradient: all; those that are not 0; also those that are -0."""

    ALL = auto()
    NONZERO = auto()
    MARKED = auto()


class EdgeListSpec(ctypes.Structure):
    """EdgeList of training_sums.h."""

    _fields_ = (
        *((name, _I64) for name in ("nodes", "sources", "block", "blocks")),
        ("begin", _POINTER),
        ("source", _POINTER),
        ("weight", _POINTER),
    )


class TermSpec(ctypes.Structure):
    """Term of training_sums.h."""

    _fields_ = (("edges", EdgeListSpec), ("planes", _POINTER), ("stride", _I64), ("first", _I64))


class NodeSpec(ctypes.Structure):
    """Node of training_node.h."""

    _fields_ = (
        *((name, _I64) for name in ("channels", "images", "height", "width", "stride")),
        *((name, _I64) for name in ("input_stride", "output_stride")),
        *((name, _I32) for name in ("norm", "relu", "threads", "accumulate")),
        ("epsilon", ctypes.c_double),
        *((name, _POINTER) for name in ("input", "gamma", "beta", "kernel", "output", "mean", "deviation", "variance")),
        *((name, _POINTER) for name in ("gradient", "to_input", "to_gamma", "to_beta", "to_kernel")),
    )


STRUCTURES = {"EdgeList": EdgeListSpec, "Term": TermSpec, "Node": NodeSpec}
"""What Python and C++ share in memory, by the names that it has there."""
CONSTANTS = {"ROW_UNIT": ROW_UNIT, **{f"{kind.name}_NORM" if kind else "NO_NORM": int(kind) for kind in NormKind}}
"""Numbers that both know."""


@cache
def load_kernel(flags: tuple[str, ...] = FLAGS) -> ctypes.CDLL:
    """The library, built where it is not built yet.

    Raises:
        library.NoCompilerError: it cannot be built.
        layout.LayoutError: its structs or constants are not those of this module.
    """
    kernel = library.load_library(SOURCE, flags)
    check_layout(kernel, SOURCE.name, STRUCTURES, CONSTANTS)
    return kernel


def row_length(positions: int, dtype: torch.dtype) -> int:
    """Numbers from one row of planes to the next."""
    units = -(-positions * dtype.itemsize // ROW_UNIT) | 1
    return units * ROW_UNIT // dtype.itemsize


def _call(name: str, dtype: torch.dtype) -> Callable[..., Any]:
    return getattr(load_kernel(), f"wirings_{name}_{NAMES[dtype]}")


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


@dataclass(frozen=True)
class EdgeList:
    """Edges by block of sources, then by node.

    Attributes:
        begin: [blocks, nodes + 1], int32: where the edges of a node in a block begin.
        source: [edges], int32: the row that an edge starts from.
        weight: [edges].
        sources: how many there are.
        block: how many a block has.
    """

    begin: Tensor
    source: Tensor
    weight: Tensor
    sources: int
    block: int

    @property
    def unreached(self) -> Tensor:
        """[nodes], bool: nodes that no edge ends in."""
        return (self.begin[:, 1:] == self.begin[:, :-1]).all(0)

    @property
    def spec(self) -> EdgeListSpec:
        blocks, bounds = self.begin.shape
        pointers = _at(self.begin), _at(self.source), _at(self.weight)
        return EdgeListSpec(bounds - 1, self.sources, self.block, blocks, *pointers)


class Edges:
    """The nonzero edges of a weight [nodes, sources]; its rows may lie apart.

    Args:
        weight: of the edges.
        marked: those of weight -0 as well.
    """

    def __init__(self, weight: Tensor, marked: bool = False) -> None:
        self.marked = marked
        self.weight = weight if weight.stride(1) == 1 or weight.shape[1] == 1 else weight.contiguous()
        self.nodes, self.sources = weight.shape

    def few_reached(self, reached: Reached) -> EdgeList | None:
        """The edges to each node that want a gradient; None for so many that a product of whole matrices is faster."""
        if reached is Reached.ALL:
            return None
        edges = self.to_nodes if reached is Reached.NONZERO else self._with_marked
        return edges if len(edges.source) <= FEW_EDGES * self.nodes * self.sources else None

    @cached_property
    def to_nodes(self) -> EdgeList:
        """The edges that end in each node."""
        dtype, threads = self.weight.dtype, torch.get_num_threads()
        shape = (_POINTER(_at(self.weight)), *map(_I64, (self.nodes, self.sources, self.weight.stride(0))))
        near = min(SOURCES_NEAR, max(self.sources, 1))
        begin = torch.empty(max(1, -(-self.sources // near)), self.nodes + 1, dtype=torch.int32)
        block = _I64()
        acting = _call("count_edges", dtype)(
            *shape, _I64(near), _I64(EDGES_A_VISIT), _POINTER(_at(begin)), ctypes.byref(block), self.marked, threads
        )
        begin = begin[: max(1, -(-self.sources // max(block.value, 1)))]
        source = torch.empty(acting, dtype=torch.int32)
        value = torch.empty(acting, dtype=dtype)
        _call("list_edges", dtype)(
            *shape, block, *(_POINTER(_at(tensor)) for tensor in (begin, source, value)), self.marked, threads
        )
        return EdgeList(begin, source, value, self.sources, block.value)

    @cached_property
    def _with_marked(self) -> EdgeList:
        """As `to_nodes`, with the edges of weight -0."""
        return Edges(self.weight, marked=True).to_nodes

    @cached_property
    def to_sources(self) -> EdgeList:
        """The same edges turned round: those that end in each source."""
        edges = self.to_nodes
        wanted = math.ceil(EDGES_A_VISIT * self.nodes * self.sources / max(len(edges.source), 1))
        block = max(1, min(max(SOURCES_NEAR, wanted), self.nodes))
        begin = torch.empty(max(1, -(-self.nodes // block)), self.sources + 1, dtype=torch.int32)
        source, value = torch.empty_like(edges.source), torch.empty_like(edges.weight)
        _call("turn_edges", value.dtype)(
            ctypes.byref(edges.spec),
            _I64(self.sources),
            _I64(block),
            *(_POINTER(_at(tensor)) for tensor in (begin, source, value)),
        )
        return EdgeList(begin, source, value, self.nodes, block)


@dataclass(frozen=True)
class Term:
    """Planes that are summed over edges.

    Attributes:
        edges: of more nodes than there are sums, perhaps.
        planes: rows of planes, of the sources.
        first: the node of the edges that the first of the sums is of.
    """

    edges: EdgeList
    planes: Tensor
    first: int = 0

    @property
    def spec(self) -> TermSpec:
        return TermSpec(self.edges.spec, _at(self.planes), self.planes.stride(0), self.first)


def sum_over_edges(terms: Sequence[Term], sums: Tensor, positions: int, *, accumulate: bool = False) -> None:
    """Sum the planes of sources over edges, into planes of nodes.

    Args:
        terms: one or more; the sums are over the edges of all of them.
        sums: rows of planes, of the nodes.
        positions: numbers of a plane.
        accumulate: add to what `sums` holds.

    Raises:
        MemoryError: there is not enough.
    """
    specs = (TermSpec * len(terms))(*(term.spec for term in terms))
    done = _call("sum_over_edges", sums.dtype)(
        specs,
        *map(_I64, (len(terms), len(sums), positions)),
        _POINTER(_at(sums)),
        _I64(sums.stride(0)),
        int(accumulate),
        torch.get_num_threads(),
    )
    if not done:
        raise MemoryError("There is not enough memory for sums over edges.")


def product_at_edges(edges: EdgeList, gradient: Tensor, sources: Tensor) -> Tensor:
    """The sum over positions of a node's gradient times a source, where an edge leads from the one to the other.

    Args:
        edges: to the nodes.
        gradient: [nodes, positions]; rows may lie apart.
        sources: [sources, positions], likewise.

    Returns:
        [nodes, sources], 0 without an edge.

    Raises:
        MemoryError: there is not enough.
    """
    matrix = gradient.new_zeros(len(gradient), edges.sources)
    done = _call("product_at_edges", gradient.dtype)(
        ctypes.byref(edges.spec),
        _POINTER(_at(gradient)),
        _I64(gradient.stride(0)),
        _POINTER(_at(sources)),
        *map(_I64, (sources.stride(0), gradient.shape[1])),
        _POINTER(_at(matrix)),
        _I64(matrix.stride(0)),
        torch.get_num_threads(),
    )
    if not done:
        raise MemoryError("There is not enough memory for products at edges.")
    return matrix


def zero_rows(planes: Tensor) -> Tensor:
    """Which rows of planes [channels, positions] are 0 throughout: [channels], bool."""
    zero = torch.empty(len(planes), dtype=torch.bool)
    _call("zero_rows", planes.dtype)(
        _POINTER(_at(planes)),
        *map(_I64, (planes.stride(0), *planes.shape)),
        _POINTER(_at(zero)),
        torch.get_num_threads(),
    )
    return zero


def copy_rows(planes: Tensor, rows: Tensor, images: int | None = None) -> tuple[Tensor, Tensor]:
    """Some rows of planes [channels, positions], close together, and their sums over the images of each place.

    Args:
        planes: rows may lie apart.
        rows: [rows], int64: which.
        images: of a place; None where no sums are wanted.

    Returns:
        [rows, positions] and [rows, positions / images], or [rows, 0] without sums.
    """
    count, positions = len(rows), planes.shape[1]
    copies = planes.new_empty(count, positions)
    sums = planes.new_empty(count, positions // images if images else 0)
    _call("copy_rows", planes.dtype)(
        _POINTER(_at(planes)),
        _I64(planes.stride(0)),
        _POINTER(_at(rows)),
        *map(_I64, (count, positions, images or 0)),
        *(_POINTER(_at(tensor)) for tensor in (copies, sums)),
        torch.get_num_threads(),
    )
    return copies, sums


def place(values: Tensor, matrix: Tensor, rows: Tensor, columns: Tensor) -> None:
    """Put values [rows, columns] where these rows and columns of a matrix meet; indices are int64, without doubles."""
    _call("place", values.dtype)(
        _POINTER(_at(values)),
        _POINTER(_at(matrix)),
        _I64(matrix.stride(0)),
        _POINTER(_at(rows)),
        _POINTER(_at(columns)),
        *map(_I64, values.shape),
        torch.get_num_threads(),
    )


def to_planes(images: Tensor, planes: Tensor) -> None:
    """Copy images [batch, channels, height, width], in either memory format, into planes [channels, row]."""
    _transpose("to_planes", images, planes)


def from_planes(planes: Tensor, images: Tensor) -> None:
    """Copy planes [channels, row] into images [batch, channels, height, width], in either memory format."""
    _transpose("from_planes", images, planes)


def _transpose(name: str, images: Tensor, planes: Tensor) -> None:
    batch, channels, height, width = images.shape
    _call(name, images.dtype)(
        _POINTER(_at(planes)),
        _I64(planes.stride(0)),
        _POINTER(_at(images)),
        *(_I64(images.stride(axis)) for axis in (0, 1, 3)),
        *map(_I64, (channels, height * width, batch)),
        torch.get_num_threads(),
    )


def places_adjoin(images: Tensor) -> bool:
    """Whether the places of an image lie evenly in memory, as `to_planes` takes them."""
    return images.stride(2) == images.shape[3] * images.stride(3)


def run_node(spec: NodeSpec, dtype: torch.dtype, *, backward: bool) -> None:
    """Run a node over its channels. Raises MemoryError."""
    name = "node_backward" if backward else "node_forward"
    if not _call(name, dtype)(ctypes.byref(spec)):
        raise MemoryError("There is not enough memory for the planes of a node.")
