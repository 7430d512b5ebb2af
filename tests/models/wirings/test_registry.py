"""The table of the rules: complete without torch, in agreement with the classes, and open to others."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

import models
from models.networks.randwire_regimes import OLD_NAMES, REGIMES, make_regime
from models.networks.solvers import SOLVERS
from models.wirings.budgets import BUDGETS
from models.wirings.graph import graphs
from models.wirings.layout import EdgeLayout
from models.wirings.learned import DNW
from models.wirings.options import INTERVAL, RHO, Option
from models.wirings.registry import WIRINGS, Rule, complete_options, make_wiring, rule_options, takers
from models.wirings.wire import wire

LAYOUT = EdgeLayout.full(4, 5)


def test_the_tables_are_complete_without_torch():
    code = (
        "import sys\n"
        "from models import NETWORKS\n"
        "from models.networks.randwire_regimes import REGIMES\n"
        "from models.networks.solvers import SOLVERS\n"
        "from models.wirings.budgets import BUDGETS\n"
        "from models.wirings.registry import WIRINGS, rule_options\n"
        "rule_options()\n"
        "print(*map(len, (NETWORKS, WIRINGS, BUDGETS, REGIMES, SOLVERS)), 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    sizes = [len(table) for table in (models.NETWORKS, WIRINGS, BUDGETS, REGIMES, SOLVERS)]
    assert told == [*map(str, sizes), "False"]


@pytest.mark.parametrize("name", WIRINGS)
def test_a_rules_class_takes_exactly_its_options_with_their_defaults(name: str):
    parameters = list(inspect.signature(WIRINGS[name].wiring).parameters.values())[2:]
    assert {p.name: p.default for p in parameters} == {o.name: o.default for o in WIRINGS[name].options}
    assert WIRINGS[name].description


def test_options_of_one_key_are_one():
    assert list(rule_options()) == [
        "wiring_near",
        "wiring_every",
        "rho",
        "wiring_begin",
        "wiring_end",
        "wiring_interval",
        "wiring_fraction",
        "str_initial",
        "str_decay",
    ]
    assert takers(INTERVAL) == ["gradual_magnitude", "set", "rigl"]


def test_two_meanings_of_one_key_are_an_error(monkeypatch: pytest.MonkeyPatch):
    other = Option("interval", int, 50, "something else", "wiring_interval")
    monkeypatch.setitem(WIRINGS, "mine", Rule(DNW, "another", (other,)))
    with pytest.raises(ValueError, match="option wiring_interval differently; one of them is mine"):
        rule_options()


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("dwn", {}, "There is no wiring 'dwn'; there are complete, random, dnw"),
        ("dnw", {"rho": 0.5}, "The wiring dnw takes no option rho; it is one of td, reg_td."),
        ("dnw", {"strength": 1}, "The wiring dnw has no option 'strength'; it takes none."),
        ("rigl", {"strength": 1}, "The wiring rigl has no option 'strength'; it takes fraction, interval, end."),
        ("rigl", {"interval": 0}, "interval must be a whole number, at least 1, not 0."),
        ("rigl", {"interval": 1.5}, "interval must be a whole number, at least 1, not 1.5."),
        ("rigl", {"interval": True}, "interval must be a whole number, at least 1, not True."),
        ("td", {"rho": "delta"}, "rho must be a number, above 0 and at most 1, or gamma, not 'delta'."),
        ("str", {"initial": math.nan}, "initial must be a number, not nan."),
        ("gradual_magnitude", {"begin": 0.75}, "begin must be below end, not 0.75 and 0.75."),
    ],
)
def test_mistakes_are_told_alike_for_layers_and_for_networks(name: str, options: dict, sentence: str):
    makers = (
        lambda: complete_options(name, options),
        lambda: make_wiring(name, LAYOUT, 0.5, **options),
        lambda: wire(nn.Linear(4, 4), name, 0.5, **options),
        lambda: models.build_network("static", classes=3, image_size=16, wiring=name, prune_rate=0.5, **options),
        lambda: models.build_network("discrete_time", classes=3, image_size=16, wiring=name, **options),
        lambda: models.build_network("mobilenetv1_like", classes=3, image_size=16, wiring=name, **options),
        lambda: models.build_network("randwire", wiring=name, graph_model="complete", graph_param=(8,), **options),
    )
    for make in makers:
        with pytest.raises(ValueError) as mistake:  # noqa: PT011 the whole sentence is compared below
            make()
        assert str(mistake.value).startswith(sentence)


def test_a_whole_number_is_a_number_and_a_word_stands_for_one():
    assert RHO.accepts(1)
    assert RHO.accepts("gamma")
    assert not RHO.accepts(False)
    assert not RHO.accepts(None)
    switch = Option("fast", bool, False, "a switch", "fast")
    assert switch.accepts(True)
    assert not switch.accepts(1)
    assert switch.expectation == "true or false"


def test_options_that_are_not_given_have_their_defaults():
    assert complete_options("rigl", {"interval": 3}) == {"fraction": 0.3, "interval": 3, "end": 0.75}
    assert complete_options("dnw", {}) == {}


class Shrinking(DNW):
    def __init__(self, layout: EdgeLayout, prune_rate: float, *, factor: float) -> None:
        super().__init__(layout, prune_rate)
        self.factor = factor

    def effective(self, weight: torch.Tensor) -> torch.Tensor:
        return super().effective(weight) * self.factor


def test_a_rule_from_elsewhere_wires_layers_and_networks(monkeypatch: pytest.MonkeyPatch):
    factor = Option("factor", float, 0.5, "factor on the weights", "shrinking_factor", above=0)
    monkeypatch.setitem(WIRINGS, "shrinking", Rule(Shrinking, "shrinks what acts", (factor,)))
    wired = wire(nn.Linear(6, 6), "shrinking", 0.5)
    own = models.build_network("static", classes=3, image_size=16, wiring="shrinking", prune_rate=0.5, factor=0.25)
    assert [graph.wiring.factor for network in (wired, own) for _, graph in graphs(network)] == [0.5, 0.25]
    with pytest.raises(ValueError, match="dnw takes no option factor; it is one of shrinking"):
        wire(nn.Linear(6, 6), "dnw", 0.5, factor=0.5)


@pytest.mark.parametrize("old", OLD_NAMES)
def test_regimes_answer_to_their_old_names(old: str):
    assert make_regime(old) == REGIMES[OLD_NAMES[old]]
    assert old not in REGIMES


def test_an_unknown_solver_is_refused_at_once():
    with pytest.raises(ValueError, match="no solver 'rk5'; there are dopri5, rk4, euler, midpoint"):
        models.build_network("continuous_time", classes=3, image_size=16, solver="rk5")
