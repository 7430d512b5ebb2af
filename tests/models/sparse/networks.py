"""Small networks whose norms are not trivial and whose edges matter, as training leaves them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

import models
from models.networks.mobilenetv1_like import MobileNetV1Like
from models.wirings.rules import EdgeLayout, Graph, Wiring, make_wiring

STAGES = ((8, 12, 1, 1), (12, 20, 2, 2), (20, 40, 2, 3))


def shake(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with random norms and strong edges, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.InstanceNorm2d)):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
        if isinstance(module, Graph):
            module.weight.data *= 8
    return network.eval()


def mobilenet(
    graph: str = "dnw", prune_rate: float = 0.6, small: bool = False, image_size: int = 32
) -> MobileNetV1Like:
    """A MobileNetV1-like network of three small stages."""
    torch.manual_seed(1)
    network = MobileNetV1Like(10, image_size, graph, prune_rate, small=small, stages=STAGES)
    shake(network)
    return network


def tiny(name: str, prune_rate: float = 0.9) -> nn.Module:
    """A tiny classifier with 88 channels."""
    torch.manual_seed(2)
    arguments = {"layers": 3} if name != "continuous_time" else {}
    return shake(
        models.build_network(
            name,
            classes=10,
            image_size=24,
            wiring="dnw",
            prune_rate=prune_rate,
            dim=88,
            downsample_dim=8,
            feature_dim=20,
            **arguments,
        )
    )


class FlatWiring(nn.Module):
    """A parametrization of a weight of any shape by a wiring over its rows."""

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        self.wiring = wiring

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return self.wiring(weight.flatten()).view_as(weight)


def wire(layer: nn.Module, prune_rate: float) -> nn.Module:
    """The convolution or linear layer with its weight wired by dnw."""
    weight = layer.weight
    wiring = make_wiring("dnw", EdgeLayout.full(len(weight), weight[0].numel()), prune_rate)
    parametrize.register_parametrization(layer, "weight", FlatWiring(wiring))
    return layer


def wired_inside(prune_rate: float = 0.8) -> nn.Module:
    """A dense network with wired convolutions of several kernels and a wired linear layer inside."""
    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        wire(nn.Conv2d(12, 18, 3, stride=2, padding=1, bias=False), prune_rate),
        nn.BatchNorm2d(18),
        nn.ReLU(),
        wire(nn.Conv2d(18, 24, 1), prune_rate),
        nn.ReLU(),
        wire(nn.Conv2d(24, 16, 5, padding=2, groups=2), prune_rate),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        wire(nn.Linear(16, 10), 0.5),
    )
    return shake(network)
