from __future__ import annotations

import pytest
import torch
from torch import nn

from genutil.config import Experiment
from genutil.errors import UserError
from genutil.training.optimizers import make_optimizer, parameter_groups
from tests.genutil.parts import SmallNet


def names_of(network: nn.Module, group: dict) -> set[str]:
    chosen = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in network.named_parameters() if id(parameter) in chosen}


def test_everything_decays_by_default() -> None:
    network = SmallNet()
    (group,) = parameter_groups(network, 1e-4, decay_norm_and_bias=True)
    assert names_of(network, group) == dict(network.named_parameters()).keys()
    assert group["weight_decay"] == 1e-4


def test_norms_and_biases_can_be_spared_and_edges_are_not() -> None:
    network = SmallNet()
    decayed, spared = parameter_groups(network, 1e-4, decay_norm_and_bias=False)
    assert names_of(network, decayed) == {"conv.weight", "graph.weight", "linear.weight"}
    assert names_of(network, spared) == {"norm.weight", "norm.bias", "norm2.weight", "norm2.bias", "linear.bias"}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (1e-4, 0)


def test_a_shared_weight_is_taken_once_and_a_frozen_one_not() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    network[1].weight = network[0].weight
    network[1].bias.requires_grad_(False)
    (group,) = parameter_groups(network, 0, decay_norm_and_bias=True)
    assert [parameter.shape for parameter in group["params"]] == [(3, 3), (3,)]


def test_two_steps_of_sgd_with_decay_momentum_and_nesterov() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 2.0)
    experiment = Experiment(lr=0.1, momentum=0.5, weight_decay=0.1, nesterov=True)
    optimizer = make_optimizer(experiment, network)
    weight, momentum = 2.0, 0.0
    for _ in range(2):
        network.weight.grad = torch.ones(1, 1)
        optimizer.step()
        gradient = 1 + 0.1 * weight
        momentum = 0.5 * momentum + gradient
        weight -= 0.1 * (gradient + 0.5 * momentum)
    assert network.weight.item() == pytest.approx(weight)


def test_nothing_to_train_is_told() -> None:
    with pytest.raises(UserError, match="no weights to train"):
        make_optimizer(Experiment(), nn.ReLU())


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_weight_that_gets_its_first_gradient_late_moves_as_without_the_fused_kernel(nesterov: bool) -> None:
    ends = []
    for fused in (True, False):
        torch.manual_seed(0)
        network = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(2))
        optimizer = make_optimizer(Experiment(lr=0.1, momentum=0.9, nesterov=nesterov, fused=fused), network)
        for step in range(3):
            network[0].weight.grad = torch.full((2, 2), 1.0 + step)
            network[1].weight.grad = torch.full((2, 2), 2.0 + step) if step else None
            optimizer.step()
        ends.append([layer.weight.detach() for layer in network])
    for fused, plain in zip(*ends, strict=True):
        torch.testing.assert_close(fused, plain)
