"""Reads Keras' CIFAR networks out of TensorFlow-2 checkpoints: ResNet v1 (shortcut A) and v2, VGG.

They are those that github.com/gahaalt/cifar-vs-tensorflow2 publishes: layers numbered along the network, conv, BN,
conv, BN, …, dense; in v2 BN, conv, …, and where a block has a convolution as shortcut, that beside its last one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.networks.resnet import ResidualNetwork, resnet
from models.networks.vgg import VGG
from pretrained.foreign import Foreign
from pretrained.tensorflow_checkpoint import CheckpointError, TensorFlowCheckpoint

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
KEY = re.compile(r"layer_with_weights-(\d{1,6})/(\w+)/\.ATTRIBUTES/VARIABLE_VALUE")
DEEPEST = 1202
"""Layers of the deepest ResNet published (He et al. 2015); more than these are not believed."""

MOST_CLASSES = 100_000
NORMS = {"bn_epsilon": 1e-3, "bn_momentum": 0.01}
VGG_LAYERS = {17: 11, 21: 13, 27: 16, 33: 19}
"""The depth of a VGG by the number of its layers with weights, norms included."""
V2_LAYERS = {221: 110, 330: 164, 2004: 1001}
"""The same of a ResNet v2 whose shortcuts are convolutions where shapes change."""

Named = tuple[str, nn.Module]
Layer = dict[str, str]
"""Keys in the checkpoint by the tensor's name in its layer."""


def load(prefix: str | Path) -> Foreign:
    """The network of a checkpoint, with the padding, epsilon and normalisation that it was trained with.

    prefix: the checkpoint's path without `.index`; kind and depth are read off the number and kinds of its layers.
    Raises FileNotFoundError for an absent file, CheckpointError (a ValueError) for a damaged or another network.
    """
    checkpoint = TensorFlowCheckpoint(prefix)
    layers = _layers(checkpoint)
    another = f"Checkpoint {prefix} is no ResNet v1 with shortcut A for small images"
    if (depth := VGG_LAYERS.get(len(layers))) is not None and "bias" in layers[0]:
        return _vgg(checkpoint, layers, depth)
    if (depth := V2_LAYERS.get(len(layers))) is not None and layers[2].keys() == {"kernel"}:
        return _resnet_v2(checkpoint, layers, depth)
    depth, rest = divmod(len(layers) + 1, 2)  # a conv and a norm for every layer, and the linear one
    if rest or depth % 6 != 2 or not 8 <= depth <= DEEPEST or "bias" not in layers[-1]:
        raise CheckpointError(f"{another}: its {len(layers)} layers with weights are not those of one.")
    arguments = {
        "depth": depth,
        "block": "v1",
        "shortcut": "A",
        "width_mult": 1.0,
        "padding": "same_tensorflow",
        **NORMS,
    }
    network = resnet(**arguments, classes=_classes(checkpoint, layers))
    _fill(network, _in_order(network), checkpoint, layers, another)
    return Foreign(network, "resnet", arguments, MEAN, STD)


def _vgg(checkpoint: TensorFlowCheckpoint, layers: list[Layer], depth: int) -> Foreign:
    arguments: dict[str, Any] = {"depth": depth, "width_mult": 1.0, **NORMS}
    network = VGG(**arguments, classes=_classes(checkpoint, layers))
    _fill(network, _in_order(network), checkpoint, layers, f"Checkpoint {checkpoint.prefix} is no VGG-{depth}")
    return Foreign(network, "vgg", arguments, MEAN, STD, verified=False)


def _resnet_v2(checkpoint: TensorFlowCheckpoint, layers: list[Layer], depth: int) -> Foreign:
    arguments = {
        "depth": depth,
        "block": "v2",
        "shortcut": "B",
        "width_mult": 1.0,
        "padding": "same_tensorflow",
        **NORMS,
    }
    network = resnet(**arguments, classes=_classes(checkpoint, layers))
    # in the first group both may have one shape; the other groups tell their order
    orders = [_v2_in_order(network, shortcut_first=first) for first in (True, False)]
    order = next((order for order in orders if _misfit(order, checkpoint, layers) is None), orders[0])
    _fill(network, order, checkpoint, layers, f"Checkpoint {checkpoint.prefix} is no ResNet-{depth} v2")
    return Foreign(network, "resnet", arguments, MEAN, STD, verified=False)


def _in_order(network: nn.Module) -> list[Named]:
    """The layers with weights, as they are registered."""
    return [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]


def _v2_in_order(network: ResidualNetwork, *, shortcut_first: bool) -> list[Named]:
    """The layers with weights of a pre-activated network as an image meets them."""
    names = {module: name for name, module in network.named_modules()}
    order: list[nn.Module] = [network.conv1]
    for block in network.residual_blocks():
        for i in range(1, block.length + 1):
            order += [block.get_submodule(f"bn{i}"), block.get_submodule(f"conv{i}")]
        for module in block.shortcut.modules():
            if isinstance(module, nn.Conv2d):
                order.insert(len(order) - shortcut_first, module)
    return [(names[module], module) for module in (*order, network.bn, network.linear)]


def _misfit(order: Sequence[Named], checkpoint: TensorFlowCheckpoint, layers: list[Layer]) -> str | None:
    """The first layer that is another one in the checkpoint, as the second half of a sentence."""
    for (name, module), layer in zip(order, layers, strict=True):
        if _tensors(module).keys() != layer.keys():
            return f"where {name} should be it has {', '.join(sorted(layer))}"
        for part, ours in _tensors(module).items():
            shape = checkpoint.entries[layer[part]].shape
            if shape != tuple(ours.shape):
                return f"{part} of {name} should have the shape {list(ours.shape)}, not {list(shape)}"
    return None


def _fill(
    network: nn.Module, order: Sequence[Named], checkpoint: TensorFlowCheckpoint, layers: list[Layer], another: str
) -> None:
    """Gives a network the checkpoint's tensors. Raises CheckpointError where some are another network's."""
    if misfit := _misfit(order, checkpoint, layers):
        raise CheckpointError(f"{another}: {misfit}.")
    with torch.no_grad():
        for (_, module), layer in zip(order, layers, strict=True):
            for part, ours in _tensors(module).items():
                ours.copy_(torch.from_numpy(checkpoint[layer[part]].astype(np.float32)))


def _classes(checkpoint: TensorFlowCheckpoint, layers: list[Layer]) -> int:
    shape = checkpoint.entries[layers[-1]["bias"]].shape if "bias" in layers[-1] else ()
    if len(shape) != 1 or not 1 <= shape[0] <= MOST_CLASSES:
        raise CheckpointError(f"Checkpoint {checkpoint.prefix} is of no classifier: its last layer is none.")
    return shape[0]


def _layers(checkpoint: TensorFlowCheckpoint) -> list[Layer]:
    """The layers with weights, in the order of their creation."""
    found: dict[int, Layer] = {}
    for key in checkpoint:
        match = KEY.fullmatch(key)
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = key
    if not found or sorted(found) != list(range(len(found))):
        raise CheckpointError(f"Checkpoint {checkpoint.prefix} is of no Keras network: layers are missing.")
    return [found[number] for number in range(len(found))]


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Our tensors by their Keras names, seen in Keras' order of the axes: height, width, in, out."""
    if isinstance(module, nn.BatchNorm2d):
        assert module.running_mean is not None
        assert module.running_var is not None
        return {
            "gamma": module.weight,
            "beta": module.bias,
            "moving_mean": module.running_mean,
            "moving_variance": module.running_var,
        }
    assert isinstance(module, nn.Conv2d | nn.Linear)
    tensors = {"kernel": module.weight.permute(*range(2, module.weight.ndim), 1, 0)}
    return tensors if module.bias is None else tensors | {"bias": module.bias}
