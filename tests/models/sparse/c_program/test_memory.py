from __future__ import annotations

from math import prod

import numpy as np
import pytest

from models.sparse import channel_graph
from models.sparse.c_program.memory import plan_memory, source_nodes, works_in_scratch
from models.sparse.graph import ChannelGraph
from tests.models.sparse.networks import mobilenet
from tests.models.sparse.random_graphs import random_graph


def overwritten(graph: ChannelGraph, size: tuple[int, int], place: np.ndarray, length: int) -> int:
    """Sources that hold another node's plane when they are read, when the nodes are computed one by one."""
    first = np.cumsum([0, *(level.nodes for level in graph.levels)])
    owner = np.full(length, -1)
    lost = 0
    for level, begin, (_, planes) in zip(graph.levels, first, graph.sizes(size), strict=False):
        lengths = np.repeat([prod(p) for _, p in graph.sizes(size)], [entry.nodes for entry in graph.levels])
        for row in range(level.nodes):
            node = int(begin) + row
            if level.edges is not None:
                columns = level.edges.indices[level.edges.indptr[row] : level.edges.indptr[row + 1]]
                sources = source_nodes(graph, level, first)[columns]
                if not works_in_scratch(level):  # the sums grow in the node's own place
                    owner[place[node] : place[node] + prod(planes)] = node
                lost += sum((owner[place[s] : place[s] + lengths[s]] != s).any() for s in sources)
            owner[place[node] : place[node] + prod(planes)] = node
    outputs = range(int(first[-2]), int(first[-1]))
    return lost + sum(owner[place[node]] != node for node in outputs)


@pytest.mark.parametrize("seed", range(12))
def test_no_plane_is_overwritten_before_it_is_read(seed: int):
    graph, size = random_graph(seed)
    pruned = graph.pruned(size)
    plan = plan_memory(pruned, size)
    assert overwritten(pruned, size, plan.place, plan.scratch) == 0
    assert plan.scratch <= plan.length


def test_the_check_finds_what_is_overwritten():
    graph, size = random_graph(0)
    pruned = graph.pruned(size)
    plan = plan_memory(pruned, size)
    assert overwritten(pruned, size, np.zeros_like(plan.place), plan.scratch) > 0


def test_memory_is_used_again():
    graph = channel_graph(mobilenet()).pruned((32, 32))
    plan = plan_memory(graph, (32, 32))
    apart = sum(
        level.nodes * prod(planes) for level, (_, planes) in zip(graph.levels, graph.sizes((32, 32)), strict=True)
    )
    assert plan.length < 0.6 * apart
