"""Measures of a wiring's graph, the same for learned, random and drawn ones (docs/wirings.md defines them).

Path length and clustering are those of Watts and Strogatz, Collective dynamics of 'small-world' networks, Nature 393,
1998: of the undirected graph, where edges in both directions are one. Nodes without edges are left out of all measures
but the number of nodes that there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.wiring_graphs import Integers, WiringGraph, wiring_graphs

WORDS = 32
"""Words of 64 bits, a node each, that are worked on at a time."""


@dataclass(frozen=True)
class Cheap:
    """What takes a pass over the edges.

    Attributes:
        nodes, live_nodes: all; those with an edge.
        edges: that act, on a path from the image to the output where nodes are channels.
        degree_mean, degree_std, degree_max: edges that start or end in a node.
        in_degree_max, out_degree_max: edges that end in it, that start from it.
        edge_length_mean, edge_length_max: steps of the computation that an edge spans; 1 to the next.
        depth: nodes on the longest directed path.
    """

    nodes: int
    live_nodes: int
    edges: int
    degree_mean: float
    degree_std: float
    degree_max: int
    in_degree_max: int
    out_degree_max: int
    edge_length_mean: float
    edge_length_max: int
    depth: int


@dataclass(frozen=True)
class Measures(Cheap):
    """All measures.

    Attributes:
        path_length: mean number of edges on the shortest undirected path, over the pairs of nodes that have one.
        directed_path_length: the same along the direction of the edges.
        diameter: the longest of the shortest undirected paths.
        clustering: mean over nodes of the share of pairs of neighbours that are neighbours; 0 of one neighbour.
        components: parts that no edge connects; 1: the graph is connected.
        largest_component: share of the nodes that are in the largest of them.
    """

    path_length: float
    directed_path_length: float
    diameter: int
    clustering: float
    components: int
    largest_component: float


def cheap_measures(graph: WiringGraph) -> Cheap:
    """Those of `Cheap`; zeros where there is no edge."""
    into, out = degrees(graph)
    degree = (into + out)[into + out > 0]
    none = np.zeros(1, dtype=np.int64)
    found = degree if len(degree) else none
    lengths = graph.lengths if len(graph.lengths) else none
    return Cheap(
        nodes=graph.nodes,
        live_nodes=len(degree),
        edges=len(graph.edges),
        degree_mean=float(found.mean()),
        degree_std=float(found.std()),
        degree_max=int(found.max()),
        in_degree_max=int(into.max(initial=0)),
        out_degree_max=int(out.max(initial=0)),
        edge_length_mean=float(lengths.mean()),
        edge_length_max=int(lengths.max()),
        depth=graph.depth,
    )


def measures(graph: WiringGraph) -> Measures:
    """All measures of a graph. Takes seconds for 150,000 edges among 8,000 nodes; grows with edges times nodes."""
    start, end = _between_used(graph)
    nodes = int(max(start.max(initial=-1), end.max(initial=-1))) + 1
    both = np.unique(np.concatenate([start * nodes + end, end * nodes + start]))
    plain = _Reading.of(nodes, both // max(nodes, 1), both % max(nodes, 1))
    pairs, sizes = plain.paths()
    along, _ = _Reading.of(nodes, start, end).paths()
    return Measures(
        **vars(cheap_measures(graph)),
        path_length=_mean_distance(pairs),
        directed_path_length=_mean_distance(along),
        diameter=len(pairs),
        clustering=float(plain.clustering().mean()) if nodes else 0.0,
        components=round(float((1 / sizes).sum())),
        largest_component=float(sizes.max(initial=0) / max(nodes, 1)),
    )


def measures_of(network: nn.Module) -> dict[str, dict[str, Any]]:
    """The measures of a network's wiring as plain values: under "" of all, and by the names of several stages."""
    return {name: vars(measures(graph)) for name, graph in wiring_graphs(network).items()}


def degrees(graph: WiringGraph) -> tuple[Integers, Integers]:
    """Of each node, the edges that end in it and those that start from it: int64 [nodes] both."""
    start, end = graph.edges.T
    return np.bincount(end, minlength=graph.nodes), np.bincount(start, minlength=graph.nodes)


def _between_used(graph: WiringGraph) -> tuple[Integers, Integers]:
    """Start and end of every edge but those from a node to itself, among the nodes that have some, numbered anew."""
    edges = graph.edges[graph.edges[:, 0] != graph.edges[:, 1]]
    number = np.unique(edges, return_inverse=True)[1].reshape(-1, 2)
    return number[:, 0], number[:, 1]


@dataclass(frozen=True)
class _Reading:
    """From which nodes each node can be reached in one step.

    Attributes:
        nodes: how many there are.
        sources: [edges], sorted by the node that they lead to.
        readers: [nodes that an edge leads to], rising.
        first: for each of them, where its sources begin.
    """

    nodes: int
    sources: Integers
    readers: Integers
    first: Integers

    @classmethod
    def of(cls, nodes: int, start: Integers, end: Integers) -> _Reading:
        order = np.lexsort((start, end))
        readers, first = np.unique(end[order], return_index=True)
        return cls(nodes, start[order], readers, first)

    def paths(self) -> tuple[list[int], Integers]:
        """How many ordered pairs of nodes have a shortest path of 1, 2, … steps; how many nodes reach each, itself too.

        The paths from many nodes are followed at once, a bit each.
        """
        found: list[int] = []
        reached_by = np.zeros(self.nodes, dtype=np.int64)
        for begin in range(0, self.nodes, 64 * WORDS):
            here = np.arange(begin, min(begin + 64 * WORDS, self.nodes))
            reached = _bits_of(here, here - begin, self.nodes)
            distance, known = 0, len(here)
            while True:
                step = reached.copy()
                step[self.readers] |= np.bitwise_or.reduceat(reached[self.sources], self.first, axis=0)
                counts = _count(step)
                total = int(counts.sum())
                if total == known:
                    break
                if distance == len(found):
                    found.append(0)
                found[distance] += total - known
                reached, known, distance = step, total, distance + 1
            reached_by += counts
        return found, reached_by

    def clustering(self) -> NDArray[np.float64]:
        """Of each node of an undirected graph, the share of pairs of its neighbours that are neighbours."""
        degree = np.diff([*self.first, len(self.sources)])  # every node of the graph has an edge
        ends = np.repeat(np.arange(self.nodes), degree)
        closed = np.zeros(len(ends), dtype=np.int64)
        for begin in range(0, self.nodes, 64 * WORDS):
            inside = (self.sources >= begin) & (self.sources < begin + 64 * WORDS)
            neighbours = _bits_of(ends[inside], self.sources[inside] - begin, self.nodes)
            closed += _count(neighbours[self.sources] & neighbours[ends])
        triangles = np.bincount(ends, weights=closed, minlength=self.nodes)
        return triangles / np.maximum(degree * (degree - 1), 1)


def _bits_of(rows: Integers, bits: Integers, nodes: int) -> NDArray[np.uint64]:
    """uint64 [nodes, WORDS], one bit set for each row."""
    words = np.zeros((nodes, WORDS), dtype=np.uint64)
    np.bitwise_or.at(words, (rows, bits // 64), np.uint64(1) << (bits % 64).astype(np.uint64))
    return words


def _count(words: NDArray[np.uint64]) -> Integers:
    """The bits that are set in each row."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        return np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    return np.unpackbits(words.view(np.uint8), axis=1).sum(axis=1, dtype=np.int64)


def _mean_distance(pairs: list[int]) -> float:
    return sum(distance * count for distance, count in enumerate(pairs, 1)) / sum(pairs) if pairs else 0.0
