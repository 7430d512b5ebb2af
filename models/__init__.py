"""Networks and wirings: pure torch and networkx, plain arguments, no configuration, no files, no data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

import models.wirings.scheduled  # noqa: F401  adds the rivals' rules to WIRINGS
from models.networks.imagenet_resnet import imagenet_resnet
from models.networks.mobilenetv1 import MobileNetV1
from models.networks.mobilenetv1_like import MobileNetV1Like
from models.networks.neural_graph import ContinuousTimeNeuralGraph, DiscreteTimeNeuralGraph, StaticNeuralGraph
from models.networks.randwire import randwire
from models.networks.resnet import resnet, resnext, wrn
from models.networks.shufflenetv2 import shufflenetv2
from models.networks.vgg import VGG

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "mobilenetv1_like": MobileNetV1Like,
    "static": StaticNeuralGraph,
    "discrete_time": DiscreteTimeNeuralGraph,
    "continuous_time": ContinuousTimeNeuralGraph,
    "mobilenetv1": MobileNetV1,
    "shufflenetv2": shufflenetv2,
    "resnet": resnet,
    "wrn": wrn,
    "resnext": resnext,
    "vgg": VGG,
    "imagenet_resnet": imagenet_resnet,
    "randwire": randwire,
}


def build_network(name: str, **arguments: Any) -> nn.Module:
    """The untrained network of that name; its docstring says which arguments it takes.

    Raises:
        ValueError: a name that is not in NETWORKS, or arguments that make no network.
    """
    if name not in NETWORKS:
        raise ValueError(f"There is no network {name!r}; there are {', '.join(NETWORKS)}.")
    return NETWORKS[name](**arguments)
