"""The published forms of randomly wired networks."""

import pytest

from models.networks.randwire_regimes import OLD_NAMES, REGIMES, make_regime, random_stages


@pytest.mark.parametrize(
    ("name", "stages"), [("small", 3), ("regular", 4), ("tensorflow_small", 2), ("tensorflow_regular", 3), ("mnist", 3)]
)
def test_plain_stages_do_not_count(name, stages):
    assert random_stages(REGIMES[name]) == stages


@pytest.mark.parametrize(("old", "new"), OLD_NAMES.items())
def test_old_names_mean_the_same(old, new):
    assert make_regime(old) == REGIMES[new]


def test_changes_that_are_none_change_nothing():
    assert make_regime("small", channels=None, stages=None) == REGIMES["small"]
    assert make_regime("small", channels=16).channels == 16


def test_impossible_forms_are_told():
    with pytest.raises(ValueError, match="There is no regime 'tiny'; there are small"):
        make_regime("tiny")
    with pytest.raises(ValueError, match="channel_count must be at least 2"):
        make_regime("small", channels=1)
    with pytest.raises(ValueError, match="there is no random stage; the first is conv3"):
        random_stages(make_regime("small", stages=2))
