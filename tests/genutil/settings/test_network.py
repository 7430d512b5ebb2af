"""Settings of networks, and which of them fit together."""

import inspect

import pytest

import models
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.settings.network import DEEP_NETWORKS, SELF_WIRED_NETWORKS
from models.networks.randwire_regimes import OLD_NAMES


def test_networks_that_are_wired_themselves_take_a_rule():
    takers = {name for name in models.NETWORKS if "wiring" in inspect.signature(models.NETWORKS[name]).parameters}
    assert set(SELF_WIRED_NETWORKS) == takers


@pytest.mark.parametrize("name", DEEP_NETWORKS)
def test_deep_networks_need_a_depth(name):
    with pytest.raises(UserError, match=f"model {name} needs a depth"):
        Experiment.from_settings({"model": name})
    assert Experiment.from_settings({"model": name, "depth": 20}).depth == 20


def test_small_belongs_to_one_network():
    with pytest.raises(UserError, match="static has no such form"):
        Experiment.from_settings({"model": "static", "small": True})


@pytest.mark.parametrize("old", OLD_NAMES)
def test_old_names_of_regimes_are_taken(old):
    assert Experiment.from_settings({"model": "randwire", "regime": old}).regime in (old, OLD_NAMES[old])


def test_graphs_come_from_one_place():
    with pytest.raises(UserError, match="keep one of them"):
        Experiment.from_settings({"model": "randwire", "graph_files": ["a.txt"], "stage_graphs": ["0 1"]})
