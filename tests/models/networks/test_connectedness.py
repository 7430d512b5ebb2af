"""The probability that a random graph is connected, and that what almost never is gives up at once."""

from __future__ import annotations

import itertools

import networkx as nx
import pytest

from models.networks import random_graphs
from models.networks.connectedness import EXACT_UP_TO, erdos_renyi


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_it_is_that_of_all_graphs_counted(nodes: int, p: float):
    pairs = list(itertools.combinations(range(nodes), 2))
    total = 0.0
    for chosen in itertools.product((False, True), repeat=len(pairs)):
        graph = nx.empty_graph(nodes)
        graph.add_edges_from(itertools.compress(pairs, chosen))
        if nx.is_connected(graph):
            total += p ** sum(chosen) * (1 - p) ** (len(pairs) - sum(chosen))
    assert erdos_renyi(nodes, p) == pytest.approx(total, abs=1e-12)


def test_the_limit_goes_on_where_the_exact_figure_ends():
    p = 0.0069  # about one isolated node
    assert erdos_renyi(EXACT_UP_TO, p) == pytest.approx(erdos_renyi(EXACT_UP_TO + 1, p), abs=0.01)


@pytest.mark.parametrize(("nodes", "p"), [(32, 0.01), (100, 0.005), (1000, 0.001), (5000, 1e-4), (100_000, 1e-9)])
def test_a_graph_that_is_almost_never_connected_is_not_drawn(nodes: int, p: float, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nx, "gnp_random_graph", lambda *_, **__: pytest.fail("it was drawn"))
    with pytest.raises(ValueError, match=r"^ER\(.*\) is almost never connected; choose parameters .* more edges\.$"):
        random_graphs.draw("er", [nodes, p], 0)


def test_large_graphs_are_drawn_fewer_times(monkeypatch: pytest.MonkeyPatch):
    drawn: list[int] = []
    monkeypatch.setattr(nx, "watts_strogatz_graph", lambda n, *_, **__: drawn.append(n) or nx.empty_graph(n))
    with pytest.raises(ValueError, match="was not connected in any of 50 draws"):
        random_graphs.draw("ws", [50_000, 2, 1.0], 0)
    assert len(drawn) == 50
