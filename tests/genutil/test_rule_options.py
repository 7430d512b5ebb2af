"""Every option of every rule acts on every kind of network, from the settings of an experiment on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genutil.build import build_network
from genutil.config import DEEP_NETWORKS, SELF_WIRED_NETWORKS, Experiment
from genutil.settings.wiring import OPTIONS
from models import NETWORKS
from models.wirings.graph import LayerGraph, graphs
from models.wirings.registry import WIRINGS
from models.wirings.wire import update_wirings

TINY = {"dim": 60, "downsample_dim": 12, "feature_dim": 20}
SETTINGS: dict[str, dict[str, Any]] = {
    "mobilenetv1_like": {"small": True},
    "static": TINY,
    "discrete_time": TINY | {"layers": 2},
    "continuous_time": TINY | {"solver": "euler", "solver_steps": 2},
    "randwire": {"graph_model": "complete", "graph_param": [60, 4, 4], "channel_count": 2, "stages": 3},
    "mobilenetv1": {"width_mult": 0.05},
    "shufflenetv2": {"width_mult": 0.5},
    "resnet": {"depth": 8, "width_mult": 0.25},
    "wrn": {"depth": 10, "width_mult": 0.5},
    "resnext": {"depth": 11, "cardinality": 2, "base_width": 4},
    "vgg": {"depth": 11, "width_mult": 0.0625},
    "imagenet_resnet": {"depth": 50, "dense_layers": ["layer[234].*", "fc"]},
}
CHANGES: dict[str, dict[str, Any]] = {"mobilenetv1_like": {"stages": ((8, 16, 1, 1), (16, 24, 2, 3))}}
"""Arguments of networks that are no settings."""

PRUNE_RATES = {"mobilenetv1_like": 0.3}
"""Its own is a share of the channels, not of the edges; 0.8 for all others."""

STEPS = 20


def build(model: str, rule: str, **options: Any) -> nn.Module:
    """The network of an experiment, in training mode."""
    prune_rate = PRUNE_RATES.get(model, 0.8)
    settings = {"model": model, "wiring": rule, "prune_rate": prune_rate, **SETTINGS[model], **options}
    return build_network(Experiment.from_settings(settings), **CHANGES.get(model, {})).train()


def masks(network: nn.Module) -> Tensor:
    """Of all graphs, one after the other."""
    return torch.cat([graph.acting() for _, graph in graphs(network)])


def changes(network: nn.Module, steps: int = STEPS, last: int | None = None) -> list[tuple[int, Tensor]]:
    """The steps after which masks have changed, with the masks then; gradients are drawn instead of computed."""
    parameters = [g.parameter if isinstance(g, LayerGraph) else g.weight for _, g in graphs(network)]
    optimizer = torch.optim.SGD(parameters, lr=0.001)
    draw = torch.Generator().manual_seed(0)
    before, found = masks(network), []
    for step in range(steps if last is None else last + 1):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        update_wirings(network, optimizer, step, steps)
        if not torch.equal(before, now := masks(network)):
            found.append((step, now))
            before = now
    return found


def check_interval(model: str, rule: str) -> None:
    assert len(changes(build(model, rule))) == (rule == "gradual_magnitude"), "the default is longer than the training"
    found = [step for step, _ in changes(build(model, rule, wiring_interval=3))]
    assert found == [2, 5, 8, 11, *[14] * (rule == "gradual_magnitude")]


def check_end(model: str, rule: str) -> None:
    found = [step for step, _ in changes(build(model, rule, wiring_interval=2, wiring_end=0.4))]
    assert found == [1, 3, 5, *[7] * (rule == "gradual_magnitude")]


def check_begin(model: str, rule: str) -> None:
    found = [step for step, _ in changes(build(model, rule, wiring_interval=2, wiring_begin=0.5))]
    assert found == [11, 13, 14]


def check_fraction(model: str, rule: str) -> None:
    shares = []
    for options in ({}, {"wiring_fraction": 0.8}):
        network = build(model, rule, wiring_interval=1, **options)
        before = masks(network)
        ((step, after),) = changes(network, steps=1000, last=0)
        assert step == 0
        shares.append(float((before & ~after).sum() / before.sum()))
    assert 0.1 < shares[0] <= 0.3
    assert 0.4 < shares[1] <= 0.8, "of those dropped some are grown again"


def check_initial(model: str, rule: str) -> None:
    network = build(model, rule, str_initial=-5.0)
    for _, graph in graphs(network):
        assert graph.wiring.threshold.item() == -5.0
        assert torch.equal(graph.acting(), graph.weight.abs() > torch.sigmoid(torch.tensor(-5.0)))
    assert not masks(network).all()


def check_decay(model: str, rule: str) -> None:
    gradients = []
    for options in ({}, {"str_decay": 0.25}):
        network = build(model, rule, str_initial=-4.0, **options)
        for _, graph in graphs(network):
            graph.wiring(graph.weight).sum().backward()
        gradients.append(torch.stack([graph.wiring.threshold.grad for _, graph in graphs(network)]))
    torch.testing.assert_close(gradients[1] - gradients[0], torch.full_like(gradients[0], -4.0 * (0.25 - 5e-4)))


def check_rho(model: str, rule: str) -> None:
    for value, expected in ((0.25, 0.25), ("gamma", None)):
        dropped = weak = chance = 0.0
        for _, graph in graphs(build(model, rule, rho=value)):
            graph.wiring.eval()
            idle = ~graph.acting()
            graph.wiring.train()
            dropped += float((graph.wiring(graph.weight)[idle] == 0).sum())
            weak += float(idle.sum())
            chance += float(idle.sum()) * (graph.wiring.prune_rate if expected is None else expected)
        assert weak > 300
        assert dropped / weak == pytest.approx(chance / weak, abs=4 * math.sqrt(0.25 / weak))
        assert dropped / weak != pytest.approx(0.95, abs=0.05)


def check_near(model: str, rule: str) -> None:
    for options, near in (({}, 2.0), ({"wiring_near": 0.25}, 0.25)):
        for _, graph in graphs(build(model, rule, **options)):
            graph.wiring.prepare(1, STEPS)
            weight = graph.weight.detach().requires_grad_()
            graph.wiring(weight).sum().backward()
            kept, possible = graph.wiring.kept, graph.layout.possible
            assert int(weight.grad.count_nonzero()) == min(kept + round(near * kept), possible)


def check_every(model: str, rule: str) -> None:
    for options, expected in (({}, [0, 8, 16]), ({"wiring_every": 7}, [0, 7, 14])):
        network, reaching = build(model, rule, **options), []
        optimizer = torch.optim.SGD(network.parameters(), lr=0.001)
        for step in range(STEPS):
            if all(graph.wiring.reaches_idle for _, graph in graphs(network)):
                reaching.append(step)
            update_wirings(network, optimizer, step, STEPS)
        assert reaching == expected


CHECKS: dict[str, Callable[[str, str], None]] = {
    "wiring_near": check_near,
    "wiring_every": check_every,
    "rho": check_rho,
    "wiring_interval": check_interval,
    "wiring_begin": check_begin,
    "wiring_end": check_end,
    "wiring_fraction": check_fraction,
    "str_initial": check_initial,
    "str_decay": check_decay,
}


def test_no_option_and_no_network_is_left_out():
    assert set(CHECKS) == set(OPTIONS)
    assert set(SETTINGS) == set(NETWORKS)
    assert {name for name, settings in SETTINGS.items() if "depth" in settings} == set(DEEP_NETWORKS)


@pytest.mark.parametrize("model", SETTINGS)
@pytest.mark.parametrize(
    ("rule", "key"), [(name, option.key) for name, rule in WIRINGS.items() for option in rule.options]
)
def test_an_option_acts(model: str, rule: str, key: str):
    CHECKS[key](model, rule)


@pytest.mark.parametrize("model", SETTINGS)
@pytest.mark.parametrize("rule", WIRINGS)
def test_every_rule_wires_every_network(model: str, rule: str):
    evaluates = {"profile": True}  # fine_tune trains from a checkpoint only
    network = build(model, rule, **evaluates)
    found = [graph for _, graph in graphs(network)]
    if rule == "complete" and (model not in SELF_WIRED_NETWORKS or model == "randwire"):
        assert not found
    else:
        assert {type(graph.wiring) for graph in found} == {WIRINGS[rule].wiring}
        assert all(graph.layout.possible for graph in found)
