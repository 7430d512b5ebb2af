from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.splits import stratified_split


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.floats(0.01, 0.99), st.booleans())
def test_split_is_a_stratified_partition(labels, share, at_least):
    labels = torch.tensor(labels)
    stays, held = stratified_split(labels, share, 0, at_least=at_least)
    assert sorted(stays.tolist() + held.tolist()) == list(range(len(labels)))
    assert stays.tolist() == sorted(stays.tolist())
    for label in labels.unique():
        members, out = int((labels == label).sum()), int((labels[held] == label).sum())
        assert out < members
        if members > 1:
            assert out >= 1
            assert abs(out - share * members) <= 1
        if at_least and members * (1 - share) > 1:
            assert out >= share * members


def test_the_choice_depends_on_the_seed():
    labels = torch.arange(300) % 3
    assert not torch.equal(stratified_split(labels, 0.5, 0)[1], stratified_split(labels, 0.5, 1)[1])


def test_the_choice_is_the_same_for_ever():
    held = stratified_split(torch.arange(40) % 2, 0.2, 2019)[1]
    assert held.tolist() == [2, 9, 15, 18, 19, 22, 28, 37]
