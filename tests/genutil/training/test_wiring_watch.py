"""What is noted of a network while it is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import models
from genutil.training.wiring_watch import WiringWatch
from models.wiring_graphs import wiring_graphs


class Telling(nn.Module):
    """A network from outside with something to tell, and without any wiring."""

    def measures(self) -> dict[str, float]:
        return {"temperature": 21.5}

    def forward(self, images: Tensor) -> Tensor:
        return images


def test_a_network_tells_its_own_measures():
    watch = WiringWatch(Telling())
    assert watch.acting() == {}
    assert watch.measures({}) == {"temperature": 21.5}
    assert watch.pictures() == {}


def test_a_network_without_wiring_has_nothing_to_tell():
    assert WiringWatch(nn.Linear(2, 2)).measures({}) == {}


def test_swaps_live_nodes_and_evaluations():
    torch.manual_seed(0)
    network = models.build_network(
        "continuous_time",
        classes=3,
        image_size=16,
        wiring="dnw",
        prune_rate=0.9,
        dim=20,
        downsample_dim=4,
        feature_dim=5,
        solver="euler",
        solver_steps=2,
    ).eval()
    network(torch.randn(1, 3, 16, 16))
    watch = WiringWatch(network)
    before = watch.acting()
    graph = network.step.graph
    first = int(before["step.graph"].nonzero()[0])
    strongest = int((~before["step.graph"]).nonzero()[0])
    with torch.no_grad():
        graph.weight[first], graph.weight[strongest] = 0.0, 10.0
    found = watch.measures(before)
    assert (found["edges_swapped"], found["function_evaluations"]) == (1, 2)
    assert found["live_nodes"] == 20
    assert found["live_edges"] == len(wiring_graphs(network)[""].edges) > 0
    assert (found["depth"], found["edge_length"]) == (2, 1.0)
    assert list(watch.pictures()) == ["adjacency/step.graph"]
