"""Reads the widely used public CIFAR ResNets of PyTorch.

They hold `state_dict` with conv1, bn1, layerL.I.conv1 …, linear, and `best_prec1`; have shortcut A with zeros on both
sides of the channels, or B; and were trained with ImageNet's normalisation. Those of github.com/akamaster/
pytorch_resnet_cifar10 are of PyTorch 0.4, whose batch norms counted no batches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from data.statistics import IMAGENET
from models.networks.resnet import resnet
from pretrained import safe_pickle, states
from pretrained.foreign import Foreign


def load_resnet(path: str | Path) -> Foreign:
    """The ResNet v1 of a file that torch.save wrote; nothing in it is executed.

    Raises FileNotFoundError for an absent file, ValueError for a file that is something else.
    """
    found = states.find(safe_pickle.load(Path(path)))
    if found is None:
        raise ValueError(f"The file {path} holds no state of a network.")
    try:
        return from_state(found.tensors)
    except ValueError as error:
        raise ValueError(f"The file {path} cannot be used: {error}") from error


def from_state(state: Mapping[str, Tensor]) -> Foreign:
    """The ResNet v1 with these tensors, by names as of `states.find`. ValueError where they are another network's."""
    blocks = {match[1] for name in state if (match := re.match(r"(layer\d+\.\d+)\.conv1\.weight", name))}
    if not blocks or "conv1.weight" not in state or "linear.weight" not in state:
        raise ValueError("these tensors are no CIFAR ResNet: conv1, layer1 … and linear are missing.")
    arguments = {
        "depth": 2 + 2 * len(blocks),
        "block": "v1",
        "shortcut": "B" if any(".shortcut." in name for name in state) else "A_both",
        "width_mult": len(state["conv1.weight"]) / 16,
        "padding": "symmetric",
        "bn_epsilon": 1e-5,
    }
    network = resnet(**arguments, classes=len(state["linear.weight"]))
    try:
        network.load_state_dict(states.with_counters(state, network)[0])
    except RuntimeError as error:
        raise ValueError(f"these tensors are no ResNet-{arguments['depth']} v1: {error}") from error
    return Foreign(network, "resnet", arguments, *IMAGENET)
