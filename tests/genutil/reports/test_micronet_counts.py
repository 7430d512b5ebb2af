"""Counts of small networks against counts made by hand, and of the challenge's baseline against its published ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from genutil.build import build_network
from genutil.reports import micronet_counts
from genutil.reports.micronet_counts import Count, count, graph_count, layers_count, weights_count
from models.sparse.graph import ChannelGraph, Depthwise, Edges, InstanceNorm, Level
from models.sparse.layers import input_level, sum_level
from tests.families import experiment_of
from tests.models.sparse.networks import tiny


def kernels(nodes: int, side: int) -> np.ndarray:
    return np.arange(1, nodes * side * side + 1, dtype=np.float32).reshape(nodes, side, side)


def dense(rows: list[list[float]]) -> Edges:
    return Edges.from_dense(np.array(rows, np.float32))


def test_a_graph_counted_by_hand():
    """Two inputs of 4x4; four nodes of which one is dead; a depthwise convolution of stride 2; means; two outputs."""
    bias = np.array([1, 0, 2, 3], np.float32)
    hidden = sum_level("hidden", "hidden", (0,), dense([[1, 0], [2, 3], [0, 4], [5, 6]]), bias)
    spread = Depthwise(kernels(4, 3), np.zeros(4, np.float32), stride=2, padding=1)
    hidden = replace(hidden, relu=True, depthwise=spread, mean=True)
    output = sum_level("output", "output", (1,), dense([[1, 2, 0, 0], [0, 3, 4, 0]]), np.array([1, 0], np.float32))
    found = graph_count(ChannelGraph((input_level(2), hidden, output)), (4, 4))
    edges, last = 4, 4  # of the three live nodes, and of the outputs
    assert found == Count(
        values=edges + last + 3 * 9,  # 4 of 6 and 4 of 6 weights, each with a bitmask that takes less than two zeros
        bitmask_bits=6 + 6,
        norms_and_biases=2 + 1,
        multiplications=edges * 16 + 3 * 16 + 3 * 9 * 4 + 3 + last,
        additions=(edges - 3 + 2) * 16 + 3 * 8 * 4 + 3 * 3 + (last - 2 + 1),
    )


def test_an_instance_norm_counted_by_hand():
    norm = InstanceNorm(np.ones(1, np.float32), np.zeros(1, np.float32))
    level = replace(sum_level("a", "a", (0,), dense([[2.0]])), norm=norm)
    found = graph_count(ChannelGraph((input_level(1), level), flat=False), (2, 2))
    # an edge; two means (3 additions and a product each), 4 differences and squares, eps, a root and a quotient,
    # 4 products with the factor, 4 shifts
    assert found == Count(
        values=1, norms_and_biases=2, multiplications=4 + 2 + 4 + 1 + 1 + 1 + 4, additions=3 + 4 + 3 + 1 + 4
    )


def test_weights_that_come_again_are_stored_once_and_products_made_once():
    first = sum_level("first", "stage", (0,), dense([[1, 2], [3, 4]]))
    again = replace(sum_level("again", "stage", (0,), dense([[3, 4]])), channels=np.array([1]))
    last = sum_level("last", "last", (1, 2), dense([[1, 1, 1]]))
    found = graph_count(ChannelGraph((input_level(2), first, again, last), flat=False), (3, 1))
    assert found == Count(values=4 + 3, multiplications=(4 + 3) * 3, additions=(2 + 2) * 3)


def test_the_discrete_network_stores_its_edges_once():
    network = tiny("discrete_time")
    found = count(network, 24, 3)
    (stage,) = [level.stage for level in network.channel_graphs()[""].levels if level.name == "step.1"]
    assert stage == "step.graph"
    acting = int(network.step.graph.acting().count_nonzero())
    stem = sum(parameter.numel() for parameter in network.downsample.parameters() if parameter.dim() > 1)
    assert found.values <= acting + stem + 88 * 9 + network.fc.weight.numel()
    assert found.values > acting / 2


@pytest.mark.parametrize(
    ("weights", "shape", "stored"),
    [
        (10, 100, Count(values=10, bitmask_bits=100)),
        (100, 100, Count(values=100)),
        (97, 100, Count(values=100)),  # three zeros take less than 100 bits
        (96, 100, Count(values=96, bitmask_bits=100)),
    ],
)
def test_a_bitmask_where_it_saves_something(weights: int, shape: int, stored: Count):
    assert weights_count(weights, shape) == stored


def test_layers_counted_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()
    )
    network.append(nn.Linear(4 * 4, 5))
    found = layers_count(network.eval(), torch.randn(1, 3, 4, 4))
    convolution, linear = 3 * 9 * 4, 16 * 5
    assert found == Count(
        values=convolution + linear,
        norms_and_biases=2 * 4 + 5,
        multiplications=convolution * 16 + 64 + 64 + 16 + linear,
        additions=(convolution - 4) * 16 + 64 + 3 * 16 + linear,
    )


def test_zeros_of_a_wired_layer_are_left_out():
    experiment = experiment_of("cifar/resnet20_v1").but(depth=8, wiring="dnw", prune_rate=0.9)
    wired = build_network(experiment).eval()
    whole = build_network(experiment.but(wiring="complete", prune_rate=0.0)).eval()
    sparse, full = count(wired, 32, 3), count(whole, 32, 3)
    assert full.bitmask_bits == 0
    assert sparse.bitmask_bits == full.values
    assert sparse.norms_and_biases == full.norms_and_biases
    assert sparse.values == pytest.approx(0.1 * full.values, rel=0.01)
    assert sparse.multiplications < 0.25 * full.multiplications
    assert count(wired, 32, 3) == sparse, "the network is left as it was"


def test_a_random_stage_stores_a_value_an_edge():
    experiment = experiment_of("randwire/cifar10_ws").but(channel_count=8)
    network = build_network(experiment).eval()
    single = sum(int(stage.single.sum()) for stage in network.stages)
    edges = sum(len(stage.single) for stage in network.stages) - single
    plain = layers_count(network.plain_form().eval(), torch.randn(1, 3, 32, 32))
    assert count(network, 32, 3).values == plain.values + edges


def test_the_baseline_of_cifar100_counts_as_published():
    network = build_network(experiment_of("cifar/wrn_28_10").but(output_size=100)).eval()
    found = count(network, 32, 3)
    assert found.storage(32) == pytest.approx(36.5e6, rel=2e-3)
    assert found.operations(32) == pytest.approx(10.49e9, rel=2e-3)


def test_a_network_whose_steps_depend_on_the_image_has_no_count():
    with pytest.raises(ValueError, match="depend on the image"):
        micronet_counts.count(tiny("continuous_time"), 24, 3)


def test_levels_are_what_they_say():
    assert isinstance(input_level(2), Level)
    assert Count(1, 2, 3, 4, 5) + Count(1, 1, 1, 1, 1) == Count(2, 3, 4, 5, 6)
    assert Count(values=6, bitmask_bits=64, norms_and_biases=2).storage(16) == 4 + 2
    assert Count(multiplications=6, additions=2).operations(16) == 4
