"""The network of every kind of app builds, and trains: each parameter gets a finite gradient, each live node a nonzero
one."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from genutil.build import build, build_network
from models.native.buffers import BUFFERS
from models.networks.mobilenetv1_like import MobileNetV1Like, WiredStage
from models.networks.neural_graph import StaticNeuralGraph
from models.sparse import channel_graphs
from tests.families import experiment_of, representatives

SLOW = ("resnet110", "resnet164", "resnet1001", "wrn_40", "wrn_16_8", "wrn_28", "resnext", "resnet50", "resnet56_dnw")
"""Parts of the names of networks that take long; the others of their kind are smaller."""


def marked(name: str) -> Any:
    return pytest.param(name, marks=[pytest.mark.slow] if any(part in name for part in SLOW) else [])


@pytest.fixture(scope="module")
def complete_graph(tmp_path_factory) -> str:
    """A checkpoint, in the form of 2019, of the complete graph that two apps start from."""
    network = build_network(experiment_of("medium_scale/mobilenetv1_complete_graph").but(seed=3))
    state = {}
    for name, value in network.state_dict().items():
        if name.endswith("graph.weight"):
            value = network.get_submodule(name.removesuffix(".weight")).layout.to_matrix(value)[:, :, None, None]
        if isinstance(value, Tensor):
            state[f"module.{name}"] = value
    path = tmp_path_factory.mktemp("complete") / "best.pt"
    torch.save({"model": state}, path)
    return str(path)


def gradients_of_nodes(network: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
    """For the parameters of each level of nodes: their gradients, a row a node, and which of the nodes live."""
    for graph in channel_graphs(network).values():
        for level, alive in zip(graph.levels, graph.liveness, strict=True):
            if isinstance(network, MobileNetV1Like) and level.name.startswith("layers."):
                _, stage, _, *group = level.name.split(".")
                part = network.layers[int(stage)]
                assert isinstance(part, WiredStage)
                first = int(group[0]) * part.out_channels if group else 0
                kernel = part.conv.weight.grad[first : first + level.nodes] if group else part.downsample[0].weight.grad
                norm = part.norm[int(group[0]) + 1 if group else 0]
            elif isinstance(network, StaticNeuralGraph) and level.depthwise is not None and level.norm is not None:
                block = int(level.name.split(".")[1])
                kernel = network.conv.weight.grad[network.bounds[block] : network.bounds[block + 1]]
                norm = network.norm[block]
            else:
                continue
            for gradient in (norm.weight.grad, norm.bias.grad, kernel):
                yield level.name, gradient.flatten(1) if gradient.dim() > 1 else gradient[:, None], alive.live


@pytest.mark.parametrize("name", map(marked, representatives()))
def test_builds_and_trains_a_step(name, complete_graph):
    experiment = experiment_of(name).but(profile=True)
    if experiment.model == "randwire":
        experiment = experiment.but(drop_edge=0.0)  # an edge that is dropped for both images has no gradient
    if experiment.wiring == "fine_tune":
        experiment = experiment.but(use_graph=complete_graph, use_init=complete_graph if experiment.use_init else None)
    network = build(experiment, Fabric(accelerator="cpu", devices=1), torch.device("cpu"), print).network
    network.train()
    torch.manual_seed(0)
    batch = 2 if experiment.image_size > 64 else 16  # batch norm of few values has no gradient to speak of
    images = torch.randn(batch, experiment.in_channels, experiment.image_size, experiment.image_size)
    F.cross_entropy(network(images), torch.arange(batch) % 2).backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name
    for level, gradient, live in gradients_of_nodes(network):
        without = torch.from_numpy(live) & ~gradient.any(dim=1)
        assert not without.any(), f"{level}: {int(without.sum())} live nodes without a gradient"


@pytest.mark.parametrize("backward", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "small_scale/static_dnw",
        "small_scale/discrete_time_dnw",
        "small_scale/continuous_time_dnw",
        "medium_scale/mobilenetv1_dnw_x225",
        "randwire/mnist_ws",
        "randwire/cifar10_budget_dnw",
        "sparsity/resnet20_rigl_90",
        "sparsity/resnet20_str_90",
    ],
)
def test_a_step_leaves_nothing_behind(name, backward):
    """Cycles through autograd's graph are never freed, and would fill the memory within an epoch."""
    experiment = experiment_of(name).but(profile=True)
    if experiment.model == "randwire":
        experiment = experiment.but(channel_count=8)
    network = build(experiment, Fabric(accelerator="cpu", devices=1), torch.device("cpu"), lambda *_: None).network
    network.train()
    images = torch.randn(2, experiment.in_channels, experiment.image_size, experiment.image_size)
    counts = []
    BUFFERS.clear()  # memory that earlier networks left would go back to the system meanwhile
    for _ in range(4):
        loss = F.cross_entropy(network(images), torch.tensor([0, 1]))
        if backward:
            loss.backward()
            network.zero_grad()
        del loss
        gc.collect()
        counts.append(sum(issubclass(type(thing), Tensor) for thing in gc.get_objects()))
    assert counts[1:] == counts[1:2] * 3
