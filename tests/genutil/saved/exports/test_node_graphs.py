from __future__ import annotations

from io import BytesIO

import networkx as nx
import numpy as np
import pytest
import torch

from genutil.errors import UserError
from genutil.saved.exports import node_graphs
from models.networks.randwire import RandomStage
from models.sparse import channel_graphs
from tests.genutil.saved.exports.checkpoints_made import KINDS, exported

CHANNELS = ("static", "discrete_time", "continuous_time", "mobilenetv1_like", "wired_resnet")


@pytest.mark.parametrize("kind", CHANNELS)
def test_networkx_reads_the_edges_of_every_channel_graph(kind: str):
    what = exported(kind)
    graph = nx.read_graphml(BytesIO(node_graphs.graphml(what)))
    parts = channel_graphs(what.network)
    assert graph.is_directed()
    assert len(graph) == sum(level.nodes for part in parts.values() for level in part.levels)
    assert graph.size() == sum(part.edge_count for part in parts.values())
    assert all(graph.nodes[a]["level"] < graph.nodes[b]["level"] for a, b in graph.edges)
    found = sorted(data["value"] for _, _, data in graph.edges(data=True))
    weights = [level.incoming.weight.sum(axis=(1, 2)) for part in parts.values() for level in part.levels[1:]]
    np.testing.assert_allclose(found, np.sort(np.concatenate(weights)), rtol=1e-6)
    assert all(data["weight"] > 0 for _, _, data in graph.edges(data=True))


def test_nodes_tell_whether_they_live():
    what = exported("static")
    graph = nx.read_graphml(BytesIO(node_graphs.graphml(what)))
    states = nx.get_node_attributes(graph, "state")
    inputs = [node for node, level in graph.nodes(data="level") if level == 0]
    outputs = [
        node for node, level in graph.nodes(data="level") if level == max(dict(graph.nodes(data="level")).values())
    ]
    reached = set(inputs).union(*(nx.descendants(graph, node) for node in inputs))
    reaching = set(outputs).union(*(nx.ancestors(graph, node) for node in outputs))
    live = {node for node, state in states.items() if state == "live"}
    assert live == reached & reaching
    assert {node for node, state in states.items() if state == "constant"} == reaching - reached
    assert live < set(graph)


def test_a_line_an_edge():
    what = exported("wired_resnet")
    graph = nx.read_weighted_edgelist(BytesIO(node_graphs.edgelist(what)), create_using=nx.DiGraph)
    whole = nx.read_graphml(BytesIO(node_graphs.graphml(what)))
    assert set(graph.edges) == set(whole.edges)
    assert min(weight for _, _, weight in graph.edges(data="weight")) < 0
    assert all(graph.edges[edge]["weight"] == pytest.approx(whole.edges[edge]["value"]) for edge in graph.edges)


def test_a_kernel_is_told_tap_by_tap():
    what = exported("wired_resnet")
    graph = nx.read_graphml(BytesIO(node_graphs.graphml(what)))
    edges = channel_graphs(what.network)["layer1.0.conv1"].levels[1].incoming
    data = graph.edges[f"layer1.0.conv1/0.{edges.indices[0]}", f"layer1.0.conv1/1.{edges.rows[0]}"]
    taps = np.array(data["taps"].split(), np.float32)
    np.testing.assert_array_equal(taps, edges.weight[0].reshape(-1))
    assert data["weight"] == pytest.approx(np.linalg.norm(taps))


def edges_of(stage: RandomStage) -> set[tuple[int, int]]:
    """The possible edges of a stage, by the numbers of its nodes."""
    graph = stage.graph
    return set(graph.closure if stage.regime.node_inputs == "ancestors" else graph.edges)


@pytest.mark.parametrize("kind", ["randwire", "randwire_tensorflow", "randwire_dnw"])
def test_random_stages_are_graphs_of_their_nodes(kind: str):
    what = exported(kind)
    graph = nx.read_graphml(BytesIO(node_graphs.graphml(what)))
    for number, stage in enumerate(what.network.stages):
        nodes = [node for node, name in graph.nodes(data="stage") if name == f"stages.{number}"]
        part = graph.subgraph(nodes)
        assert len(part) == stage.graph.nodes
        acting = int(torch.count_nonzero(stage.edge_weights()))
        assert part.size() == acting
        assert {(int(a.split("/")[1]), int(b.split("/")[1])) for a, b in part.edges} <= edges_of(stage)
    assert (
        graph.size() == nx.read_weighted_edgelist(BytesIO(node_graphs.edgelist(what)), create_using=nx.DiGraph).size()
    )


def test_a_dense_network_has_no_graph():
    with pytest.raises(UserError, match="has no wired part"):
        node_graphs.graphml(exported("resnet"))
    assert "resnet" in KINDS
