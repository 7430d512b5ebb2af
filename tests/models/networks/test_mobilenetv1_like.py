"""The MobileNet-like network: what its stages compute, which edges they have, and what it tells of itself."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import models
from models.networks.mobilenetv1_like import STAGES, WiredLinear, WiredStage, stage_prune_rate
from models.networks.planes import torch_form
from models.sparse.graph import compute_planes
from models.wirings.rules import graphs


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_mobilenet_like_takes_one_image_and_any_channels(small, channels):
    network = models.build_network(
        "mobilenetv1_like", classes=7, image_size=224, in_channels=channels, small=small, **{"stages": ((4, 8, 1, 1),)}
    ).eval()
    assert network(torch.randn(1, channels, 64, 48)).shape == (1, 7)


def node_by_node(stage: WiredStage, x: torch.Tensor) -> torch.Tensor:
    """A stage as its definition reads: one node after another."""
    matrix = stage.graph.matrix()
    planes = []
    for channel in range(stage.in_channels):
        kernel = stage.downsample[0].weight[channel : channel + 1]
        norm = single(stage.norm[0], channel)
        planes.append(F.conv2d(F.relu(norm(x[:, channel : channel + 1])), kernel, stride=stage.stride, padding=1))
    sums = []
    for node in range(len(matrix)):
        available = stage.in_channels + node // stage.out_channels * stage.out_channels
        total = sum(matrix[node, i] * planes[i] for i in range(available))
        sums.append(total)
        group, channel = divmod(node, stage.out_channels)
        if group < stage.blocks - 1:
            kernel = stage.conv.weight[node : node + 1]
            planes.append(F.conv2d(F.relu(single(stage.norm[group + 1], channel)(total)), kernel, padding=1))
    return torch.cat(sums[-stage.out_channels :], dim=1)


def single(norm: nn.BatchNorm2d, channel: int):
    scale = norm.weight[channel] / (norm.running_var[channel] + norm.eps).sqrt()
    return lambda plane: (plane - norm.running_mean[channel]) * scale + norm.bias[channel]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_a_stage_is_its_graph(blocks, stride):
    torch.manual_seed(0)
    stage = WiredStage(3, 4, stride, blocks, "dnw", 0.3).double().eval()
    for norm in stage.norm:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x = torch.randn(2, 3, 9, 7, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(stage(x), node_by_node(stage, x))


def test_the_edge_budget_of_the_stages():
    kept = [round((1 - stage_prune_rate(i, o, b, 0.775)) * (i + o * (b - 1)) * o * b) for i, o, _, b in STAGES]
    assert kept == [round(0.225**2 * (i * o + (b - 1) * o * o)) for i, o, _, b in STAGES]


def test_only_edges_that_can_act_are_stored():
    network = models.build_network("mobilenetv1_like", classes=10, image_size=32, wiring="dnw", prune_rate=0.775)
    stored = [graph.weight.numel() for _, graph in graphs(network)]
    assert stored == [2_048, 32_768, 131_072, 4_718_592, 2_097_152]


def test_a_network_gives_the_same_whichever_sums_it_uses(monkeypatch):
    torch.manual_seed(0)
    stages = ((4, 16, 1, 1), (16, 32, 2, 4))
    network = models.build_network(
        "mobilenetv1_like", classes=4, image_size=16, wiring="dnw", prune_rate=0.8, stages=stages
    ).double()
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    gradients = []
    for pay in (True, False):
        monkeypatch.setattr("models.networks.planes.sparse_sums_pay", lambda *_, pay=pay: pay)
        network.zero_grad()
        with torch_form():
            network(images).square().sum().backward()
        gradients.append([graph.weight.grad.clone() for _, graph in graphs(network)])
    for sparse, dense in zip(*gradients, strict=True):
        torch.testing.assert_close(sparse, dense, rtol=1e-9, atol=1e-12)


def test_a_wired_linear_layer_tells_its_graph():
    torch.manual_seed(0)
    layer = WiredLinear(6, 4, "dnw", 0.5).eval()
    graph = layer.channel_graph()
    assert graph.takes_vectors
    assert graph.edge_count == layer.edges().count == 12
    values = torch.randn(6)
    with torch.no_grad():
        expected = layer(values[None])[0]
    found = compute_planes(graph, values.numpy()[:, None, None])[-1].reshape(-1)
    torch.testing.assert_close(torch.from_numpy(found).float(), expected)


@pytest.mark.parametrize("small", [False, True])
def test_stages_of_the_channel_graph_are_the_networks_graphs(small):
    network = models.build_network(
        "mobilenetv1_like", classes=4, image_size=32, wiring="dnw", small=small, stages=((4, 8, 1, 1), (8, 16, 2, 3))
    ).eval()
    (graph,) = network.channel_graphs().values()
    assert graph.kept == {name: wired.wiring.kept for name, wired in graphs(network)}
    assert [level.name for level in graph.levels] == [
        "input",
        "layers.0.inputs",
        "layers.1.inputs",
        "layers.1.hidden.0",
        "layers.1.hidden.1",
        "outputs",
        "linear",
    ]
    assert not graph.takes_vectors
