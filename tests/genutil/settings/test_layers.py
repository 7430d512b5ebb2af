from __future__ import annotations

import pytest

from genutil.cli.command_line import parse, resolve
from genutil.config import Experiment
from genutil.settings.layers import Layer, merge


def test_the_last_layer_is_on_top():
    assert merge([Layer({"lr": 1, "data": "mnist"}), Layer({"lr": 2})]) == {"lr": 2, "data": "mnist"}


@pytest.mark.parametrize(
    ("layers", "left"),
    [
        ([({"wiring": "td", "rho": 0.5}, False), ({"wiring": "dnw"}, False)], {"wiring": "dnw"}),
        ([({"rho": 0.5}, False), ({"wiring": "dnw"}, False)], {"wiring": "dnw"}),
        ([({"wiring": "td", "rho": 0.5}, False), ({"wiring": "reg_td"}, False)], {"wiring": "reg_td", "rho": 0.5}),
        ([({"wiring": "dnw", "rho": 0.5}, True), ({"wiring": "td"}, False)], {"wiring": "td", "rho": 0.5}),
        ([({"wiring": "dnw", "rho": 0.5}, True), ({"lr": 1}, False)], {"wiring": "dnw", "lr": 1}),
        # a mistake, which stays for the experiment to refuse
        ([({"wiring": "dnw", "rho": 0.5}, False)], {"wiring": "dnw", "rho": 0.5}),
        ([({"wiring": "dnw"}, False), ({"rho": 0.5}, False)], {"wiring": "dnw", "rho": 0.5}),
        ([({"wiring": "dnw", "rho": 0.5}, True), ({"rho": 0.2}, False)], {"wiring": "dnw", "rho": 0.2}),
        ([({"wiring": "dwn", "rho": 0.5}, True)], {"wiring": "dwn", "rho": 0.5}),
        ([({"rho": 0.5}, False), ({}, False)], {"rho": 0.5}),
    ],
)
def test_options_give_way_to_a_wiring_above_them(layers: list, left: dict):
    assert merge([Layer(stated, tolerant) for stated, tolerant in layers]) == left


def test_kept_graphs_give_way_to_others():
    kept = Layer({"graph_model": "ws", "stage_graphs": ["0 1"]})
    assert merge([kept, Layer({"graph_seed": 3})]) == {"graph_model": "ws", "graph_seed": 3}
    own = {"graph_seed": 3, "stage_graphs": ["1 2"]}
    assert merge([kept, Layer(own)]) == {"graph_model": "ws", **own}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([{"num_steps": 64000}, {"num_epochs": 1}], {"num_epochs": 1}),
        ([{"num_epochs": 1}, {"num_steps": 64000}], {"num_steps": 64000}),
        ([{"num_steps": 5, "num_epochs": 1}], {"num_steps": 5, "num_epochs": 1}),
        ([{"num_steps": 5}, {"num_epochs": 3, "num_steps": 9}], {"num_epochs": 3, "num_steps": 9}),
        ([{"num_epochs": 3}, {"num_steps": None}], {"num_epochs": 3, "num_steps": None}),
        ([{"warmup_epochs": 5}, {"warmup_steps": 10}], {"warmup_steps": 10}),
        ([{"warmup_steps": 10}, {"warmup_epochs": 0.5}], {"warmup_epochs": 0.5}),
    ],
)
def test_of_two_lengths_the_one_stated_last_holds(layers, expected):
    assert merge([Layer(stated) for stated in layers]) == expected


def test_epochs_of_the_command_line_outdo_steps_of_a_base():
    line = parse(["app:cifar/resnet20_v1", "--num_epochs", "1"])
    experiment = resolve(line, {})
    assert (experiment.num_epochs, experiment.num_steps) == (1, None)
    again = Experiment.from_saved(resolve(parse(["app:cifar/resnet20_v1"]), {}).to_saved(), {"num_epochs": 2})
    assert (again.num_epochs, again.num_steps) == (2, None)
