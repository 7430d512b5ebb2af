"""Small networks of every kind with norms that are not trivial, as exports take them, and their checkpoints."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from genutil.build import build_network
from genutil.config import Experiment
from genutil.saved import checkpoints
from genutil.saved.exports.content import Exported
from tests.models.sparse.networks import mobilenet, shake

SMALL = {"data": "cifar10", "gpus": [], "output_size": 10, "image_size": 32}
TINY = {"dim": 88, "downsample_dim": 8, "feature_dim": 20, "wiring": "dnw", "prune_rate": 0.9}
RANDWIRE = {"model": "randwire", "channel_count": 8}
KINDS: dict[str, dict[str, Any]] = {
    "static": {"model": "static", "layers": 3, **TINY},
    "discrete_time": {"model": "discrete_time", "layers": 3, **TINY},
    "continuous_time": {"model": "continuous_time", "solver": "dopri5", "tolerance": 0.5, **TINY},
    "mobilenetv1_like": {"model": "mobilenetv1_like", "wiring": "dnw", "prune_rate": 0.6},
    "wired_resnet": {"model": "resnet", "depth": 8, "wiring": "dnw", "prune_rate": 0.8},
    "resnet": {"model": "resnet", "depth": 8},
    "randwire": {**RANDWIRE, "regime": "small", "graph_param": [8, 4, 0.75]},
    "randwire_tensorflow": {**RANDWIRE, "regime": "tensorflow_small_cifar", "graph_param": [6, 4, 0.75]},
    "randwire_dnw": {
        **RANDWIRE,
        "regime": "small",
        "graph_model": "complete",
        "graph_param": [6],
        "wiring": "dnw",
        "prune_rate": 0.5,
    },
}
WHOLE = ("static", "discrete_time", "mobilenetv1_like", "randwire", "randwire_tensorflow", "randwire_dnw")
"""The kinds that are channel graphs from image to logits."""


@cache
def exported(kind: str) -> Exported:
    """A network of a kind, ready for export; the MobileNet-like one has three small stages."""
    experiment = Experiment.from_settings({**SMALL, **KINDS[kind]})
    network = mobilenet() if kind == "mobilenetv1_like" else shake(build_network(experiment), seed=3)
    return Exported(experiment, network, kind)


def checkpoint(kind: str, folder: Path) -> Path:
    """The checkpoint of such a network, as a run writes it."""
    what = exported(kind)
    path = folder / f"{kind}.pt"
    optimizer = torch.optim.SGD(what.network.parameters(), lr=0.1)
    fabric = Fabric(accelerator="cpu", devices=1)
    contents = checkpoints.contents(fabric, what.network, optimizer, {}, what.experiment.to_saved())
    checkpoints.write(path, contents)
    return path


def images(batch: int) -> Tensor:
    """Normalised noise as the networks take it."""
    return torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def assert_same(network: nn.Module, images: Tensor, logits: Any) -> None:
    """That logits are the network's, to 1e-4 of the largest."""
    expected = network(images)
    found = torch.as_tensor(logits)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
