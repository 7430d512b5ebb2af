"""What the networks of this project tell of themselves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import models
from models.networks.random_graphs import from_text
from models.protocols import (
    HasChannelGraphs,
    HasCountOf2019,
    HasFiles,
    HasImageSize,
    HasMeasures,
    TakesEngines,
)

ARGUMENTS = {
    "mobilenetv1_like": {"image_size": 48, "stages": ((4, 8, 1, 1),)},
    "static": {"image_size": 24, "dim": 40, "downsample_dim": 8, "feature_dim": 6},
    "discrete_time": {"image_size": 24, "dim": 40, "downsample_dim": 8, "feature_dim": 6},
    "continuous_time": {"image_size": 24, "dim": 40, "downsample_dim": 8, "feature_dim": 6},
    "mobilenetv1": {"image_size": 96, "width_mult": 0.25},
    "shufflenetv2": {"width_mult": 0.5},
    "resnet": {"depth": 8},
    "wrn": {"depth": 10, "width_mult": 1},
    "resnext": {"depth": 11, "cardinality": 2, "base_width": 4},
    "vgg": {"depth": 11, "width_mult": 0.1},
    "imagenet_resnet": {"depth": 18},
    "randwire": {"channel_count": 4},
}
SIZES = {"mobilenetv1_like": 48, "static": 24, "discrete_time": 24, "continuous_time": 24, "mobilenetv1": 96} | {
    "shufflenetv2": 224,
    "imagenet_resnet": 224,
    "randwire": 224,
}


def build(name: str) -> nn.Module:
    return models.build_network(name, classes=5, **ARGUMENTS[name])


@pytest.mark.parametrize("name", models.NETWORKS)
def test_every_network_knows_its_image_size_and_runs_on_it(name: str):
    network = build(name).eval()
    assert isinstance(network, HasImageSize)
    assert network.image_size == SIZES.get(name, 32)
    with torch.no_grad():
        assert network(torch.randn(1, 3, network.image_size, network.image_size)).shape == (1, 5)


@pytest.mark.parametrize(
    ("protocol", "names"),
    [
        (HasChannelGraphs, {"mobilenetv1_like", "static", "discrete_time", "continuous_time"}),
        (TakesEngines, {"continuous_time"}),
        (HasCountOf2019, {"mobilenetv1_like"}),
        (HasMeasures, {"continuous_time"}),
        (HasFiles, {"randwire"}),
    ],
)
def test_who_tells_what(protocol: type, names: set[str]):
    assert {name for name in models.NETWORKS if isinstance(build(name), protocol)} == names


def test_files_of_a_randomly_wired_network_are_its_graphs():
    network = build("randwire")
    files = network.files()
    assert list(files) == ["graphs/dag_0.txt", "graphs/dag_1.txt", "graphs/dag_2.txt"]
    assert [from_text(text).edges for text in files.values()] == [graph.edges for graph in network.graphs]


@pytest.mark.parametrize(("regime", "size"), [("regular", 224), ("my_regime", 32)])
def test_the_image_size_of_a_randomly_wired_network_is_its_regimes(regime: str, size: int):
    assert models.build_network("randwire", regime=regime, channel_count=4).image_size == size
