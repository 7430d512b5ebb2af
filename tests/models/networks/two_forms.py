"""Small wired networks, and what a training step of theirs gives in the native form and in torch's."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models
from models.networks.planes import torch_form

TINY = {"dim": 28, "downsample_dim": 4, "feature_dim": 6}
NETWORKS: dict[str, dict[str, object]] = {
    "static": TINY | {"layers": 4},
    "discrete_time": TINY | {"layers": 3},
    "continuous_time": TINY | {"solver": "rk4", "solver_steps": 2},
    "mobilenetv1_like": {"stages": ((4, 8, 1, 2), (8, 12, 2, 3), (12, 16, 2, 1))},
}
CLASSES = 5


def build(name: str, wiring: str = "dnw", prune_rate: float = 0.7, image_size: int = 16, **more: object) -> nn.Module:
    """A network in double precision whose norms are not those that training starts from."""
    torch.manual_seed(0)
    arguments = NETWORKS[name] | more
    network = models.build_network(
        name, classes=CLASSES, image_size=image_size, wiring=wiring, prune_rate=prune_rate, **arguments
    ).double()
    for norm in norms(network):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.3, 0.3)
    return network


def norms(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.InstanceNorm2d)]


def batch_of(size: int, image_size: int = 16) -> tuple[Tensor, Tensor]:
    """Images and labels."""
    torch.manual_seed(1)
    return torch.randn(size, 3, image_size, image_size, dtype=torch.float64), torch.randint(CLASSES, (size,))


def step(network: nn.Module, images: Tensor, labels: Tensor, native: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and the gradient of every parameter that has one."""
    network.zero_grad()
    torch.manual_seed(2)  # for rules that draw
    with nullcontext() if native else torch_form():
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def furthest(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest difference of the gradients, of each in shares of its largest entry.

    A gradient that a later norm takes away is 0 but for rounding: the shares are of a thousandth of the largest entry
    of all gradients at least.
    """
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    shares = []
    for name, theirs in expected.items():
        scale = max(float(theirs.abs().max()), 1e-3 * largest)
        shares.append(float((found[name].to(theirs.dtype) - theirs).abs().max()) / scale)
    return max(shares)
