"""Levels: the nodes of a channel graph that are computed together, and their edges, as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse

Floats = NDArray[np.float32]
Size = tuple[int, int]
"""Height and width of a plane, in pixels."""


def convolved(size: Size, kernel: Sequence[int], stride: int, padding: int) -> Size:
    """Size of a plane of `size` behind a kernel of the given height and width."""
    height, width = ((side + 2 * padding - k) // stride + 1 for side, k in zip(size, kernel, strict=True))
    return height, width


@dataclass(frozen=True)
class Edges:
    """Who feeds whom, in compressed rows: a row is a node of the level, a column one of its sources, counted through.

    Attributes:
        columns: number of source nodes.
        indptr: int64 [nodes + 1], where each node's edges begin.
        indices: int32 [edges], the source of each, rising within a node.
        weight: float32 [edges, kernel height, kernel width]; a plain edge has a kernel of 1x1.
        stride, padding: of the kernel, the same both ways; the padding is zero.
    """

    columns: int
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weight: Floats
    stride: int = 1
    padding: int = 0

    @classmethod
    def from_dense(cls, weight: NDArray, stride: int = 1, padding: int = 0) -> Edges:
        """The edges that are not zero in a weight [nodes, columns] or [nodes, columns, kernel height, kernel width]."""
        weight = np.asarray(weight, dtype=np.float32)
        if weight.ndim == 2:
            weight = weight[:, :, None, None]
        acting = weight.any(axis=(2, 3))
        row, column = np.nonzero(acting)
        indptr = np.concatenate([[0], np.cumsum(acting.sum(axis=1))]).astype(np.int64)
        return cls(weight.shape[1], indptr, column.astype(np.int32), weight[row, column], stride, padding)

    @property
    def nodes(self) -> int:
        return len(self.indptr) - 1

    @property
    def count(self) -> int:
        return len(self.indices)

    @property
    def kernel(self) -> Size:
        return self.weight.shape[1], self.weight.shape[2]

    @property
    def plain(self) -> bool:
        """Each edge only scales a plane."""
        return self.kernel == (1, 1) and self.stride == 1 and self.padding == 0

    @property
    def rows(self) -> NDArray[np.int64]:
        """int64 [edges], the node that each edge ends in."""
        return np.repeat(np.arange(self.nodes), np.diff(self.indptr))

    def matrix(self) -> sparse.csr_array:
        """The weights [nodes, columns * kernel height * kernel width], columns as `torch.nn.functional.unfold` orders
        them."""
        from scipy import sparse

        taps = self.kernel[0] * self.kernel[1]
        indices = (self.indices.astype(np.int64)[:, None] * taps + np.arange(taps)).reshape(-1)
        shape = (self.nodes, self.columns * taps)
        return sparse.csr_array((self.weight.reshape(-1), indices, self.indptr * taps), shape=shape)

    def dense(self) -> Floats:
        """The weight [nodes, columns, kernel height, kernel width] with zeros where there is no edge."""
        return self.matrix().toarray().reshape(self.nodes, self.columns, *self.kernel)

    def select(self, rows: NDArray, columns: NDArray) -> Edges:
        """The edges between the nodes and the sources chosen by two masks, numbered anew."""
        keep = rows[self.rows] & columns[self.indices]
        number = np.cumsum(columns) - 1
        counts = np.bincount(self.rows[keep], minlength=self.nodes)[rows]
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        indices = number[self.indices[keep]].astype(np.int32)
        return replace(self, columns=int(columns.sum()), indptr=indptr, indices=indices, weight=self.weight[keep])


@dataclass(frozen=True)
class Depthwise:
    """A convolution of each plane with a kernel of its own: kernel float32 [nodes, height, width], bias float32
    [nodes]."""

    kernel: Floats
    bias: Floats
    stride: int = 1
    padding: int = 1


@dataclass(frozen=True)
class InstanceNorm:
    """Each plane standardised by its own mean and (biased) variance, then scaled and shifted: float32 [nodes] both."""

    weight: Floats
    bias: Floats
    eps: float = 1e-5


@dataclass(frozen=True)
class Constant:
    """Planes that stand in for removed nodes which were constant: float32 [len(nodes), height, width], added to the
    sums of the nodes with these positions in the level."""

    nodes: NDArray[np.int64]
    planes: Floats


@dataclass(frozen=True)
class Level:
    """Nodes computed together. They apply, in this order: the sum of their edges, bias and constant planes; instance
    norm; ReLU; depthwise convolution; the mean over the plane.

    Attributes:
        name: unique, for people.
        stage: the module of the network that the edges belong to.
        channels: int64 [nodes], which row of the stage's matrix each node is.
        sources: the levels that the edges start from, as indices; their nodes are the columns of the edges. Empty for
            the input.
        mean: the nodes give the mean of their planes, 1x1.
        window: the rows and columns (first row, end row, first column, end column) that the mean is taken over; None
            for all.
        probe: module and number of the call whose output equals this level's, where there is one.
    """

    name: str
    stage: str
    channels: NDArray[np.int64]
    sources: tuple[int, ...] = ()
    edges: Edges | None = None
    bias: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    constant: Constant | None = None
    norm: InstanceNorm | None = None
    relu: bool = False
    depthwise: Depthwise | None = None
    mean: bool = False
    window: tuple[int, int, int, int] | None = None
    probe: tuple[str, int] | None = None

    @property
    def nodes(self) -> int:
        return len(self.channels)

    @property
    def incoming(self) -> Edges:
        """The edges of a level that is not the input."""
        assert self.edges is not None, f"{self.name} is the input"
        return self.edges

    def sum_size(self, source: Size) -> Size:
        """Size of the sums, from the sources' size."""
        edges = self.edges
        if edges is None:
            return source
        return convolved(source, edges.kernel, edges.stride, edges.padding)

    def plane_size(self, sums: Size) -> Size:
        """Size of what the nodes give, from the size of the sums."""
        return (1, 1) if self.mean else self.convolved_size(sums)

    def convolved_size(self, sums: Size) -> Size:
        """Size of the planes before the mean, from the size of the sums."""
        if self.depthwise is None:
            return sums
        return convolved(sums, self.depthwise.kernel.shape[1:], self.depthwise.stride, self.depthwise.padding)

    def select(self, keep: NDArray, columns: NDArray) -> Level:
        """The nodes of a mask, with the edges from the sources of another mask."""
        norm, depthwise, edges = self.norm, self.depthwise, self.edges
        if norm is not None:
            norm = replace(norm, weight=norm.weight[keep], bias=norm.bias[keep])
        if depthwise is not None:
            depthwise = replace(depthwise, kernel=depthwise.kernel[keep], bias=depthwise.bias[keep])
        if edges is not None:
            edges = edges.select(keep, columns)
        return replace(
            self,
            channels=self.channels[keep],
            edges=edges,
            bias=self.bias[keep],
            norm=norm,
            depthwise=depthwise,
        )
