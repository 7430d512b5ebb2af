"""DNW whose idle edges far from the threshold get a gradient only now and then."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from models.native.training import Reached
from models.networks.mobilenetv1_like import stage_layout
from models.wirings.graph import Graph
from models.wirings.near import DNWNear
from models.wirings.registry import make_wiring
from models.wirings.selection import keep_largest
from models.wirings.wire import update_wirings, wire

LAYOUT = stage_layout(4, 8, 3)
KEPT = 96


def graph(step: int, **options: float) -> Graph:
    """A graph before a step of training."""
    torch.manual_seed(0)
    made = Graph(LAYOUT, make_wiring("dnw_near", LAYOUT, 0.8, **options))
    assert isinstance(made.wiring, DNWNear)
    made.wiring.prepare(step, 100)
    return made


def flat(made: Graph) -> Tensor:
    return torch.cat([part.reshape(-1) for part in made()])


def gradient(made: Graph, factors: Tensor) -> Tensor:
    (flat(made) * factors).sum().backward()
    assert made.weight.grad is not None
    return made.weight.grad


@pytest.mark.parametrize("near", [0.0, 0.5, 1.0])
def test_the_nearest_idle_edges_get_a_gradient_and_the_others_none(near: float):
    made, factors = graph(1, near=near), torch.randn(LAYOUT.possible)
    weight = made.weight.detach()
    assert flat(made).equal(torch.where(keep_largest(weight, KEPT), weight, 0))
    reached = keep_largest(weight, KEPT + int(near * KEPT))
    assert gradient(made, factors).equal(torch.where(reached, factors, 0))


@pytest.mark.parametrize(("every", "dense"), [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6]), (8, [0])])
def test_all_edges_get_a_gradient_in_every_few_steps(every: int, dense: list[int]):
    factors = torch.randn(LAYOUT.possible)
    assert [step for step in range(7) if gradient(graph(step, near=0.5, every=every), factors).equal(factors)] == dense


def test_the_first_step_reaches_all_and_the_schedule_goes_on_from_there():
    made = Graph(LAYOUT, make_wiring("dnw_near", LAYOUT, 0.8, every=2))
    optimizer = torch.optim.SGD(made.parameters(), 0.1)
    reaching = []
    for step in range(5):
        reaching.append(made.reached(made()) is Reached.ALL)
        update_wirings(made, optimizer, step, 5)
    assert reaching == [True, False, True, False, True]


@pytest.mark.parametrize("near", [100.0, 1e308])
def test_what_it_reaches_is_at_most_all(near: float):
    made, factors = graph(1, near=near), torch.randn(LAYOUT.possible)
    assert gradient(made, factors).equal(factors)


def test_reached_edges_are_marked_even_where_an_acting_weight_is_zero():
    made = graph(1, near=0.5)
    with torch.no_grad():
        made.weight.zero_()
        made.weight[:10] = 1.0
    effective = flat(made).detach()
    marked = (effective != 0) | effective.signbit()
    assert int(marked.sum()) == KEPT + KEPT // 2
    assert effective[:10].eq(1).all()
    assert effective[10:].eq(0).all()
    assert made.reached(made()) is Reached.MARKED


def test_nothing_is_marked_where_no_gradient_follows():
    made = graph(1)
    with torch.no_grad():
        assert not flat(made).signbit()[flat(made) == 0].any()


def test_gradients_in_evaluation_are_those_of_training():
    made, factors = graph(1, near=0.5), torch.randn(LAYOUT.possible)
    found = gradient(made, factors).clone()
    made.zero_grad()
    assert gradient(made.eval(), factors).equal(found)
    assert not made.wiring.reaches_idle


def test_a_saved_state_goes_on_at_the_same_step():
    made = graph(1)
    again = copy.deepcopy(graph(0))
    again.load_state_dict(made.state_dict())
    assert again.wiring.reaches_idle is False
    again.load_state_dict(graph(8).state_dict())
    assert again.wiring.reaches_idle is True


def test_a_layer_wired_from_outside_follows_it():
    torch.manual_seed(0)
    layer = wire(nn.Linear(20, 10), "dnw_near", 0.8, near=0.5, every=4)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    counts = []
    for step in range(5):
        optimizer.zero_grad()
        layer(torch.rand(3, 20)).square().sum().backward()
        (weight,) = (p.grad for name, p in layer.named_parameters() if name.endswith("original"))
        assert weight is not None
        counts.append(int(weight.count_nonzero()))
        optimizer.step()
        update_wirings(layer, optimizer, step, 5)
    assert counts == [200, 60, 60, 60, 200]
