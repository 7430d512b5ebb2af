from __future__ import annotations

import math

import pytest
import torch

from models.wirings.rules import EdgeLayout
from models.wirings.scheduled import SET, STR, GradualMagnitude, RigL

LAYOUT = EdgeLayout.full(4, 5)


def test_gradual_magnitude_rises_with_the_cube_of_time():
    rule = GradualMagnitude(LAYOUT, 0.5, interval=100, end=0.5)
    steps = 200
    assert [step for step in range(steps) if rule.due(step, steps)] == [99]
    for done, expected in ((1, 1 - 0.99**3), (25, 1 - 0.75**3), (50, 1 - 0.5**3), (100, 1.0), (200, 1.0)):
        assert rule.progress(done - 1, steps) == pytest.approx(expected)
    late = GradualMagnitude(LAYOUT, 0.5, begin=0.25, end=0.75, interval=10)
    assert late.progress(49, steps) == 0.0
    assert late.progress(99, steps) == pytest.approx(1 - 0.5**3)
    assert late.due(149, steps)
    assert not any(late.due(step, steps) for step in range(150, steps))


def test_gradual_magnitude_masks_the_weakest_and_takes_them_back():
    rule = GradualMagnitude(LAYOUT, 0.8)
    weight = torch.arange(1.0, 21.0)
    rule.change(weight, None, [], 10, 0, 10)
    assert rule(weight).tolist() == [0.0] * 10 + weight[10:].tolist()
    weight[0] = -30.0
    rule.change(weight, None, [], 10, 1, 10)
    assert rule(weight)[0] == -30.0
    assert int(rule.acting(weight).count_nonzero()) == 10


def test_set_drops_the_nearest_to_zero_of_either_sign_and_grows_as_many_at_zero():
    torch.manual_seed(0)
    rule = SET(LAYOUT, 0.4, fraction=0.5)
    rule.start(torch.zeros(20))
    mask = rule.mask.clone()
    acting = mask.nonzero().squeeze(1)
    weight, momentum = torch.full((20,), 9.0), torch.ones(20)
    weight[acting] = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 8, -10, -20, -30, -40])
    rule.change(weight, None, [momentum], 12, 99, 1000)
    assert int(rule.mask.count_nonzero()) == 12
    assert rule.mask[acting[[4, 5, 6, 7, 10, 11]]].all()
    assert not rule.mask[acting[[0, 1, 2, 3, 8, 9]]].all()
    grown = rule.mask & ~mask
    assert grown.any()
    assert (weight[grown] == 0).all()
    assert (momentum[grown] == 0).all()
    assert (momentum[~grown] == 1).all()


def test_rigl_drops_the_weakest_and_grows_where_the_gradient_is_largest():
    rule = RigL(LAYOUT, 0.5, fraction=0.4)
    rule.mask.copy_(torch.arange(20) < 10)
    weight = torch.tensor([5.0, -0.1, 4, 0.2, 6, 7, 8, -9, 0.3, 3, *[1.0] * 10])
    gradient = torch.zeros(20)
    gradient[[3, 12, 15]] = torch.tensor([1.0, -5.0, 4.0])
    gradient[0] = 100.0  # stays anyway
    momentum = torch.ones(20)
    steps = 800
    step = 199  # a third of 0.75 * 800: the fraction is 0.4 / 2 * (1 + cos(pi / 3)) = 0.3
    before = weight.clone()
    rule.change(weight, gradient, [momentum], 10, step, steps)
    assert int(rule.mask.count_nonzero()) == 10
    # dropped: 1, 3, 8; of all idle edges 12, 15 and 3 have the largest gradient, and 3 keeps its weight
    assert sorted(rule.mask.nonzero().squeeze(1).tolist()) == [0, 2, 3, 4, 5, 6, 7, 9, 12, 15]
    assert weight[3] == before[3]
    assert weight[[12, 15]].tolist() == momentum[[12, 15]].tolist() == [0, 0]


def test_rigl_sends_idle_edges_a_gradient_only_before_a_change():
    torch.manual_seed(0)
    rule = RigL(LAYOUT, 0.5, interval=5)
    rule.start(torch.zeros(20))
    seen = []
    for step in range(20):
        weight = torch.ones(20, requires_grad=True)
        effective = rule(weight)
        assert torch.equal(effective.detach(), rule.mask.float())
        effective.sum().backward()
        seen.append(bool(weight.grad[~rule.mask].all()))
        assert weight.grad[rule.mask].all()
        rule.prepare(step + 1, 20)
    # the first step, too, for a change after every step is possible
    assert [step for step, dense in enumerate(seen) if dense] == [0, 4, 9]
    with pytest.raises(ValueError, match="gradient"):
        rule.change(torch.ones(20), None, [], 10, 4, 20)


def test_str_is_the_soft_threshold_with_its_gradients():
    rule = STR(LAYOUT, 0.5, initial=-1.0, decay=0.25)
    weight = torch.linspace(-1, 1, 20).requires_grad_()
    threshold = 1 / (1 + math.exp(1.0))
    effective = rule(weight)
    for w, e in zip(weight.tolist(), effective.tolist(), strict=True):
        assert e == pytest.approx(math.copysign(max(abs(w) - threshold, 0), w), abs=1e-6)
    effective.sum().backward()
    acting = weight.detach().abs() > threshold
    assert torch.equal(weight.grad, acting.float())
    slope = threshold * (1 - threshold)
    expected = -slope * weight.detach()[acting].sign().sum() + 0.25 * -1.0
    assert rule.threshold.grad.item() == pytest.approx(expected.item(), abs=1e-6)


def test_str_is_cut_to_its_budget_after_the_last_step_and_says_what_it_was_before():
    weight = torch.linspace(0.05, 1, 20)
    for initial, natural in ((-5.0, 20), (0.0, 10), (3.0, 1)):
        rule = STR(LAYOUT, 0.8, initial=initial).eval()
        soft = rule(weight).detach()
        assert int(rule.acting(weight).count_nonzero()) == natural
        assert [step for step in range(6) if rule.due(step, 6)] == [5]
        rule.change(weight, None, [], rule.kept, 5, 6)
        assert rule.natural == natural
        assert rule.acting(weight).tolist() == [False] * 16 + [True] * 4
        assert torch.equal(rule(weight), torch.where(rule.mask, soft, 0))
        rule.prepare(6, 6)
        assert rule.natural == natural
        rule.prepare(6, 12)  # trained further
        assert rule.natural is None
        assert torch.equal(rule(weight), soft)
