"""Networks and wirings: torch and networkx, plain arguments, no settings and no data sets."""

# Importing this package loads nothing heavy: the names in NETWORKS can be read without torch. The only files that it
# reads and writes by itself are the native kernels (`models.native`), built at first use.

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from models.registry import Registry

if TYPE_CHECKING:
    from torch import nn

NETWORKS: Registry[Callable[..., nn.Module]] = Registry(
    "network",
    {
        "mobilenetv1_like": "models.networks.mobilenetv1_like:MobileNetV1Like",
        "static": "models.networks.neural_graph:StaticNeuralGraph",
        "discrete_time": "models.networks.neural_graph:DiscreteTimeNeuralGraph",
        "continuous_time": "models.networks.neural_graph:ContinuousTimeNeuralGraph",
        "mobilenetv1": "models.networks.mobilenetv1:MobileNetV1",
        "shufflenetv2": "models.networks.shufflenetv2:shufflenetv2",
        "resnet": "models.networks.resnet:resnet",
        "wrn": "models.networks.resnet:wrn",
        "resnext": "models.networks.resnet:resnext",
        "vgg": "models.networks.vgg:VGG",
        "imagenet_resnet": "models.networks.imagenet_resnet:imagenet_resnet",
        "randwire": "models.networks.randwire:randwire",
    },
)
"""What makes each network, by name. `models.protocols` says what a network may tell of itself."""


def build_network(name: str, **arguments: Any) -> nn.Module:
    """The untrained network of that name; its docstring says which arguments it takes.

    Raises:
        ValueError: a name that is not in NETWORKS, or arguments that make no network.
    """
    return NETWORKS.choose(name)(**arguments)
