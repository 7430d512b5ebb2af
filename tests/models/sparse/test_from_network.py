from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from models.networks.mobilenetv1_like import WiredLinear
from models.sparse import channel_graph, channel_graphs
from models.sparse.graph import compute_planes
from tests.models.sparse.networks import mobilenet, shake, tiny, wire, wired_inside

WHOLE = {
    "dnw": lambda: mobilenet(),
    "complete": lambda: mobilenet("complete", 0),
    "random": lambda: mobilenet("random"),
    "reg_td": lambda: mobilenet("reg_td"),
    "small": lambda: mobilenet(small=True),
    "stride 2": lambda: mobilenet(image_size=80),
    "sparse": lambda: mobilenet(prune_rate=0.8),
    "static": lambda: tiny("static"),
    "discrete time": lambda: tiny("discrete_time"),
    "sparse discrete time": lambda: tiny("discrete_time", 0.985),
}


@pytest.mark.parametrize("name", WHOLE)
def test_the_graph_computes_what_the_network_computes(name: str):
    network = WHOLE[name]()
    graph = channel_graph(network)
    size = 24 if hasattr(network, "fc") else 37
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network(images).numpy()
    for image, expected in zip(images.numpy(), logits, strict=True):
        found = compute_planes(graph, image)[-1][:, 0, 0]
        np.testing.assert_allclose(found, expected, atol=1e-5 * abs(expected).max())


def test_training_mode_is_left_as_it_was():
    network = mobilenet().train()
    network.bn.eval()
    channel_graph(network)
    assert network.training
    assert network.layers.training
    assert not network.bn.training


def test_edges_are_those_that_act():
    network = mobilenet()
    graph = channel_graph(network)
    acting = sum(int((layer.graph.matrix() != 0).sum()) for layer in network.layers)
    stages = [level for level in graph.levels if level.stage.startswith("layers.")]
    assert sum(level.edges.count for level in stages) == acting
    assert graph.kept == {f"layers.{i}.graph": layer.graph.wiring.kept for i, layer in enumerate(network.layers)}


def test_a_norm_of_weight_zero_cuts_its_node_off():
    network = mobilenet("complete", 0)
    network.layers[1].norm[0].weight.data[3] = 0
    graph = channel_graph(network)
    level = next(level for level in graph.levels if level.name == "layers.1.inputs")
    assert np.diff(level.edges.indptr)[3] == 0
    image = torch.randn(1, 3, 20, 20)
    with torch.no_grad():
        expected = network(image)[0].numpy()
    np.testing.assert_allclose(
        compute_planes(graph.pruned((20, 20)), image[0].numpy())[-1][:, 0, 0], expected, rtol=1e-4
    )


def test_the_derivative_of_the_continuous_network():
    network = tiny("continuous_time")
    graphs = channel_graphs(network)
    assert list(graphs) == ["downsample", "step"]
    state = torch.randn(1, 88, 6, 6)
    with torch.no_grad():
        (weight,) = network.step.graph()
        expected = network.step(state.clone(), weight)[0].numpy()
    np.testing.assert_allclose(compute_planes(graphs["step"], state[0].numpy())[-1], expected, atol=1e-5)
    assert [len(level.channels) for level in graphs["step"].pruned((6, 6)).levels] == [88, 88, 88]
    with pytest.raises(ValueError, match="downsample, step"):
        channel_graph(network)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 9, 3, padding=1),
        nn.Conv2d(6, 9, 5, stride=2, bias=False),
        nn.Conv2d(6, 9, 1),
        nn.Conv2d(6, 9, 3, groups=3),
        nn.Conv2d(6, 9, (1, 3)),
    ],
)
def test_a_wired_convolution(layer: nn.Module):
    torch.manual_seed(0)
    graph = channel_graph(wire(layer, 0.7).eval())
    image = torch.randn(1, 6, 11, 12)
    with torch.no_grad():
        expected = layer(image)[0].numpy()
    np.testing.assert_allclose(compute_planes(graph, image[0].numpy())[-1], expected, atol=1e-5)


def test_wired_linear_layers():
    torch.manual_seed(0)
    for layer in (wire(nn.Linear(20, 7), 0.8), WiredLinear(20, 7, "dnw", 0.8)):
        graph = channel_graph(layer.eval())
        values = torch.randn(20)
        with torch.no_grad():
            expected = layer(values[None])[0].numpy()
        np.testing.assert_allclose(
            compute_planes(graph, values.numpy()[:, None, None])[-1][:, 0, 0], expected, atol=1e-6
        )


def test_parts_of_a_dense_network():
    network = wired_inside()
    assert list(channel_graphs(network)) == ["3", "6", "8", "11"]
    assert channel_graphs(shake(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))) == {}
    dilated = wire(nn.Conv2d(3, 4, 3, dilation=2), 0.5)
    assert channel_graphs(nn.Sequential(dilated)) == {}
