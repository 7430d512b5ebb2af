"""Weights under a rule, of a network's own graphs and of layers that are wired from outside."""

import torch
from torch import nn

from models.wirings.graph import Graph, LayerGraph, fix_graph, graphs
from models.wirings.layout import Block, EdgeLayout
from models.wirings.registry import make_wiring
from models.wirings.wire import wire

LAYOUT = EdgeLayout(4, 5, (Block(0, 2, 0, 3), Block(2, 4, 0, 5)))


def make(rule: str, prune_rate: float = 0.5) -> Graph:
    torch.manual_seed(0)
    return Graph(LAYOUT, make_wiring(rule, LAYOUT, prune_rate))


def test_weights_start_within_the_bound_of_the_whole_matrix():
    weight = make("complete").weight
    assert len(weight) == LAYOUT.possible == 16
    assert float(weight.detach().abs().max()) <= 5**-0.5


def test_blocks_matrix_and_acting_edges_agree():
    graph = make("dnw").eval()
    parts, matrix = graph(), graph.matrix()
    assert [tuple(part.shape) for part in parts] == [(2, 3), (2, 5)]
    assert matrix[:2, :3].equal(parts[0].detach())
    assert matrix[2:].equal(parts[1].detach())
    assert int(graph.acting().sum()) == int(matrix.count_nonzero()) == LAYOUT.kept(0.5)


def test_graphs_of_a_network_are_found_in_order_and_by_the_layers_name():
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Linear(4, 5))
    wire(network, "dnw", 0.5)
    network.append(make("random"))
    found = dict(graphs(network))
    assert list(found) == ["0.weight", "1.weight", "2"]
    assert isinstance(found["0.weight"], LayerGraph)
    assert found["0.weight"].parameter.shape == (3, 2, 3, 3)
    assert found["0.weight"].weight.shape == (54,)
    assert found["1.weight"].matrix().equal(network[1].weight.detach())


def test_fixing_keeps_the_edges_that_are_strongest_now():
    graph = make("fine_tune")
    with torch.no_grad():
        graph.weight.copy_(torch.arange(16.0))
    fix_graph(nn.Sequential(graph))
    assert graph.acting().nonzero().flatten().tolist() == list(range(16 - LAYOUT.kept(0.5), 16))
