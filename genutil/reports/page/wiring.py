"""The wiring of a network as a picture needs it: nodes in groups, and which edges act in which state of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.inspection import evaluating
from models.networks.node_graphs import NodeGraph
from models.protocols import HasNodeGraphs
from models.sparse import ChannelGraph, channel_graphs
from models.wirings.other_edges import other_edges

FULL = 4096
"""Edges from which on a group that every source feeds is drawn by the strongest edges of its nodes alone."""

MOST_EDGES = 400_000
"""Edges of a page, at most; further ones that act in earlier states, then the weakest, are left out."""

MOST_STATES = 31
"""States of a training in one picture, at most: an edge's are bits of one number."""


@dataclass(frozen=True)
class Group:
    """Nodes that are computed together.

    Attributes:
        name: for people.
        labels: int [nodes], what each node is called within the group.
        full: edges of a group in which every source feeds every node, of which only the strongest are pictured; 0
            where every edge is.
    """

    name: str
    labels: NDArray[np.int64]
    full: int = 0


@dataclass(frozen=True)
class StateCount:
    """Integers of one state: edges that act, those that live, and nodes that live, on a path from image to logits."""

    acting: int
    live_edges: int
    live_nodes: int


@dataclass(frozen=True)
class Part:
    """A wiring to be pictured: a whole network from image to logits, or a part of it.

    Nodes are counted through all groups, in the order of computation, so that an edge's source is before its target.

    Attributes:
        name: of the module; "" for the whole network.
        title: for people.
        groups: of nodes.
        source, target: int64 [edges], the nodes of each edge that acts in any state.
        weight: float32 [edges], of the last state in which it acts; of a kernel its length, with the sign of its sum.
        states: uint32 [edges], bit i: the edge acts in state i.
        live: uint32 [nodes], bit i: the node lives in state i.
        slot: int64 [nodes], place within the group, those with most live edges in the middle.
        counts: of each state.
        left_out: edges that are not pictured, for there were too many.
    """

    name: str
    title: str
    groups: tuple[Group, ...]
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    weight: NDArray[np.float32]
    states: NDArray[np.uint32]
    live: NDArray[np.uint32]
    slot: NDArray[np.int64]
    counts: tuple[StateCount, ...]
    left_out: int = 0

    @property
    def first(self) -> NDArray[np.int64]:
        """int64 [groups + 1], where each group's nodes begin."""
        return np.cumsum([0, *(len(group.labels) for group in self.groups)])


@dataclass(frozen=True)
class _Seen:
    """One part in one state: its groups, the nodes that live, the edges with their weights, and its counts."""

    title: str
    groups: tuple[Group, ...]
    live: NDArray[np.bool_]
    source: NDArray[np.int64]
    target: NDArray[np.int64]
    weight: NDArray[np.float32]
    count: StateCount


def picture(network: nn.Module, earlier: Sequence[Mapping[str, Tensor]]) -> list[Part]:
    """The parts of a network's wiring, in `earlier` states of its training and, the last one, as they are now.

    Args:
        network: on the CPU, with the weights of now.
        earlier: masks [possible] of the edges that acted, by the names of their graphs; at most MOST_STATES - 1.
    """
    states = []
    for masks in [*earlier, None]:
        edges = nullcontext() if masks is None else other_edges(network, masks)
        with evaluating(network), edges:
            states.append(dict(_look(network)))
    if not states[-1]:
        return []
    share = MOST_EDGES // len(states[-1])
    return [_part(name, [state[name] for state in states], share) for name in states[-1]]


def _look(network: nn.Module) -> Iterator[tuple[str, _Seen]]:
    if isinstance(network, HasNodeGraphs):
        for name, nodes in network.node_graphs().items():
            yield name, _of_nodes(name, nodes)
        return
    for name, channels in channel_graphs(network).items():
        yield name, _of_channels(name, channels)


def _of_nodes(name: str, graph: NodeGraph) -> _Seen:
    """A graph of nodes: its levels are the groups."""
    order = np.array([node for level in graph.levels for node in level], dtype=np.int64)
    place = np.argsort(order)
    edges, weight = graph.edges.cpu().numpy(), graph.weight.float().cpu().numpy()
    acting = weight != 0
    source, target = place[edges[acting, 0]], place[edges[acting, 1]]
    groups = tuple(Group(f"level {i}", np.array(level)) for i, level in enumerate(graph.levels))
    live = np.ones(len(order), dtype=bool)
    if not acting.all():
        live = np.isin(np.arange(len(order)), np.concatenate([source, target]))
    count = StateCount(int(acting.sum()), int(acting.sum()), int(live.sum()))
    return _Seen(f"{name}: {graph.title}", groups, live, source, target, weight[acting], count)


def _of_channels(name: str, graph: ChannelGraph) -> _Seen:
    """A channel graph: its levels are the groups."""
    first = np.cumsum([0, *(level.nodes for level in graph.levels)])
    live = np.concatenate([alive.live for alive in graph.liveness])
    groups, found, acting, live_edges = [], [], 0, 0
    for i, level in enumerate(graph.levels):
        group = Group("image" if i == 0 and not name else level.name, level.channels)
        if level.edges is not None:
            columns = np.concatenate([np.arange(first[source], first[source + 1]) for source in level.sources])
            taps = level.edges.weight.reshape(level.edges.count, -1)
            weight = np.sqrt((taps**2).sum(1)) * np.where(taps.sum(1) < 0, -1, 1)
            ends = columns[level.edges.indices], first[i] + level.edges.rows
            acting += level.edges.count
            live_edges += int((live[ends[0]] & live[ends[1]]).sum())
            full = level.edges.count == level.nodes * level.edges.columns
            if full and level.edges.count > FULL:
                strongest = _strongest(np.abs(weight).reshape(level.nodes, level.edges.columns))
                ends, weight = (ends[0][strongest], ends[1][strongest]), weight[strongest]
                group = replace(group, full=level.edges.count)
            found.append((*ends, weight))
        groups.append(group)
    source, target, size = (np.concatenate(columns) for columns in zip(*found, strict=True))
    title = f"{name or 'from the image to the logits'}"
    count = StateCount(acting, live_edges, int(live.sum()))
    return _Seen(title, tuple(groups), live, source, target, size.astype(np.float32), count)


def _strongest(size: NDArray) -> NDArray[np.int64]:
    """Of a full matrix [nodes, sources], the entries that are the largest of their row or column, counted through."""
    rows, columns = size.shape
    chosen = [np.arange(rows) * columns + size.argmax(1), size.argmax(0) * columns + np.arange(columns)]
    return np.unique(np.concatenate(chosen))


def _part(name: str, seen: Sequence[_Seen], limit: int) -> Part:
    """One part in all states."""
    now = seen[-1]
    nodes = len(now.live)
    keys = [state.target * nodes + state.source for state in seen]
    every = np.unique(np.concatenate(keys))
    states, weight = np.zeros(len(every), np.uint32), np.zeros(len(every), np.float32)
    for i, (key, state) in enumerate(zip(keys, seen, strict=True)):
        at = np.searchsorted(every, key)
        states[at] |= np.uint32(1 << i)
        weight[at] = state.weight
    left_out = max(0, len(every) - limit)
    if left_out:
        acts = states >> np.uint32(len(seen) - 1) & np.uint32(1)
        keep = np.sort(np.lexsort((np.abs(weight), acts))[left_out:])
        every, states, weight = every[keep], states[keep], weight[keep]
    live = np.zeros(nodes, np.uint32)
    for i, state in enumerate(seen):
        live |= state.live.astype(np.uint32) << np.uint32(i)
    return Part(
        name=name,
        title=now.title,
        groups=now.groups,
        source=every % nodes,
        target=every // nodes,
        weight=weight,
        states=states,
        live=live,
        slot=_slots(now),
        counts=tuple(state.count for state in seen),
        left_out=left_out,
    )


def _slots(now: _Seen) -> NDArray[np.int64]:
    """Places within each group: the nodes with most live edges in the middle, ties by the places of what they feed."""
    ends = np.stack([now.source, now.target], axis=1)
    ends = ends[now.live[ends].all(axis=1)]
    nodes = len(now.live)
    degree = np.bincount(ends.ravel(), minlength=nodes)
    slot, rank = np.zeros(nodes, np.int64), np.zeros(nodes)
    stop = nodes
    for group in reversed(now.groups):
        count = len(group.labels)
        beyond = np.bincount(ends[:, 0], rank[ends[:, 1]], nodes) / degree.clip(1)
        here = slice(stop - count, stop)
        order = stop - count + np.lexsort((beyond[here], -degree[here]))
        steps = np.arange(count)
        rank[order] = steps
        slot[order] = count // 2 + np.where(steps % 2, -(steps + 1) // 2, steps // 2)
        stop -= count
    return slot


def thinned(count: int, most: int = MOST_STATES - 1) -> list[int]:
    """Which of `count` snapshots a picture shows, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


def as_masks(masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, Tensor]:
    """Masks of a snapshot as tensors."""
    return {name: torch.from_numpy(mask) for name, mask in masks.items()}
