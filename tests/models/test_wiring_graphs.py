"""The graphs of wirings, read off networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from genutil.model_profiling import live_nodes, profile
from models import build_network
from models.networks.random_graphs import draw
from models.wiring_graphs import WiringGraph, wiring_graphs
from models.wirings.wire import wire

TINY = {"dim": 60, "downsample_dim": 12, "feature_dim": 12, "image_size": 16, "in_channels": 1}


def edges(graph: WiringGraph) -> set[tuple[int, int]]:
    return set(map(tuple, graph.edges.tolist()))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_nodes_run_as_soon_as_they_can():
    graph = WiringGraph.acyclic(5, np.array([[0, 1], [1, 3], [0, 3], [0, 1], [0, 4]]))
    assert graph.edges.tolist() == [[0, 1], [0, 3], [0, 4], [1, 3]]
    assert graph.lengths.tolist() == [1, 2, 1, 1]
    assert graph.depth == 3


@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_the_static_classifier_has_its_own_nodes_and_live_edges(rate):
    network = build_network("static", classes=10, layers=4, wiring="dnw", prune_rate=rate, **TINY)
    (graph,) = wiring_graphs(network).values()
    (row,) = profile(network, 16, 1).wired
    assert graph.nodes == row.nodes == 60
    assert len(graph.edges) == row.live
    assert len(set(graph.edges[:, 0].tolist())) <= live_nodes(network)
    matrix = network.graph.matrix()
    assert all(matrix[end, start] != 0 for start, end in edges(graph))
    assert graph.lengths.min() >= 1


def test_a_signal_goes_through_every_layer_of_a_dense_classifier():
    network = build_network("static", classes=10, layers=4, wiring="dnw", prune_rate=0.0, **TINY)
    (graph,) = wiring_graphs(network).values()
    assert graph.depth == 5  # the first nodes, three layers, and the last nodes once more
    assert graph.lengths.max() == 3


@pytest.mark.parametrize("model", ["discrete_time", "continuous_time"])
def test_a_wiring_that_runs_again_has_each_node_once(model):
    network = build_network(model, classes=10, wiring="dnw", prune_rate=0.9, **TINY)
    (graph,) = wiring_graphs(network).values()
    assert graph.nodes == 60
    matrix = next(m for m in network.modules() if hasattr(m, "matrix")).matrix()
    assert all(matrix[end, start] != 0 for start, end in edges(graph))
    assert set(graph.lengths.tolist()) == {1}


def test_stages_that_follow_one_another_share_their_nodes():
    network = build_network("mobilenetv1_like", classes=10, image_size=32, wiring="dnw", prune_rate=0.9)
    found = wiring_graphs(network)
    whole = found.pop("")
    rows = {row.name: row for row in profile(network, 32).wired}
    assert list(found) == list(rows)
    assert all(len(graph.edges) == rows[name].live for name, graph in found.items())
    assert len(whole.edges) == sum(len(graph.edges) for graph in found.values())
    assert whole.nodes < sum(graph.nodes for graph in found.values())
    assert whole.depth > max(graph.depth for graph in found.values())


def test_layers_that_were_wired_one_by_one_stand_side_by_side():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(8, 4))
    wire(network, "dnw", 0.5, skip=["4"])
    found = wiring_graphs(network)
    assert list(found) == ["", "0", "2"]
    assert [graph.nodes for graph in found.values()] == [27, 11, 16]
    assert len(found[""].edges) == len(found["0"].edges) + len(found["2"].edges)
    assert found["2"].depth == 2


def test_drawn_graphs_are_those_of_their_stages():
    network = build_network("randwire", graph_model="ws", graph_param=(12, 4, 0.5), graph_seed=3)
    found = wiring_graphs(network)
    assert found.pop("").nodes == 36
    assert [edges(graph) for graph in found.values()] == [set(graph.edges) for graph in network.graphs]
    assert [graph.depth for graph in found.values()] == [len(graph.levels) for graph in network.graphs]
    assert set(network.graphs[0].edges) == set(draw("ws", (12, 4, 0.5), 3 * 100 * 10_000).edges)


def test_learned_edges_between_nodes_are_those_that_act():
    network = build_network("randwire", graph_model="complete", graph_param=(8,), wiring="dnw", prune_rate=0.8)
    stage = next(m for m in network.modules() if hasattr(m, "wired"))
    graph = wiring_graphs(network)["stages.0"]
    assert len(graph.edges) == int(stage.wired.acting().sum()) < len(stage.graph.edges)
    assert all(start < end for start, end in edges(graph))


def test_nothing_wired_has_no_graph():
    assert wiring_graphs(build_network("vgg", depth=11, classes=10)) == {}
