"""Layers of a network as levels: they compute what the layers compute."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.sparse.graph import ChannelGraph, Level, compute_planes
from models.sparse.layers import (
    convolution_edges,
    convolution_level,
    depthwise_of,
    fold_batch_norm,
    input_level,
    instance_norm_of,
    layer_graph,
    linear_level,
)
from tests.models.sparse.networks import shake


def planes_of(levels: list[Level], images: Tensor) -> Tensor:
    return torch.from_numpy(compute_planes(ChannelGraph(tuple(levels), flat=False), images[0].numpy())[-1])[None]


def agree(levels: list[Level], network: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        expected = network(images).double()
    torch.testing.assert_close(planes_of(levels, images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution(groups: int, bias: bool):
    torch.manual_seed(0)
    convolution = nn.Conv2d(6, 12, 3, stride=2, padding=1, groups=groups, bias=bias)
    level = convolution_level("conv", "stage", 0, convolution)
    assert level.incoming.count == 12 * 6 // groups
    agree([input_level(6), level], convolution, torch.randn(1, 6, 7, 8))


def test_a_norm_is_folded_into_edges_and_bias():
    torch.manual_seed(0)
    network = shake(nn.Sequential(nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)))
    level = fold_batch_norm(convolution_level("conv", "stage", 0, network[0]), network[1])
    agree([input_level(4), level], network, torch.randn(1, 4, 3, 3))
    network[1].weight.data[2] = 0
    cut = fold_batch_norm(convolution_level("conv", "stage", 0, network[0]), network[1])
    assert np.diff(cut.incoming.indptr).tolist() == [4, 4, 0, 4, 4]
    agree([input_level(4), cut], network, torch.randn(1, 4, 3, 3))


def test_a_norm_without_weights():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5, affine=False)).eval()
    network[1].running_mean.normal_()
    level = fold_batch_norm(convolution_level("conv", "stage", 0, network[0]), network[1])
    agree([input_level(4), level], network, torch.randn(1, 4, 3, 3))


def test_operations_of_nodes():
    torch.manual_seed(0)
    mix, norm = nn.Conv2d(3, 6, 1), nn.InstanceNorm2d(6, affine=True)
    spread = nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6)
    network = shake(nn.Sequential(mix, norm, nn.ReLU(), spread))
    level = convolution_level("mix", "stage", 0, mix)
    level = replace(level, norm=instance_norm_of(norm), relu=True, depthwise=depthwise_of(spread))
    agree([input_level(3), level], network, torch.randn(1, 3, 6, 7))
    part = depthwise_of(spread, slice(2, 5))
    np.testing.assert_array_equal(part.kernel, spread.weight.detach().numpy()[2:5, 0])
    np.testing.assert_array_equal(part.bias, spread.bias.detach().numpy()[2:5])


def test_a_linear_layer_behind_means():
    torch.manual_seed(0)
    mix, linear = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)
    hidden = replace(convolution_level("mix", "stage", 0, mix), mean=True)
    network = nn.Sequential(mix, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear, nn.Unflatten(1, (2, 1, 1)))
    agree([input_level(3), hidden, linear_level("fc", 1, linear)], network, torch.randn(1, 3, 4, 5))


def test_a_layer_of_its_own():
    graph = layer_graph(convolution_edges(nn.Conv2d(3, 4, 1)), None, flat=False)
    assert [level.nodes for level in graph.levels] == [3, 4]
    assert not graph.takes_vectors


def test_other_kinds_of_layers_are_refused():
    with pytest.raises(TypeError, match="A Conv2d was expected, not a Linear"):
        convolution_edges(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="A BatchNorm2d was expected, not a GroupNorm"):
        fold_batch_norm(convolution_level("c", "s", 0, nn.Conv2d(2, 2, 1)), nn.GroupNorm(1, 2))
