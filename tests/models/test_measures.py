"""Measures of graphs, compared with networkx's."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from models import measures as module
from models.measures import cheap_measures, degrees, measures, measures_of
from models.networks.random_graphs import StageGraph, draw, statistics
from models.wiring_graphs import WiringGraph


def graph_of(drawn: StageGraph) -> WiringGraph:
    return WiringGraph.acyclic(drawn.nodes, np.array(drawn.edges))


def distances(graph: nx.Graph) -> list[int]:
    return [d for start, ends in nx.all_pairs_shortest_path_length(graph) for end, d in ends.items() if end != start]


def check(graph: WiringGraph) -> None:
    """Every measure that networkx has, over the nodes with edges, each undirected edge once and no loops."""
    found = measures(graph)
    directed = nx.DiGraph(map(tuple, graph.edges.tolist()))
    directed.remove_edges_from(list(nx.selfloop_edges(directed)))
    directed.remove_nodes_from(list(nx.isolates(directed)))
    plain = directed.to_undirected()
    lengths, along = distances(plain), distances(directed)
    parts = list(nx.connected_components(plain))
    assert found.path_length == pytest.approx(np.mean(lengths), rel=1e-12)
    assert found.directed_path_length == pytest.approx(np.mean(along), rel=1e-12)
    assert found.diameter == max(lengths)
    assert found.clustering == pytest.approx(nx.average_clustering(plain), rel=1e-12)
    assert found.components == len(parts)
    assert found.largest_component == max(map(len, parts)) / len(plain)


@pytest.mark.parametrize(
    ("model", "parameters"), [("er", (40, 0.1)), ("ba", (30, 3)), ("ws", (32, 4, 0.0)), ("ws", (50, 6, 0.3))]
)
def test_measures_are_those_of_networkx_and_of_the_statistics_of_drawn_graphs(model, parameters):
    drawn = draw(model, parameters, 1)
    check(graph_of(drawn))
    found, expected = vars(measures(graph_of(drawn))), statistics(drawn)
    for key in ("nodes", "edges", "degree_mean", "degree_max", "path_length", "diameter", "clustering", "depth"):
        assert found[key] == pytest.approx(expected[key], rel=1e-12), key


def test_graphs_with_cycles_loops_and_several_parts():
    rng = np.random.default_rng(0)
    edges = np.unique(rng.integers(0, 80, (60, 2)), axis=0)
    graph = WiringGraph(90, edges, np.ones(len(edges), dtype=np.int64), 1)
    check(graph)
    assert measures(graph).components > 1


def test_more_nodes_than_are_followed_at_a_time(monkeypatch):
    monkeypatch.setattr(module, "WORDS", 1)
    check(graph_of(draw("ws", (200, 4, 0.2), 0)))


def test_bits_are_counted_without_numpy_2(monkeypatch):
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    check(graph_of(draw("ws", (70, 4, 0.2), 0)))


def test_degrees_and_lengths_of_a_small_graph():
    graph = WiringGraph.acyclic(6, np.array([[0, 1], [0, 2], [1, 2], [2, 3], [0, 3]]))
    into, out = degrees(graph)
    assert into.tolist() == [0, 1, 2, 2, 0, 0]
    assert out.tolist() == [3, 1, 1, 0, 0, 0]
    found = cheap_measures(graph)
    assert (found.nodes, found.live_nodes, found.edges, found.depth) == (6, 4, 5, 4)
    assert (found.degree_mean, found.degree_max, found.in_degree_max, found.out_degree_max) == (2.5, 3, 2, 3)
    assert found.degree_std == pytest.approx(0.5)
    assert (found.edge_length_mean, found.edge_length_max) == (pytest.approx(8 / 5), 3)


def test_a_graph_without_edges_measures_nothing():
    found = measures(WiringGraph.acyclic(3, np.zeros((0, 2))))
    assert (found.nodes, found.live_nodes, found.components, found.path_length, found.clustering) == (3, 0, 0, 0.0, 0.0)


def test_a_network_without_a_wiring_has_no_measures():
    from models import build_network

    assert measures_of(build_network("vgg", depth=11, classes=10)) == {}
