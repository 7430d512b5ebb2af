from __future__ import annotations

from typing import Any

import pytest

from genutil.config import KEYS, Experiment
from genutil.errors import UserError
from genutil.settings.field_types import expectation
from genutil.settings.wiring import OPTIONS, RuleOptions, untaken
from models.wirings.options import Option
from models.wirings.registry import WIRINGS, takers

OTHER: dict[str, Any] = {
    "rho": "gamma",
    "wiring_near": 0.5,
    "wiring_every": 3,
    "wiring_interval": 7,
    "wiring_begin": 0.1,
    "wiring_end": 0.6,
    "wiring_fraction": 0.5,
    "str_initial": -3.0,
    "str_decay": 0.01,
}
"""A value of each option that is not its default."""


def test_the_fields_are_the_options_that_the_rules_declare():
    assert set(RuleOptions.model_fields) == set(OPTIONS) == set(OTHER)
    for key, option in OPTIONS.items():
        assert KEYS[key].default == option.default
        assert expectation(KEYS[key]) == option.expectation
        assert option.description in KEYS[key].description
        assert all(rule in KEYS[key].description for rule in takers(option))


@pytest.mark.parametrize("rule", WIRINGS)
@pytest.mark.parametrize("key", OTHER)
def test_an_option_is_taken_or_refused(rule: str, key: str):
    settings = {"wiring": rule, key: OTHER[key], "profile": True}
    option = OPTIONS[key]
    if option in WIRINGS[rule].options:
        assert Experiment.from_settings(settings).rule_options[option.name] == OTHER[key]
    else:
        with pytest.raises(UserError) as mistake:
            Experiment.from_settings(settings)
        assert str(mistake.value) == f"{key} is an option of {', '.join(takers(option))}, and wiring is {rule}."
        Experiment.from_settings(settings | {key: option.default})


def test_an_experiment_with_another_rule_leaves_its_options_behind():
    experiment = Experiment.from_settings({"wiring": "str", "str_decay": 0.01})
    assert experiment.but(wiring="dnw").str_decay == 5e-4
    assert experiment.but(lr=0.5).str_decay == 0.01
    assert experiment.but(graph="dnw").wiring == "dnw"
    with pytest.raises(UserError, match=r"^str_decay is an option of str, and wiring is dnw\.$"):
        experiment.but(wiring="dnw", str_decay=0.02)


def test_untaken_of_an_unknown_rule_is_nothing():
    assert untaken("dnw", ["rho", "lr"]) == ["rho"]
    assert untaken("dwn", ["rho"]) == []


def test_a_rule_from_elsewhere_is_a_value_of_the_key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(WIRINGS, "mine", WIRINGS["dnw"])
    assert Experiment.from_settings({"wiring": "mine"}).wiring == "mine"
    with pytest.raises(UserError, match=r"^wiring must be one of complete, .*, str, mine, not 'dwn'\.$"):
        Experiment.from_settings({"wiring": "dwn"})


@pytest.mark.parametrize(
    ("key", "value"), [("wiring_interval", 0), ("wiring_interval", True), ("wiring_end", 0), ("str_initial", "nan")]
)
def test_a_value_out_of_bounds_is_told_as_the_option_says(key: str, value: Any):
    with pytest.raises(UserError) as mistake:
        Experiment.from_settings({"wiring": takers(OPTIONS[key])[0], key: value})
    assert str(mistake.value).startswith(f"{key} must be {OPTIONS[key].expectation}, not ")


def test_a_whole_number_is_bounded_in_words():
    option = Option("nodes", int, 3, "number of nodes", "nodes", above=1, at_most=9, words=("all",))
    assert option.expectation == "a whole number, above 1 and at most 9, or all"
