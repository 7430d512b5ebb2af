"""The tiny classifiers: the solver of the continuous one, and engines in the place of parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import models

SMALL = {"image_size": 32, "dim": 40, "downsample_dim": 8, "feature_dim": 6}


def continuous(**arguments):
    torch.manual_seed(0)
    return models.build_network("continuous_time", classes=3, wiring="dnw", prune_rate=0.5, **SMALL, **arguments)


def test_continuous_time_counts_its_evaluations():
    images = torch.randn(2, 3, 32, 32)
    adaptive, fixed = continuous().eval(), continuous(solver="rk4", solver_steps=3).eval()
    adaptive(images)
    fixed(images)
    assert adaptive.function_evaluations % 6 == 2  # dopri5: two to start, six a step
    assert fixed.function_evaluations == 4 * 3


def test_a_fixed_step_solver_nears_the_adaptive_one():
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    tight = continuous(tolerance=1e-6, relu_in_place=False).double().eval()(images)
    gaps = []
    for steps in (8, 32):
        fixed = continuous(solver="rk4", solver_steps=steps, relu_in_place=False).double().eval()(images)
        gaps.append(float((fixed - tight).detach().abs().max()))
    assert gaps[1] < gaps[0] / 4
    assert gaps[1] < 1e-2


def test_the_relu_in_place_replaces_the_solvers_state():
    images = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(continuous().eval()(images), continuous(relu_in_place=False).eval()(images), atol=1e-3)


def test_the_gradient_through_the_solver_is_the_functions():
    network = continuous(solver="rk4", solver_steps=2).double().eval()
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    weight = network.step.conv.weight
    network(images).sum().backward()
    step = 1e-6
    with torch.no_grad():
        for index in ((3, 0, 1, 1), (20, 0, 0, 2)):
            weight[index] += step
            up = network(images).sum()
            weight[index] -= 2 * step
            down = network(images).sum()
            weight[index] += step
            assert float(weight.grad[index]) == pytest.approx(float((up - down) / (2 * step)), rel=1e-4, abs=1e-7)


def test_the_continuous_network_measures_its_evaluations():
    network = continuous(solver="euler", solver_steps=5).eval()
    assert network.measures() == {"function_evaluations": 0}
    network(torch.randn(1, 3, 32, 32))
    assert network.measures() == {"function_evaluations": 5}


class Doubled(nn.Module):
    """In the place of a part: twice what the part gives."""

    def __init__(self, part) -> None:
        super().__init__()
        self.part = part

    def forward(self, planes: Tensor) -> Tensor:
        return 2 * self.part(planes)


@pytest.mark.parametrize("in_place", [True, False])
def test_engines_are_called_in_the_place_of_the_parts(in_place):
    images = torch.randn(1, 3, 32, 32)
    network = continuous(solver="euler", solver_steps=1, relu_in_place=in_place).eval()
    step, stem = network.step, network.downsample
    (weight,) = step.graph()
    with torch.no_grad():
        doubled = 2 * network.start(images)
        slope = 2 * step(doubled.relu(), weight)
        expected = network.read_out((doubled.relu() if in_place else doubled) + slope)
        network.take_engine("downsample", Doubled(stem))
        network.take_engine("step", Doubled(lambda planes: step(planes, weight)))
        torch.testing.assert_close(network(images), expected)
