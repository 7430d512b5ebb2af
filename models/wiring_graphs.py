"""The graph of a wiring alone, as measures of graphs want it: which node feeds which, and when each is computed.

A learned wiring is read off the channel graphs of its network: its nodes are channels, its edges those that lie on a
path from the image to the logits. Of a randomly wired network the nodes are those of its stages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.inspection import evaluating
from models.networks.node_graphs import NodeGraph
from models.protocols import HasNodeGraphs
from models.sparse.from_network import channel_graphs
from models.sparse.graph import ChannelGraph

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class WiringGraph:
    """A directed graph over the nodes 0..nodes-1 without parallel edges.

    Attributes:
        nodes: how many there are; some may be without edges.
        edges: [edges, 2]: from, to. An edge that leads back to its own node is one of a wiring that is run again.
        lengths: [edges], the steps of the computation from the start of an edge to its end.
        depth: nodes on the longest path that a signal takes.
    """

    nodes: int
    edges: Integers
    lengths: Integers
    depth: int

    @classmethod
    def acyclic(cls, nodes: int, edges: NDArray) -> WiringGraph:
        """A graph whose edges [edges, 2] all lead to a higher number; each node runs as soon as it can."""
        edges = np.unique(np.asarray(edges, dtype=np.int64).reshape(-1, 2), axis=0)
        level = np.zeros(nodes, dtype=np.int64)
        for start, end in edges[np.argsort(edges[:, 1], kind="stable")]:
            level[end] = max(level[end], level[start] + 1)
        depth = int(level.max()) + 1 if nodes else 0
        return cls(nodes, edges, level[edges[:, 1]] - level[edges[:, 0]], depth)


def wiring_graphs(network: nn.Module, parts: Mapping[str, ChannelGraph] | None = None) -> dict[str, WiringGraph]:
    """The graphs of a network's wiring: of each wired stage or layer by its name, and of all together under "".

    Nodes that nothing connects with the image and the output are counted, and have no edges. Where layers were wired
    one by one, none of their nodes is known to be one of another layer. Empty where nothing is wired.

    Args:
        parts: the network's channel graphs, where they have been made.
    """
    if isinstance(network, HasNodeGraphs):
        with evaluating(network):
            found = {name: _of_nodes(graph) for name, graph in network.node_graphs().items()}
        return {"": _union(list(found.values())), **found}
    parts = channel_graphs(network) if parts is None else parts
    wired = {name: graph for name, graph in parts.items() if graph.kept} or parts
    if len(wired) != 1:
        found = {name: _of_channels(graph) for name, graph in wired.items()}
        return {"": _union(list(found.values())), **found} if found else {}
    (graph,) = wired.values()
    stages = [] if len(graph.kept) < 2 else list(graph.kept)
    return {"": _of_channels(graph), **{stage: _of_channels(graph, stage) for stage in stages}}


def _of_nodes(graph: NodeGraph) -> WiringGraph:
    acting = graph.edges[graph.weight != 0]
    return WiringGraph.acyclic(sum(map(len, graph.levels)), acting.cpu().numpy())


def _union(graphs: Sequence[WiringGraph]) -> WiringGraph:
    """All graphs side by side."""
    starts = np.cumsum([0, *(graph.nodes for graph in graphs)])
    edges = [graph.edges + start for graph, start in zip(graphs, starts, strict=False)]
    lengths = np.concatenate([graph.lengths for graph in graphs])
    return WiringGraph(int(starts[-1]), np.concatenate(edges), lengths, max(graph.depth for graph in graphs))


def _of_channels(graph: ChannelGraph, stage: str | None = None) -> WiringGraph:
    """The live edges of the wired stages of a channel graph, or of one of them."""
    stages = [stage] if stage is not None else list(graph.kept)
    members = [i for i, level in enumerate(graph.levels) if level.sources and (level.stage in stages or not stages)]
    numbers = _Numbers(graph, members)
    longest = [np.ones(level.nodes, dtype=np.int64) for level in graph.levels]
    edges, lengths = [], []
    for i in members:
        level = graph.levels[i]
        own = numbers.of(i)
        taken = numbers.nodes_among_sources(i)
        alive = np.concatenate([graph.liveness[source].live for source in level.sources]) & taken
        acting = graph.liveness[i].live[level.incoming.rows] & alive[level.incoming.indices]
        row, column = level.incoming.rows[acting], level.incoming.indices[acting]
        start = np.concatenate([numbers.of(source, i) for source in level.sources])
        place = np.concatenate([np.full(graph.levels[source].nodes, source) for source in level.sources])
        edges.append(np.stack([start[column], own[row]], axis=1))
        lengths.append(i - place[column])
        before = np.concatenate([longest[source] for source in level.sources])
        np.maximum.at(longest[i], row, before[column] + 1)
    found, first = np.unique(np.concatenate(edges), axis=0, return_index=True)
    depth = max((int(longest[i].max(initial=0)) for i in members), default=0)
    return WiringGraph(numbers.count, found, np.concatenate(lengths)[first], depth)


class _Numbers:
    """The numbers of the nodes of some levels and of their sources: a channel of a stage is one node, whenever it runs.

    A stage that runs again and again starts from a level with as many nodes, which are its own at the first time.
    """

    def __init__(self, graph: ChannelGraph, members: Sequence[int]) -> None:
        self._graph = graph
        self._first: dict[str, int] = {}
        self.count = 0
        self._members = frozenset(members)
        sizes: dict[str, int] = {}
        for i in sorted({*members, *self._sources_that_are_nodes()}):
            level = graph.levels[i]
            if i in self._members or not self._is_start(i):
                sizes[self._group(i)] = max(sizes.get(self._group(i), 0), int(level.channels.max(initial=-1)) + 1)
        for name, size in sizes.items():
            self._first[name] = self.count
            self.count += size

    def of(self, index: int, reader: int | None = None) -> Integers:
        """Of the nodes of a level; `reader` is the member that they are sources of."""
        own = reader if reader is not None and index not in self._members and self._is_start(index) else index
        return self._first.get(self._group(own), 0) + self._graph.levels[index].channels

    def nodes_among_sources(self, index: int) -> NDArray[np.bool_]:
        """Which sources of a level are nodes: not those without a kernel that others have, which hand on a state."""
        every = not self._has_kernels(self._graph.levels[index].stage)
        levels = [self._graph.levels[source] for source in self._graph.levels[index].sources]
        return np.concatenate([np.full(level.nodes, every or level.depthwise is not None) for level in levels])

    def _sources_that_are_nodes(self) -> Iterator[int]:
        for i in self._members:
            every = not self._has_kernels(self._graph.levels[i].stage)
            for source in self._graph.levels[i].sources:
                if every or self._graph.levels[source].depthwise is not None:
                    yield source

    def _has_kernels(self, stage: str) -> bool:
        """Whether some of the sources of a stage's levels have a kernel."""
        levels = [self._graph.levels[i] for i in self._members]
        sources = [source for level in levels if level.stage == stage for source in level.sources]
        return any(self._graph.levels[source].depthwise is not None for source in sources)

    def _group(self, index: int) -> str:
        level = self._graph.levels[index]
        return level.stage if index in self._members else f"{level.stage} {level.name}"

    def _is_start(self, index: int) -> bool:
        """Whether a level that is no member holds the nodes of a stage that runs again, before it runs at first."""
        readers = [i for i in self._members if index in self._graph.levels[i].sources]
        stages = {self._graph.levels[i].stage for i in readers}
        if len(stages) != 1:
            return False
        of_stage = [self._graph.levels[i].channels for i in self._members if self._graph.levels[i].stage in stages]
        channels = np.unique(np.concatenate(of_stage))
        again = not self._graph.removable or len(channels) < sum(map(len, of_stage))
        return again and np.array_equal(self._graph.levels[index].channels, channels)
