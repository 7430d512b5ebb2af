"""What makes training faster on a device without changing the recipe."""

from __future__ import annotations

import logging
import os
import shutil
from typing import TYPE_CHECKING

import torch
from torch import nn

from genutil.config import Experiment
from genutil.errors import UserError
from models.wirings.graph import LayerGraph, graphs

if TYPE_CHECKING:
    from lightning_fabric import Fabric

COMPILERS = ("c++", "g++", "clang++")


def wants_channels_last(experiment: Experiment, device: torch.device) -> bool:
    """Whether the channels of a pixel are to lie together in memory: as asked for, or where it is known to pay.

    That is on CPUs, whose convolutions take them as they are, and on GPUs where tensor cores want it so.
    """
    if experiment.channels_last != "auto":
        return experiment.channels_last
    return device.type == "cpu" or (device.type == "cuda" and experiment.precision in ("bf16", "16"))


def lay_out(network: nn.Module, experiment: Experiment, device: torch.device) -> None:
    """Lay out the kernels of convolutions anew in place where that is wanted; layers then give planes laid out so.

    On CPUs kernels of one pixel, and of one channel, keep their strides: both layouts are the same to them, but several
    processes would warn of gradients with other strides. They take planes as they come from the layer before.
    """
    if not wants_channels_last(experiment, device):
        return
    wired = {id(graph.parameter): graph.wired for _, graph in graphs(network) if isinstance(graph, LayerGraph)}
    for weight in network.parameters():
        if id(weight) in wired:
            wired[id(weight)].channels_last = weight.dim() == 4
        elif weight.dim() == 4 and (device.type == "cuda" or (weight.shape[1] > 1 and weight[0, 0].numel() > 1)):
            weight.data = weight.data.to(memory_format=torch.channels_last)


def accelerated(fabric: Fabric, network: nn.Module, experiment: Experiment) -> nn.Module:
    """The network as it is to be set up for training; it stays the plain one that is evaluated and saved.

    What is compiled wraps the network, so that the names of its entries stay as they are.

    Raises:
        UserError: `compile` without a C++ compiler, which torch's compiler needs on the CPU.
    """
    if not experiment.compile:
        return network
    if fabric.device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))):
        raise UserError("compile needs a C++ compiler on the CPU, and there is none: leave it out.")
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)  # it would report where it leaves our kernels alone
    compiled = torch.compile(network)
    assert isinstance(compiled, nn.Module)
    return compiled
