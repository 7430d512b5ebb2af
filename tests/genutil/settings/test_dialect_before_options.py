"""Settings that a run kept before rules owned their options; the file was written by the program of then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from genutil.build import build_network
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.settings import app_files
from genutil.settings.dialect_before_options import is_of_then, translate
from models.wirings.graph import graphs

SAVED = json.loads(Path(__file__).with_name("saved_before_options.json").read_text())
"""Of static under rigl, wiring_interval 10 and rho 0.5: neither was read."""


def test_they_are_recognised_by_the_old_key_and_all_options():
    assert is_of_then(SAVED)
    assert not is_of_then({"graph": "dnw", "rho": 0.5})
    assert not is_of_then(Experiment().to_saved())
    assert translate({"model": "static", "wiring_interval": 3}) == {"model": "static", "wiring_interval": 3}


def test_a_network_with_graphs_of_its_own_ran_with_the_defaults():
    again = Experiment.from_saved(SAVED)
    assert (again.wiring, again.rule_options["interval"], again.rho) == ("rigl", 100, 0.95)
    assert {graph.wiring.interval for _, graph in graphs(build_network(again))} == {100}


def test_another_network_ran_with_what_it_was_given():
    again = Experiment.from_saved(SAVED | {"model": "resnet", "depth": 8})
    assert again.wiring_interval == 10


def test_what_is_given_now_holds():
    assert Experiment.from_saved(SAVED, {"wiring_interval": "7"}).wiring_interval == 7
    assert Experiment.from_saved(SAVED, {"wiring": "td"}).rho == 0.5
    assert Experiment.from_saved(SAVED, {"graph": "dnw"}).wiring == "dnw"
    with pytest.raises(UserError, match=r"^rho is an option of td, reg_td, and wiring is rigl\.$"):
        Experiment.from_saved(SAVED, {"rho": 0.5})


def test_old_names_of_regimes_are_read():
    assert SAVED["regime"] == "my_small_regime"
    assert Experiment.from_saved(SAVED).regime == "tensorflow_small_cifar"


def test_they_serve_as_an_app_and_as_a_base(tmp_path: Path):
    (tmp_path / "settings.yml").write_text(yaml.safe_dump(SAVED))
    own = tmp_path / "own.yml"
    for text, rule, options in (
        ("lr: 1", "rigl", {"fraction": 0.3, "interval": 100, "end": 0.75}),
        ("wiring: td", "td", {"rho": 0.5}),
        ("wiring: dnw", "dnw", {}),
        ("wiring_interval: 5", "rigl", {"fraction": 0.3, "interval": 5, "end": 0.75}),
    ):
        own.write_text(f"base: settings.yml\n{text}\n")
        found = Experiment.from_settings(app_files.read(own, tmp_path).settings)
        assert (found.wiring, found.rule_options) == (rule, options)
    alone = app_files.read(tmp_path / "settings.yml", tmp_path)
    assert Experiment.from_settings(alone.settings) == Experiment.from_saved(SAVED)
