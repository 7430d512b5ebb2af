"""The wired network of every kind of app, on every engine: the engine computes what the network computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from genutil.build import build_network
from models.sparse import compile_graph
from models.sparse.equality import relative_difference
from models.wirings.rules import Graph, graphs
from tests.families import experiment_of, representatives

ENGINES = ("pruned", "csr", "dgl", "native")
SLOW = ("resnet50", "resnet56", "wrn_40")
"""Parts of the names of apps that take long; the others of their kind are smaller."""


def wired() -> list[Any]:
    apps = {
        name: experiment_of(name) for name in representatives()
    }  # a random stage's wiring joins nodes, not channels
    chosen = [name for name, app in apps.items() if app.wiring != "complete" and app.model != "randwire"]
    return [pytest.param(name, marks=[pytest.mark.slow] * any(part in name for part in SLOW)) for name in chosen]


def shaken(network: nn.Module) -> nn.Module:
    """The network with norms that have seen something, and edges that are strong enough to matter."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
        if isinstance(module, Graph):
            module.weight.data *= 3
    return network.eval()


@pytest.mark.parametrize("name", wired())
def test_engines_compute_what_the_network_computes(name: str):
    experiment = experiment_of(name)
    network = shaken(build_network(experiment))
    assert any(True for _ in graphs(network))
    size = min(experiment.image_size, 64)  # of what was made for large images, a small one will do
    images = torch.randn(2, experiment.in_channels, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(images)
    tolerance = 2e-3 if experiment.model == "continuous_time" else 1e-4  # the solver's steps are adaptive
    for engine in ENGINES:
        if engine == "dgl":
            pytest.importorskip("dgl", exc_type=Exception)
        compiled = compile_graph(network, engine, threads=1, image_size=size)
        with torch.no_grad():
            assert relative_difference(compiled(images), expected) < tolerance, engine
