"""Profiles: dense layers against torch's own counter, wired ones against counts made by hand."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import models
from genutil.model_profiling import acting_parameters, live_nodes, profile
from models.wirings.rules import graphs

TINY_STAGES = ((2, 3, 1, 1), (3, 4, 2, 2))


def counted_by_torch(network: nn.Module, size: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval().requires_grad_(False)(torch.randn(1, 3, size, size))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("name", "size", "arguments"),
    [
        ("mobilenetv1", 32, {"width_mult": 0.25, "image_size": 32}),
        ("mobilenetv1", 224, {"width_mult": 0.5, "image_size": 224}),
        ("shufflenetv2", 224, {"width_mult": 0.5}),
        ("shufflenetv2", 160, {"width_mult": 1.0}),
    ],
)
def test_dense_networks_agree_with_torch(name, size, arguments):
    network = models.build_network(name, classes=10, **arguments)
    result = profile(network, size)
    assert result.multiply_adds == counted_by_torch(network, size)
    assert result.parameters == sum(p.numel() for p in network.parameters())
    assert result.wired == []


@pytest.mark.parametrize("small", [False, True])
def test_complete_graphs_agree_with_torch_but_for_the_pool(small):
    stages = ((4, 8, 1, 1), (8, 16, 2, 3))
    network = models.build_network(
        "mobilenetv1_like", classes=10, image_size=32, wiring="complete", stages=stages, small=small
    )
    result = profile(network, 32)
    assert result.live_multiply_adds == counted_by_torch(network, 32) + 16 * 16 * 16
    assert [layer.live for layer in result.wired] == [graph.layout.possible for _, graph in graphs(network)]


def test_a_complete_static_classifier_agrees_with_torch_but_for_the_pool():
    sizes = {"dim": 40, "downsample_dim": 8, "feature_dim": 6, "layers": 3}
    network = models.build_network("static", classes=10, image_size=32, wiring="complete", **sizes)
    assert profile(network, 32).live_multiply_adds == counted_by_torch(network, 32) + 4 * 6


def test_a_discrete_time_classifier_counts_every_step_but_no_channel_that_is_still_zero():
    sizes = {"dim": 12, "downsample_dim": 4, "feature_dim": 3, "layers": 2}
    network = models.build_network("discrete_time", classes=10, image_size=32, wiring="complete", **sizes)
    first, second = 9 * 4 + 4 * 12, 9 * 12 + 12 * 3
    (wired,) = profile(network, 32).wired
    assert wired.multiply_adds == 64 * (first + second)
    assert (wired.parameters, wired.live, wired.live_nodes) == (9 * 12 + 72, 4 * 12 + 12 * 3 - 4 * 3, 12)


def test_the_profile_of_2019_by_hand():
    """A stage of 2 -> 3 and one of 3 -> 4 in two blocks, wired by hand, at 32 pixels."""
    torch.manual_seed(0)
    network = models.build_network(
        "mobilenetv1_like", classes=5, image_size=32, wiring="random", prune_rate=0.5, stages=TINY_STAGES
    )
    first, second = (graph for _, graph in graphs(network))
    masks = (
        torch.tensor([[1, 0], [1, 0], [0, 0]]),
        torch.tensor(
            [
                [1, 0, 0, 0, 0, 0, 0],  # hidden nodes: only the first has an input
                [0, 0, 0, 0, 0, 0, 0],
                [0, 0, 0, 0, 0, 0, 0],
                [0, 0, 0, 0, 0, 0, 0],
                [0, 0, 0, 1, 0, 0, 0],  # outputs
                [0, 0, 1, 0, 1, 0, 0],  # fed by a node that nothing reaches, and a hidden node without inputs
                [0, 0, 0, 0, 0, 0, 0],
                [0, 0, 0, 0, 0, 0, 0],
            ]
        ),
    )
    for graph, mask in zip((first, second), masks, strict=True):
        graph.wiring.mask.copy_(graph.layout.from_matrix(mask) != 0)
    result = profile(network, 32)
    edges_1 = 3 * 2 * (1 - first.wiring.prune_rate)
    edges_2 = 8 * 7 * (1 - second.wiring.prune_rate)
    with_output_1, with_output_2, outputs = 1, 4, 2
    parameters = 27 * 1 + int(9 * with_output_1 + edges_1) + int(9 * with_output_2 + edges_2) + outputs * 5
    macs = 27 * 1024 + int((9 + edges_1) * 1024) + int((36 + edges_2) * 256) + 256 * outputs + outputs * 5
    assert (result.count, result.parameters, result.multiply_adds) == ("2019", parameters, macs)
    by_name = {layer.name: layer for layer in result.wired}
    one, two = by_name["layers.0.graph"], by_name["layers.1.graph"]
    assert (one.possible, one.acting, one.live, one.nodes, one.live_nodes) == (6, 2, 1, 2, 1)
    assert (two.possible, two.acting, two.live, two.nodes, two.live_nodes) == (12 + 28, 4, 2, 7, 2)
    assert (two.with_output, two.with_input) == (4, 3)
    live = 27 + (9 + 1) + (9 * 2 + 2) + 5 * 1
    assert result.live_parameters == live
    assert result.live_multiply_adds == 27 * 1024 + (9 + 1) * 1024 + (18 + 2) * 256 + 256 * 1 + 5
    assert "live edges" in str(result)
    assert result.to_dict()["edges"] == {"possible": 46, "kept": first.wiring.kept + second.wiring.kept} | {
        "acting": 6,
        "live": 3,
    }


@pytest.mark.parametrize("size", [32, 48, 224, 225])
def test_any_image_size(size):
    network = models.build_network(
        "mobilenetv1_like", classes=5, image_size=size, wiring="complete", stages=TINY_STAGES
    )
    result = profile(network, size)
    assert result.image_size == size
    assert result.live_multiply_adds == counted_by_torch(network, size) + 4 * side(size) ** 2


def side(size):
    """Of the planes that are pooled: the first conv halves images above 64 pixels, the second stage any."""
    first = size if size <= 64 else -(-size // 2)
    return -(-first // 2)


def test_untrained_networks_have_the_published_size():
    torch.manual_seed(0)
    for graph, rate, parameters, macs in (("dnw", 0.775, 1.228e6, 56e6), ("random", 0.49, 1.886e6, 169.6e6)):
        network = models.build_network("mobilenetv1_like", classes=1000, image_size=224, wiring=graph, prune_rate=rate)
        result = profile(network, 224)
        assert result.parameters == pytest.approx(parameters, rel=2e-3)
        assert result.multiply_adds == pytest.approx(macs, rel=6e-3)


@pytest.mark.parametrize("name", ["static", "discrete_time", "continuous_time"])
def test_tiny_classifiers_stay_near_42000_parameters(name):
    network = models.build_network(name, classes=10, image_size=32, wiring="dnw", prune_rate=0.95)
    result = profile(network, 32)
    (wired,) = result.wired
    assert wired.kept == wired.acting == 32_000
    assert wired.nodes == 800
    assert wired.live <= 32_000
    assert result.live_parameters < 42_000
    assert result.parameters == acting_parameters(network) < 44_000
    assert live_nodes(network) == wired.live_nodes > 700


def test_the_network_is_left_as_it_was():
    network = models.build_network("mobilenetv1_like", classes=5, image_size=32, wiring="dnw", stages=TINY_STAGES)
    network.layers[0].eval()
    before = {name: value.clone() for name, value in network.state_dict().items() if isinstance(value, torch.Tensor)}
    profile(network, 32)
    assert network.training
    assert not network.layers[0].training
    assert all(network.state_dict()[name].equal(value) for name, value in before.items())
    assert not any(module._forward_hooks for module in network.modules())


def test_nodes_that_are_no_channels_are_not_counted_as_channels():
    sizes = {"channel_count": 4, "node_inputs": "predecessors", "graph_model": "complete", "graph_param": (8, 2, 2)}
    network = models.build_network("randwire", wiring="dnw", prune_rate=0.75, **sizes)
    assert any(True for _ in graphs(network))
    assert live_nodes(network) is None
