from __future__ import annotations

import math

import pytest

from models.wirings.budgets import BUDGETS

SHAPES = [(8, 3, 3, 3), (12, 4, 3, 3), (5, 12)]


@pytest.mark.parametrize("name", BUDGETS)
@pytest.mark.parametrize("prune_rate", [0.0, 0.4, 0.83, 0.999])
def test_a_budget_keeps_what_the_prune_rate_leaves(name: str, prune_rate: float):
    counts = BUDGETS[name].counts(SHAPES, prune_rate)
    sizes = [math.prod(shape) for shape in SHAPES]
    if name == "uniform":
        assert counts == [size - int(prune_rate * size) for size in sizes]
    else:
        assert sum(counts) == sum(sizes) - int(prune_rate * sum(sizes))
    if not BUDGETS[name].joint:
        assert all(0 <= count <= size for count, size in zip(counts, sizes, strict=True))


def test_one_budget_follows_the_weights():
    assert [name for name, budget in BUDGETS.items() if budget.joint] == ["global"]
