from __future__ import annotations

import numpy as np
import pytest
import torch

import models
from models.networks import randwire_forms
from models.networks.randwire import RandWire
from models.sparse import channel_graphs, whole_graph
from models.sparse.graph import compute_planes
from tests.models.sparse.networks import shake

FORMS = [
    {"regime": regime, "graph_param": [10, 4, 0.75]}
    for regime in ("small", "regular", "mnist", "tensorflow_small_cifar", "tensorflow_regular")
] + [
    {"regime": "small", "graph_model": "complete", "graph_param": [5], "wiring": rule, "prune_rate": 0.6}
    for rule in ("dnw", "random", "str")
]


def network(**settings: object) -> RandWire:
    torch.manual_seed(7)
    made = models.build_network("randwire", classes=5, channel_count=8, **settings)
    with torch.no_grad():
        for stage in made.stages:
            if getattr(stage, "edge_weight", None) is not None:
                stage.edge_weight.normal_()
    return shake(made)


@pytest.mark.parametrize("settings", FORMS, ids=lambda s: f"{s['regime']} {s.get('wiring', '')}")
def test_both_forms_compute_what_the_network_does(settings: dict):
    made = network(**settings)
    size = 64 if made.regime.init_subsample else 32
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = made(images)
        torch.testing.assert_close(made.plain_form().eval()(images), expected, rtol=1e-4, atol=1e-5)
    graph = whole_graph(made)
    for one in (graph, graph.pruned((size, size))):
        found = compute_planes(one, images[0].numpy())[-1].reshape(-1)
        np.testing.assert_allclose(found, expected[0].numpy(), rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_engines_still_run_it_as_it_is():
    made = network(regime="small", graph_param=[7, 4, 0.75])
    assert channel_graphs(made) == {}


def test_a_node_that_lost_all_its_edges_gives_what_it_gives_for_zeros():
    made = network(regime="small", graph_model="complete", graph_param=[4], wiring="dnw", prune_rate=0.1)
    with torch.no_grad():
        for stage in made.stages:
            stage.wired.weight[0] = 0.0
            stage.wired.wiring.kept = len(stage.wired.weight) - 1
    made.eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        sources = randwire_forms.acting_sources(made.stages[0])
        assert any(weight == 0 for fed in sources for _, weight in fed)
        torch.testing.assert_close(made.plain_form().eval()(images), made(images), rtol=1e-4, atol=1e-5)
        found = compute_planes(whole_graph(made), images[0].numpy())[-1].reshape(-1)
        np.testing.assert_allclose(found, made(images)[0].numpy(), rtol=1e-3, atol=1e-4)
