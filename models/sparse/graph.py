"""The channel graph: the nodes and edges that a wired network really computes with, as plain arrays.

A node is a channel. It sums its edges, each an earlier node's plane times a weight (or convolved with a small
kernel), adds a bias, and applies its own operations: instance norm, ReLU, a depthwise convolution, a pool. Nodes that
do so together form a level; the levels stand in the order in which they can be computed. The first level is the input
and the last one the output. Batch norms are folded into edges and biases.

Live, constant and dead nodes are told apart here. Live counts, every engine and the files of `models.sparse.storage`
are made from this graph alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.sparse.levels import Constant, Depthwise, Edges, InstanceNorm, Level, Size
from models.sparse.planes import apply_nodes, sum_edges

__all__ = [
    "ChannelGraph",
    "Constant",
    "Depthwise",
    "Edges",
    "InstanceNorm",
    "Level",
    "LevelCount",
    "Liveness",
    "Size",
    "compute_planes",
]


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

    @property
    def takes_vectors(self) -> bool:
        """The graph maps vectors to vectors, as linear layers do: it has no operation on planes."""
        inner = self.levels[1:]
        plain = all(level.edges is not None and level.edges.plain for level in inner)
        return self.flat and plain and not any(level.mean or level.norm or level.depthwise for level in inner)

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


def compute_planes(graph: ChannelGraph, image: NDArray) -> list[NDArray]:
    """The planes of every level for one image [channels, height, width], in float64: slow, plain, to compare with."""
    planes: list[NDArray] = []
    for level in graph.levels:
        if level.edges is None:
            sums = image.astype(np.float64)
        else:
            sums = sum_edges(level.edges, np.concatenate([planes[source] for source in level.sources]))
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
    return sum_edges(level.edges, np.concatenate(sources))


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
