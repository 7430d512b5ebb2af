"""Reads Keras' CIFAR ResNets (v1, shortcut A) out of TensorFlow-2 checkpoints.

They are those that github.com/gahaalt/cifar-vs-tensorflow2 publishes: layers numbered in the order of their creation,
conv, BN, conv, BN, …, dense.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.networks.resnet import resnet
from pretrained.foreign import Foreign
from pretrained.tensorflow_checkpoint import CheckpointError, TensorFlowCheckpoint

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
KEY = re.compile(r"layer_with_weights-(\d{1,6})/(\w+)/\.ATTRIBUTES/VARIABLE_VALUE")
DEEPEST = 1202
"""Layers of the deepest ResNet published (He et al. 2015); more than these are not believed."""

Layer = dict[str, str]
"""Keys in the checkpoint by the tensor's name in its layer."""


def load_resnet(prefix: str | Path) -> Foreign:
    """The ResNet v1 (shortcut A) of a checkpoint, with the padding, epsilon and normalisation that it was trained with.

    prefix: the checkpoint's path without `.index`; the depth is read off the number of its layers.
    Raises FileNotFoundError for an absent file, CheckpointError (a ValueError) for a damaged or another network.
    """
    checkpoint = TensorFlowCheckpoint(prefix)
    layers = _layers(checkpoint)
    another = f"Checkpoint {prefix} is no ResNet v1 with shortcut A for small images"
    depth, rest = divmod(len(layers) + 1, 2)  # a conv and a norm for every layer, and the linear one
    if rest or depth % 6 != 2 or not 8 <= depth <= DEEPEST or "bias" not in layers[-1]:
        raise CheckpointError(f"{another}: its {len(layers)} layers with weights are not those of one.")
    arguments = {
        "depth": depth,
        "block": "v1",
        "shortcut": "A",
        "width_mult": 1.0,
        "padding": "same_tensorflow",
        "bn_epsilon": 1e-3,
        "bn_momentum": 0.01,
    }
    network = resnet(**arguments, classes=checkpoint[layers[-1]["bias"]].size)
    modules = [m for m in network.named_modules() if isinstance(m[1], nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    for (name, module), layer in zip(modules, layers, strict=True):
        if _tensors(module).keys() != layer.keys():
            raise CheckpointError(f"{another}: where {name} should be it has {', '.join(sorted(layer))}.")
        for part, ours in _tensors(module).items():
            entry = checkpoint.entries[layer[part]]
            if entry.shape != tuple(ours.shape):
                raise CheckpointError(
                    f"{another}: {part} of {name} should have the shape {list(ours.shape)}, not {list(entry.shape)}."
                )
            with torch.no_grad():
                ours.copy_(torch.from_numpy(checkpoint[layer[part]].astype(np.float32)))
    return Foreign(network, "resnet", arguments, MEAN, STD)


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
