from __future__ import annotations

import numpy as np
import pytest
import torch

import models
from genutil.reports.page.wiring import MOST_STATES, Part, picture, thinned
from models.networks.random_graphs import draw, to_text
from models.sparse import channel_graph
from models.wirings.other_edges import other_edges
from models.wirings.rules import graphs
from models.wirings.wire import wire
from tests.genutil.reports.page.samples import earlier, network

EDGES = 2000


@pytest.fixture(scope="module")
def part() -> Part:
    of = network(EDGES, dim=200)
    (found,) = picture(of, earlier(of))
    return found


def acts(part: Part, state: int) -> np.ndarray:
    return (part.states >> np.uint32(state) & np.uint32(1)).astype(bool)


def test_the_last_state_is_the_channel_graph(part: Part):
    graph = channel_graph(network(EDGES, dim=200))
    assert [len(group.labels) for group in part.groups] == [level.nodes for level in graph.levels]
    assert acts(part, 3).sum() == part.counts[3].acting == graph.edge_count
    live = np.concatenate([alive.live for alive in graph.liveness])
    assert np.array_equal(part.live >> np.uint32(3) & np.uint32(1), live)
    assert part.counts[3].live_nodes == live.sum()
    now = acts(part, 3)
    both = live[part.source[now]] & live[part.target[now]]
    assert part.counts[3].live_edges == both.sum()


def chosen(part: Part, state: int) -> set[tuple[int, int]]:
    """The edges that the rule chose, as channels of the graph; some end in a block and in the output too."""
    labels = np.concatenate([group.labels for group in part.groups])
    block = np.concatenate([[group.name.startswith("block.")] * len(group.labels) for group in part.groups])
    here = acts(part, state) & block[part.source] & block[part.target]
    return set(zip(labels[part.source[here]].tolist(), labels[part.target[here]].tolist(), strict=True))


def test_edges_come_and_go_as_the_masks_say(part: Part):
    of = network(EDGES, dim=200)
    ((_, graph),) = graphs(of)
    for state, masks in enumerate([*earlier(of), {"graph": graph.acting()}]):
        assert len(chosen(part, state)) == int(masks["graph"].sum())
        born = int((graph.acting() & ~masks["graph"]).sum())
        assert len(chosen(part, 3) - chosen(part, state)) == born
    assert chosen(part, 0) != chosen(part, 1)


def test_weights_are_those_of_the_edges(part: Part):
    graph = channel_graph(network(EDGES, dim=200))
    first = part.first
    for i, level in enumerate(graph.levels[1:], 1):
        if not level.edges.plain:
            continue
        here = acts(part, 3) & (part.target >= first[i]) & (part.target < first[i + 1])
        assert sorted(part.weight[here]) == sorted(level.edges.weight.ravel())


def test_sources_come_before_targets_and_places_are_taken_once(part: Part):
    assert (part.source < part.target).all()
    for a, b in zip(part.first, part.first[1:], strict=False):
        assert sorted(part.slot[a:b]) == list(range(b - a))


def test_the_network_is_left_as_it_was():
    of = network(EDGES, dim=200)
    before = {name: graph.acting().clone() for name, graph in graphs(of)}
    rules = [type(graph.wiring) for _, graph in graphs(of)]
    picture(of, earlier(of))
    assert [type(graph.wiring) for _, graph in graphs(of)] == rules
    assert all((graph.acting() == before[name]).all() for name, graph in graphs(of))


def test_layers_wired_from_outside_are_parts():
    torch.manual_seed(0)
    of = models.build_network("resnet", classes=10, depth=8, in_channels=1)
    wire(of, "dnw", 0.9)
    parts = picture(of.eval(), [{name: ~graph.acting() for name, graph in graphs(of)}])
    wired = {name.removesuffix(".weight"): graph for name, graph in graphs(of)}
    assert {part.name for part in parts} == set(wired)
    for part in parts:
        rows, columns = wired[part.name].layout.rows, len(part.groups[0].labels)
        assert [len(group.labels) for group in part.groups][-1] == rows
        assert columns <= wired[part.name].layout.columns


def test_a_full_layer_shows_the_strongest_edges_of_its_nodes():
    of = models.build_network("mobilenetv1_like", classes=100, image_size=32, wiring="dnw", prune_rate=0.9).eval()
    (part,) = picture(of, [])
    last = part.groups[-1]
    assert last.full == 102_400
    weight = of.linear.weight.detach().numpy()
    here = part.target >= part.first[-2]
    columns = len(part.groups[-2].labels)
    assert max(weight.shape) <= here.sum() <= sum(weight.shape)
    strongest = np.abs(weight).argmax(0)
    found = set(zip(part.source[here] - part.first[-3], part.target[here] - part.first[-2], strict=True))
    assert {(i, row) for i, row in zip(range(columns), strongest, strict=True)} <= found


def test_too_many_edges_leave_out_the_earlier_and_the_weak(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("genutil.reports.page.wiring.MOST_EDGES", 1500)
    of = network(EDGES, dim=200)
    (part,) = picture(of, earlier(of))
    assert len(part.source) == 1500
    assert part.left_out > 0
    assert acts(part, 3).all()


def test_a_random_stage_is_its_graph():
    drawn = draw("ws", (12, 4, 0.75), 3)
    of = models.build_network("randwire", stages=3, stage_graphs=[to_text(drawn)], regime="small", channel_count=8)
    parts = picture(of.eval(), [])
    assert parts[0].name == "stages.0"
    assert "WS(12, 4, 0.75)" in parts[0].title
    labels = np.concatenate([group.labels for group in parts[0].groups])
    edges = {(labels[s], labels[t]) for s, t in zip(parts[0].source, parts[0].target, strict=True)}
    assert edges == set(drawn.edges)


def test_other_edges_leave_again_after_an_error():
    of = network(EDGES, dim=200)
    ((_, graph),) = graphs(of)
    before, found = graph.wiring, []

    def fail() -> None:
        with other_edges(of, {"graph": ~graph.acting()}):
            found.append(int(graph.acting().sum()))
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        fail()
    assert found == [graph.layout.possible - before.kept]
    assert graph.wiring is before


@pytest.mark.parametrize("count", [1, 2, 12, 30, 31, 100])
def test_snapshots_are_thinned_evenly(count: int):
    chosen = thinned(count)
    assert len(chosen) == min(count, MOST_STATES - 1)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
