"""The CIFAR zoo, sparsity, random wiring: the networks that app files name are built and counted; their schedules."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from genutil.build import build_network
from genutil.config import Experiment
from genutil.model_profiling import profile
from genutil.settings import app_files
from genutil.settings.app_files import APPS
from genutil.training.schedules import make_schedule
from models import NETWORKS
from models.wirings.rules import WIRINGS, graphs

CIFAR = [f"cifar/{path.stem}" for path in app_files.experiments(APPS / "cifar")]
SPARSITY = [f"sparsity/{path.stem}" for path in app_files.experiments(APPS / "sparsity")]
RANDOMLY_WIRED = {
    "imagenet_small": (5.6e6, 583e6),
    "imagenet_regular": (31.9e6, 4.0e9),
    "cifar10": (1.2e6, None),
    "cifar100": (8.2e6, None),
}
"""Published parameters and multiply-adds, those of WS graphs."""

MILLIONS = {
    **{f"vgg{depth}": millions for depth, millions in ((11, "9.2"), (13, "9.4"), (16, "14.7"), (19, "20"))},
    **{
        f"resnet{depth}_{block}": millions
        for depth, millions in ((20, "0.27"), (32, "0.46"), (44, "0.66"), (56, "0.85"), (110, "1.7"))
        for block in ("v1", "v2")
    },
    "resnet164_v2": "1.7",
    "resnet1001_v2": "10",
    "wrn_40_4": "8.9",
    "wrn_16_8": "11",
    "wrn_28_10": "36.5",
}
"""Parameters in millions, as the zoo's table rounds them."""


def load(name: str) -> Experiment:
    return Experiment.from_settings(app_files.read(APPS / f"{name}.yml").settings)


def test_the_zoo_is_whole():
    assert {f"cifar/{name}" for name in MILLIONS} <= set(CIFAR)
    others = {f"resnet{depth}_v1_b" for depth in (20, 32, 44, 56)} | {"resnet110_v1_a", "wrn_16_4"}
    others |= {"resnext29_8x64d", "resnext29_16x64d", "wrn_28_10_dropout"}
    assert {f"cifar/{name}" for name in others} <= set(CIFAR)
    rivals = {f"sparsity/resnet20_{rule}_90" for rule in ("dnw", "gradual_magnitude", "set", "rigl", "str")}
    assert rivals <= set(SPARSITY)
    dense = {f"sparsity/resnet50_dnw_{rate}_first_dense" for rate in range(10, 100, 10)}
    assert dense <= set(SPARSITY)
    assert {f"sparsity/{n}_dnw_{r}" for n in ("resnet20", "resnet56", "wrn_40_4") for r in (80, 90, 95, 98)} <= set(
        SPARSITY
    )


@pytest.mark.parametrize("name", CIFAR)
def test_parameters_and_multiply_adds_are_exact(name: str):
    experiment = load(name)
    with torch.device("meta"):
        network = build_network(experiment).eval()
        counter = FlopCounterMode(display=False)
        with counter:
            out = network(torch.empty(1, 3, 32, 32))
    counted = profile(network, 32)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert out.shape == (1, 10)
    assert 2 * counted.multiply_adds == counter.get_total_flops()
    assert counted.parameters == parameters
    short = name.removeprefix("cifar/")
    if short in MILLIONS:
        digits = len(MILLIONS[short].partition(".")[2])
        assert f"{parameters / 1e6:.{digits}f}" == MILLIONS[short]


def test_defaults_of_the_zoo():
    for name in CIFAR:
        experiment = load(name)
        known = inspect.signature(NETWORKS[experiment.model]).parameters
        if "shortcut" in known and experiment.shortcut is None:
            assert experiment.model in ("wrn", "resnext") or experiment.depth > 110
    assert load("cifar/resnet20_v1").shortcut == load("cifar/resnet56_v2").shortcut == "A"
    assert load("cifar/resnet110_v1").shortcut == "B"
    assert load("cifar/wrn_28_10_dropout").dropout == 0.3
    assert load("cifar/resnet1001_v2").activation_checkpointing


def test_schedules_of_the_zoo():
    resnet, wide = load("cifar/resnet20_v1"), load("cifar/wrn_40_4")
    rate = make_schedule(resnet, 391).lr
    seen = [rate(step) for step in (0, 399, 400, 31999, 32000, 47999, 48000, 63999)]
    assert seen == [0.01, 0.01, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    rate = make_schedule(wide, 391).lr
    assert [rate(step) for step in (0, 23999, 24000, 48000, 64000, 79999)] == [0.1, 0.1, 0.02, 0.004, 0.0008, 0.0008]
    assert (resnet.num_steps, wide.num_steps) == (64000, 80000)
    assert (resnet.weight_decay, wide.weight_decay, resnet.decay_norm_and_bias) == (2e-4, 5e-4, False)
    assert (resnet.nesterov, wide.nesterov) == (False, True)


@pytest.mark.parametrize("graph", ["ws", "er", "ba"])
@pytest.mark.parametrize("name", RANDOMLY_WIRED)
def test_randomly_wired_networks_are_of_the_published_size(name: str, graph: str):
    experiment = load(f"randwire/{name}_{graph}")
    parameters, multiply_adds = RANDOMLY_WIRED[name]
    with torch.device("meta"):
        counted = profile(build_network(experiment), experiment.image_size)
    near = 0.03 if graph == "ws" else 0.1  # the same channels, but more input nodes or fewer
    assert counted.parameters == pytest.approx(parameters, rel=near)
    assert multiply_adds is None or counted.multiply_adds == pytest.approx(multiply_adds, rel=near)


def test_schedules_of_randomly_wired_networks():
    rate = make_schedule(load("randwire/mnist_ws"), 938).lr
    assert [rate(step) for step in (0, 1499, 2999)] == pytest.approx([0.01 / 3000, 0.005, 0.01])
    assert rate(3000 + 43900 // 2 - 1) == pytest.approx(0.005)
    assert rate(50 * 938 - 1) == 0
    rate = make_schedule(load("randwire/mnist_ws").but(num_epochs=1), 938).lr
    assert max(map(rate, range(100))) == pytest.approx(0.01), "a short run leaves the warm-up too"
    for epochs in (60, 100):
        rate = make_schedule(load("randwire/cifar10_ws").but(num_epochs=epochs), 500).lr
        falls = [epochs * 500 // 2, epochs * 500 * 3 // 4]
        assert [rate(step) for fall in falls for step in (fall - 1, fall)] == pytest.approx([0.1, 0.01, 0.01, 0.001])


@pytest.mark.parametrize("name", [name for name in SPARSITY if "resnet20" in name or name.endswith("_50")])
def test_sparse_networks_keep_their_share(name: str):
    experiment = load(name)
    network = build_network(experiment)
    wired = [graph for _, graph in graphs(network)]
    assert len(wired) == {"resnet": 20, "imagenet_resnet": 54}[experiment.model]
    assert {type(graph.wiring) for graph in wired} == {WIRINGS[experiment.wiring].wiring}
    possible = sum(graph.layout.possible for graph in wired)
    kept = sum(graph.wiring.kept for graph in wired)
    assert abs(kept - (1 - experiment.prune_rate) * possible) <= len(wired)


def test_first_layer_dense():
    for name in SPARSITY:
        assert load(name).dense_layers == (["conv1"] if name.endswith("first_dense") else [])
