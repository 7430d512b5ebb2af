"""The channel graph: the nodes and edges that a wired network really computes with, as plain arrays.

A node is a channel. It sums its edges, each an earlier node's plane times a weight (or convolved with a small
kernel), adds a bias, and applies its own operations: instance norm, ReLU, a depthwise convolution, a pool. Nodes that
do so together form a level; the levels stand in the order in which they can be computed. The first level is the input
and the last one the output. Batch norms are folded into edges and biases.

Profiling, engines, pictures and exports read this and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float32]
Size = tuple[int, int]
"""Height and width of a plane, in pixels."""


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

    def sum_size(self, source: Size) -> Size:
        """Size of the sums, from the sources' size."""
        edges = self.edges
        if edges is None:
            return source
        return _convolved(source, edges.kernel, edges.stride, edges.padding)

    def plane_size(self, sums: Size) -> Size:
        """Size of what the nodes give, from the size of the sums."""
        return (1, 1) if self.mean else self.convolved_size(sums)

    def convolved_size(self, sums: Size) -> Size:
        """Size of the planes before the mean, from the size of the sums."""
        if self.depthwise is None:
            return sums
        return _convolved(sums, self.depthwise.kernel.shape[1:], self.depthwise.stride, self.depthwise.padding)

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


@dataclass(frozen=True)
class Liveness:
    """What the nodes of a level are worth: bool [nodes] each.

    Attributes:
        varying: the sum depends on the input.
        reaching: the output depends on what the node gives.
    """

    varying: NDArray[np.bool_]
    reaching: NDArray[np.bool_]

    @property
    def live(self) -> NDArray[np.bool_]:
        """On a path from the input to the output."""
        return self.varying & self.reaching

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Gives the output the same plane whatever the input is."""
        return ~self.varying & self.reaching


@dataclass(frozen=True)
class LevelCount:
    """Integers of a level. Edges of a kernel count once; `parameters` and `multiply_adds` count what the live nodes and
    edges need: taps of kernels; biases and norms are not counted, a mean counts one for each value.

    Attributes:
        with_input, with_output: nodes with an edge that ends, or starts, in them.
        sum_size, plane_size: of the sums and of what the nodes give, in pixels.
    """

    name: str
    stage: str
    nodes: int
    live_nodes: int
    constant_nodes: int
    with_input: int
    with_output: int
    edges: int
    live_edges: int
    sum_size: Size
    plane_size: Size
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class ChannelGraph:
    """Levels of nodes in the order in which they are computed; the first is the input, the last the output.

    Attributes:
        flat: the output is [batch, nodes], without height and width.
        image_size: of the input that the constant planes are made for; None where there are none.
        kept: edge budget of each stage that has a wiring.
        removable: nodes that do not reach the output may be removed. False where the output feeds back into the
            input, as in the function of an ordinary differential equation.
    """

    levels: tuple[Level, ...]
    flat: bool = True
    image_size: Size | None = None
    kept: dict[str, int] = field(default_factory=dict)
    removable: bool = True

    @property
    def edge_count(self) -> int:
        return sum(level.edges.count for level in self.levels if level.edges is not None)

    def columns_of(self, level: Level) -> list[slice]:
        """For each source of a level, its columns among the level's edges."""
        ends = np.cumsum([0, *(self.levels[source].nodes for source in level.sources)])
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]

    def sizes(self, image_size: Size) -> list[tuple[Size, Size]]:
        """Size of the sums and of the planes of every level. Raises ValueError where an image is too small or sources
        differ."""
        sizes: list[tuple[Size, Size]] = []
        for level in self.levels:
            sources = {sizes[source][1] for source in level.sources} or {image_size}
            if len(sources) > 1:
                raise ValueError(f"The sources of {level.name} have planes of different sizes: {sorted(sources)}.")
            sums = level.sum_size(sources.pop())
            planes = level.plane_size(sums)
            convolved = level.convolved_size(sums)
            inside = level.window is None or (level.window[1] <= convolved[0] and level.window[3] <= convolved[1])
            if min(*sums, *convolved) < 1 or not inside:
                raise ValueError(f"Images of {image_size[0]}x{image_size[1]} pixels are too small for {level.name}.")
            sizes.append((sums, planes))
        return sizes

    @cached_property
    def liveness(self) -> tuple[Liveness, ...]:
        """What each level's nodes are worth."""
        varying: list[NDArray[np.bool_]] = []
        for level in self.levels:
            if level.edges is None:
                varying.append(np.ones(level.nodes, dtype=bool))
                continue
            sources = np.concatenate([varying[source] for source in level.sources])
            fed = level.edges.rows[sources[level.edges.indices]]
            varying.append(np.bincount(fed, minlength=level.nodes) > 0)
        reaching = [np.full(level.nodes, not self.removable) for level in self.levels]
        reaching[-1][:] = True
        for level, reaches in zip(reversed(self.levels), reversed(reaching), strict=True):
            if level.edges is None:
                continue
            used = np.zeros(level.edges.columns, dtype=bool)
            used[level.edges.indices[reaches[level.edges.rows]]] = True
            for source, columns in zip(level.sources, self.columns_of(level), strict=True):
                reaching[source] |= used[columns]
        return tuple(Liveness(a, b) for a, b in zip(varying, reaching, strict=True))

    def check_alive(self) -> None:
        """Raises ValueError, with the stage, where no path of edges leads from the input to the output.

        A layer that reads the input itself may have lost all its edges: it is one among others, and gives its biases.
        """
        if self.liveness[-1].varying.any() or 0 in self.levels[-1].sources:
            return
        for level, alive in zip(self.levels, self.liveness, strict=True):
            if not alive.varying.any():
                where = level.stage or level.name
                raise ValueError(f"No path of edges leads from the image to the output: {where} has no live edge.")

    def pruned(self, image_size: Size) -> ChannelGraph:
        """The same function with the live nodes alone.

        What constant nodes give is worked out for images of `image_size` and added to the biases where it is the same
        in the whole plane, else kept as constant planes. Channels of the input and of the output stay.
        """
        self.check_alive()
        constants = _constant_planes(self, image_size)
        keep = [alive.live for alive in self.liveness]
        keep[0] = np.ones_like(keep[0])
        keep[-1] = np.ones_like(keep[-1])
        number = np.cumsum([mask.any() for mask in keep]) - 1
        levels = []
        for level, mask in zip(self.levels, keep, strict=True):
            if not mask.any():
                continue
            if level.sources:
                level = _without_constants(self, level, mask, keep, constants)
                sources = [source for source in level.sources if keep[source].any()]
                level = replace(level, sources=tuple(int(number[source]) for source in sources))
            levels.append(level)
        fixed = any(level.constant is not None for level in levels)
        return replace(self, levels=tuple(levels), image_size=image_size if fixed else None)

    def upto(self, index: int) -> ChannelGraph:
        """The part of the graph that ends in the planes of one level."""
        return replace(self, levels=self.levels[: index + 1], flat=False)

    def counts(self, image_size: Size) -> list[LevelCount]:
        """The integers of every level at a size of the images."""
        with_output = [np.zeros(level.nodes, dtype=bool) for level in self.levels]
        for level in self.levels:
            if level.edges is not None:
                used = np.zeros(level.edges.columns, dtype=bool)
                used[level.edges.indices] = True
                for source, columns in zip(level.sources, self.columns_of(level), strict=True):
                    with_output[source] |= used[columns]
        return [
            self._count(i, sums, planes, int(with_output[i].sum()))
            for i, (sums, planes) in enumerate(self.sizes(image_size))
        ]

    def _count(self, index: int, sums: Size, planes: Size, with_output: int) -> LevelCount:
        level, alive = self.levels[index], self.liveness[index]
        edges, live, taps = 0, 0, 0
        if level.edges is not None:
            edges = level.edges.count
            sources = np.concatenate([self.liveness[source].live for source in level.sources])
            acting = alive.live[level.edges.rows] & sources[level.edges.indices]
            live = int(acting.sum())
            taps = int(np.count_nonzero(level.edges.weight[acting]))
        nodes = int(alive.live.sum())
        parameters, multiply_adds = taps, taps * sums[0] * sums[1]
        size = level.convolved_size(sums)
        if level.depthwise is not None:
            kernel = level.depthwise.kernel[0].size
            parameters += kernel * nodes
            multiply_adds += kernel * nodes * size[0] * size[1]
        if level.mean:
            top, bottom, left, right = level.window or (0, size[0], 0, size[1])
            multiply_adds += nodes * (bottom - top) * (right - left)
        return LevelCount(
            name=level.name,
            stage=level.stage,
            nodes=level.nodes,
            live_nodes=nodes,
            constant_nodes=int(alive.constant.sum()),
            with_input=level.nodes if level.edges is None else int((np.diff(level.edges.indptr) > 0).sum()),
            with_output=with_output,
            edges=edges,
            live_edges=live,
            sum_size=sums,
            plane_size=planes,
            parameters=parameters,
            multiply_adds=multiply_adds,
        )


def _convolved(size: Size, kernel: Sequence[int], stride: int, padding: int) -> Size:
    height, width = ((side + 2 * padding - k) // stride + 1 for side, k in zip(size, kernel, strict=True))
    return height, width


def convolve_planes(planes: NDArray, kernel: NDArray, stride: int, padding: int) -> NDArray:
    """Each plane [n, height, width] convolved with its own kernel [n, kernel height, kernel width]; zero padding."""
    height, width = _convolved(planes.shape[1:], kernel.shape[1:], stride, padding)
    padded = np.pad(planes, ((0, 0), (padding, padding), (padding, padding)))
    result = np.zeros((len(planes), height, width), planes.dtype)
    for y in range(kernel.shape[1]):
        for x in range(kernel.shape[2]):
            rows = slice(y, y + stride * (height - 1) + 1, stride)
            columns = slice(x, x + stride * (width - 1) + 1, stride)
            result += kernel[:, y, x, None, None] * padded[:, rows, columns]
    return result


def _sum_edges(edges: Edges, planes: NDArray) -> NDArray:
    """The sums [nodes, height, width] over the edges of source planes [columns, height, width]."""
    if edges.plain:
        sums = sparse.csr_array((edges.weight[:, 0, 0], edges.indices, edges.indptr), (edges.nodes, edges.columns))
        return (sums @ planes.reshape(len(planes), -1)).reshape(-1, *planes.shape[1:])
    sums = np.zeros(
        (edges.nodes, *_convolved(planes.shape[1:], edges.kernel, edges.stride, edges.padding)), planes.dtype
    )
    convolved = convolve_planes(planes[edges.indices], edges.weight, edges.stride, edges.padding)
    np.add.at(sums, edges.rows, convolved)
    return sums


def apply_nodes(level: Level, sums: NDArray) -> NDArray:
    """What the nodes of a level give for their sums [nodes, height, width], in numpy, for checks and constants."""
    if level.norm is not None:
        centred = sums - sums.mean(axis=(1, 2), keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=(1, 2), keepdims=True) + level.norm.eps)
        sums = centred / deviation * level.norm.weight[:, None, None] + level.norm.bias[:, None, None]
    if level.relu:
        sums = np.maximum(sums, 0)
    if level.depthwise is not None:
        sums = convolve_planes(sums, level.depthwise.kernel, level.depthwise.stride, level.depthwise.padding)
        sums = sums + level.depthwise.bias[:, None, None]
    if level.window is not None:
        top, bottom, left, right = level.window
        sums = sums[:, top:bottom, left:right]
    return sums.mean(axis=(1, 2), keepdims=True) if level.mean else sums


def run(graph: ChannelGraph, image: NDArray) -> list[NDArray]:
    """The planes of every level for one image [channels, height, width], in float64: slow, plain, to compare with."""
    planes: list[NDArray] = []
    for level in graph.levels:
        if level.edges is None:
            sums = image.astype(np.float64)
        else:
            sums = _sum_edges(level.edges, np.concatenate([planes[source] for source in level.sources]))
            sums = sums + level.bias[:, None, None]
        if level.constant is not None:
            sums[level.constant.nodes] += level.constant.planes
        planes.append(apply_nodes(level, sums))
    return planes


def _constant_planes(graph: ChannelGraph, image_size: Size) -> list[NDArray]:
    """What the constant nodes of every level give, float64 [constant nodes, height, width]."""
    planes: list[NDArray] = []
    constant = [alive.constant for alive in graph.liveness]
    for level, mask, (sums_size, _) in zip(graph.levels, constant, graph.sizes(image_size), strict=True):
        if level.edges is None or not mask.any():
            planes.append(np.zeros((0, 0, 0)))
            continue
        part = level.select(mask, np.concatenate([constant[source] for source in level.sources]))
        sums = np.broadcast_to(part.bias[:, None, None], (part.nodes, *sums_size)).astype(np.float64)
        sums = sums + _sum_constants(graph, part, planes, sums_size)
        planes.append(apply_nodes(part, sums))
    return planes


def _sum_constants(graph: ChannelGraph, level: Level, planes: list[NDArray], size: Size) -> NDArray:
    """The sums [nodes, height, width] over a level's edges from constant nodes."""
    assert level.edges is not None
    sources = [planes[source] for source in level.sources if len(planes[source])]
    if not sources:
        return np.zeros((level.nodes, *size))
    return _sum_edges(level.edges, np.concatenate(sources))


def _without_constants(
    graph: ChannelGraph, level: Level, mask: NDArray, keep: list[NDArray], constants: list[NDArray]
) -> Level:
    """The nodes of `mask` with their edges from live nodes; those from constant nodes become biases and constant
    planes."""
    fixed = np.concatenate([graph.liveness[source].constant for source in level.sources])
    size = next((p.shape[1:] for p in (constants[source] for source in level.sources) if len(p)), None)
    live = level.select(mask, np.concatenate([keep[source] for source in level.sources]))
    if size is None:
        return live
    part = level.select(mask, fixed)
    sums = _sum_constants(graph, part, constants, size)
    uniform = (sums == sums[:, :1, :1]).all(axis=(1, 2))
    bias = live.bias + np.where(uniform, sums[:, 0, 0], 0)
    nodes = np.flatnonzero(~uniform)
    constant = Constant(nodes, sums[nodes].astype(np.float32)) if len(nodes) else None
    return replace(live, bias=bias.astype(np.float32), constant=constant)
