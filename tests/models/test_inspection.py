"""A network seen from outside is left as it was, whatever happens meanwhile."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.inspection import evaluating, recorded_calls, watched_calls


class Twice(nn.Module):
    """The same layer two times, around a ReLU that works in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.unused = nn.Linear(3, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, values: Tensor) -> Tensor:
        return self.layer(self.relu(self.layer(values)))


class Fails(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        raise RuntimeError("as it must")


def hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def test_every_module_gets_its_own_mode_back():
    network = nn.Sequential(nn.Sequential(nn.Dropout(), nn.Dropout()), nn.Dropout()).train()
    network[0][1].eval()
    network[1].eval()
    modes = [module.training for module in network.modules()]
    assert modes == [True, True, True, False, False]
    with evaluating(network):
        assert not any(module.training for module in network.modules())
        assert not torch.is_grad_enabled()
    assert [module.training for module in network.modules()] == modes
    assert torch.is_grad_enabled()


def test_modes_come_back_after_an_exception():
    network = nn.Sequential(Fails()).train()
    with pytest.raises(RuntimeError, match="as it must"), evaluating(network):
        network(torch.zeros(1))
    assert network.training
    assert network[0].training


def test_each_call_is_recorded_with_the_values_of_its_time():
    torch.manual_seed(0)
    network, values = Twice(), torch.randn(2, 3)
    with torch.no_grad(), recorded_calls(network, ["layer", "unused", "", "layer"]) as calls:
        result = network(values)
        first = network.layer(values)
    assert set(calls) == {"layer", ""}
    one, two, three = calls["layer"]
    torch.testing.assert_close(one.given, values)
    torch.testing.assert_close(one.result, first)
    torch.testing.assert_close(two.given, first.relu())
    torch.testing.assert_close(two.result, result)
    assert three.result.equal(one.result)
    torch.testing.assert_close(calls[""][0].result, result)
    assert hooks(network) == 0


def test_what_is_kept_may_be_chosen():
    network = Twice()
    with recorded_calls(network, ["layer"], keep=lambda tensor: tuple(tensor.shape)) as calls:
        network(torch.zeros(5, 3))
    assert [(call.given, call.result) for call in calls["layer"]] == [((5, 3), (5, 3))] * 2


def test_calls_are_told_as_they_nest():
    network, told = nn.Sequential(Twice()), []
    names = [name for name, _ in network.named_modules()]
    with watched_calls(
        network, names, lambda name, *_: told.append(f"+{name}"), lambda name, *_: told.append(f"-{name}")
    ):
        network(torch.zeros(1, 3))
    assert told == ["+", "+0", "+0.layer", "-0.layer", "+0.relu", "-0.relu", "+0.layer", "-0.layer", "-0", "-"]


def test_hooks_are_gone_after_an_exception_and_a_failed_call_is_no_call():
    network = nn.Sequential(nn.Identity(), Fails())
    with pytest.raises(RuntimeError, match="as it must"), recorded_calls(network, ["", "0", "1"]) as calls:
        network(torch.zeros(1))
    assert set(calls) == {"0"}
    assert hooks(network) == 0
    with pytest.raises(AttributeError), recorded_calls(network, ["0", "absent"]):
        pass
    assert hooks(network) == 0
